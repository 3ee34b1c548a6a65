"""Image classification from disk: the same bytes whoever decodes them, replayed bit for bit."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainables.data.test_image_stream import write_jpegs
from trainables.config import RunConfig
from trainables.errors import UserError
from trainables.job import Progress
from trainables.store import Store, read_table
from trainables.tasks.streamed import StreamedTask

REAL = Path(os.environ.get("OPTPATH_TEST_DATA", Path(__file__).parents[2].parent / "shared/data"))

CPU = torch.device("cpu")

DATA = {"name": "image_stream", "path": "tree", "size": 32, "resize": 36}


def streamed(data: dict[str, Any] | None = None, **options: Any) -> RunConfig:
    """Two epochs of four steps on twelve small images."""
    defaults: dict[str, Any] = {
        "model": {"name": "resnet18", "width": 1 / 16},
        "batch_size": 3,
        "budget": {"epochs": 2},
        "learning_rate": 0.01,
    }
    return RunConfig.parse({**defaults, "data": {**DATA, **(data or {})}, **options})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data folder with a small tree of JPEGs in ImageNet's layout."""
    write_jpegs(tmp_path / "tree")
    return tmp_path


def bound(config: RunConfig, root: Path) -> StreamedTask:
    task = config.task.bind(config, root, CPU)
    assert isinstance(task, StreamedTask)
    return task


def epoch_bytes(task: StreamedTask, epoch: int, start: int = 0) -> list[str]:
    """A hash of every minibatch of an epoch, from step `start` of it on."""
    steps = range(epoch * task.steps_per_epoch + start, (epoch + 1) * task.steps_per_epoch)
    return [
        hashlib.sha256(images.numpy().tobytes() + labels.numpy().tobytes()).hexdigest()
        for images, labels in map(task.minibatch, steps)
    ]


@pytest.fixture
def with_decoders(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets the number of decoding threads of tasks that are bound from then on."""
    return lambda number: monkeypatch.setenv("OPTPATH_DECODERS", str(number))


def test_an_epoch_is_the_same_bytes_with_0_1_and_3_decoders_and_from_its_middle(
    root: Path, with_decoders: Callable[[int], None]
) -> None:
    config = streamed()
    with_decoders(0)
    first, second = (epoch_bytes(bound(config, root), epoch) for epoch in (0, 1))
    assert len(set(first + second)) == 8
    for decoders in (0, 1, 3):
        with_decoders(decoders)
        task = bound(config, root)
        assert epoch_bytes(task, 0) + epoch_bytes(task, 1) == first + second
        assert epoch_bytes(bound(config, root), 1, start=2) == second[2:]


@pytest.mark.parametrize("name", ["augmentation", "data_order"])
def test_another_seed_is_another_epoch(name: str, root: Path) -> None:
    first, other = (epoch_bytes(bound(streamed(seeds={name: seed}), root), 0) for seed in (1, 2))
    assert not set(first) & set(other)


def test_augmentation_belongs_to_the_image_and_not_to_its_place_in_the_epoch(root: Path) -> None:
    one, other = (
        bound(streamed(seeds={"augmentation": 1, "data_order": seed}), root) for seed in (1, 2)
    )

    def images(task: StreamedTask) -> set[bytes]:
        minibatches = [task.minibatch(step)[0] for step in range(4)]
        return {image.numpy().tobytes() for batch in minibatches for image in batch}

    assert images(one) == images(other)
    assert len(images(one)) == 12


def test_the_replay_equals_the_reference_pass(
    root: Path,
    store: Store,
    finish: Callable[..., list[Progress]],
    with_decoders: Callable[[int], None],
) -> None:
    with_decoders(3)
    finish(store, a=streamed())
    manifest = store.run("a").manifest()
    assert manifest is not None
    assert (manifest["status"], manifest["replay_exact"]) == ("done", True)
    assert {"last_train_accuracy", "last_validation_accuracy"} <= set(manifest["metrics"])
    assert len(read_table(store.run("a").path / "steps.parquet")) == 8


def test_evaluation_looks_at_the_middle_of_every_image_or_of_as_many_as_asked_for(
    root: Path,
) -> None:
    task = bound(streamed(), root)
    model = task.build_model()
    values = task.evaluate(model, "validation")
    losses = [
        task.loss_on(model.eval(), "validation", torch.tensor([index])).item()
        for index in range(12)
    ]
    assert values["loss"] == pytest.approx(sum(losses) / 12, rel=1e-5)
    few = bound(streamed({"evaluated_train_examples": 5}), root)
    losses = [few.loss_on(model, "train", slice(index, index + 1)).item() for index in range(5)]
    assert few.evaluate(model, "train")["loss"] == pytest.approx(sum(losses) / 5, rel=1e-5)
    assert few.num_examples("train") == 12


def test_noisy_inputs_keep_nothing_of_the_image(root: Path) -> None:
    task = bound(streamed({"input_noise": "gaussian"}), root)
    images, _ = task.minibatch(0)
    assert abs(images.mean().item()) < 0.1
    clean, _ = task.clean("train", slice(0, 2))
    assert not torch.equal(clean[0], clean[1])


@pytest.mark.parametrize("decoders", [0, 3])
def test_a_truncated_jpeg_ends_the_run_with_its_name(
    decoders: int,
    root: Path,
    store: Store,
    finish: Callable[..., list[Progress]],
    with_decoders: Callable[[int], None],
) -> None:
    with_decoders(decoders)
    file = root / "tree/train/n01443537/n01443537_3.JPEG"
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(UserError, match=rf"{file}: corrupt image \(.*truncated.*\); replace") as e:
        finish(store, a=streamed())
    assert "\n" not in str(e.value)
    assert store.run("a").manifest() is None


def test_real_photographs_go_through_imagenets_pipeline(
    tmp_path: Path, store: Store, finish: Callable[..., list[Progress]]
) -> None:
    archive = REAL / "cifar10-jpeg.zip"
    if not archive.is_file():
        pytest.skip(f"no cifar10-jpeg.zip in {REAL}; set OPTPATH_TEST_DATA to its folder")
    with zipfile.ZipFile(archive) as content:
        names = [name for name in content.namelist() if name.endswith(".jpg")]
        content.extractall(tmp_path / "cifar10-jpeg", names[:: len(names) // 100])
    data = {"path": "cifar10-jpeg", "validation_fraction": 0.2}
    finish(store, a=streamed(data, batch_size=8, budget={"steps": 6}))
    manifest = store.run("a").manifest()
    assert manifest is not None
    assert manifest["replay_exact"] is True
