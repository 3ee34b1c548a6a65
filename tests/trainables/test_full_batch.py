"""Full-batch steps: exact whatever the chunks, in order, clean; their loss and their gradient."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainables.activations import example_bytes
from trainables.config import RunConfig
from trainables.errors import UserError
from trainables.full_batch import CHUNK_BYTES, auto_chunk, chunks
from trainables.job import Progress
from trainables.store import Store, read_table
from trainables.tasks.contract import ExampleTask
from trainables.trajectory import Trajectory

Tiny = Callable[..., RunConfig]
Build = Callable[[RunConfig], Trajectory]
Finish = Callable[..., list[Progress]]

CNN = {"name": "cnn", "channels": [4, 8], "hidden": [8]}
PADDED = {"name": "digits", "train_examples": 96, "validation_examples": 20, "crop_padding": 1}
FULL: dict[str, Any] = {"batch_size": "full", "chunk": 96, "data": {**PADDED, "flip": True}}
"""Digits with an augmentation that a full batch must leave out."""


def first_gradient(built: Trajectory) -> Tensor:
    """G_0, and the trajectory after its step."""
    built.advance(1)
    return built.flat.gradients.clone()


@pytest.mark.parametrize("model", ["mlp", CNN])
@pytest.mark.parametrize("chunk", [1, 7, 40, 95])
def test_chunks_do_not_change_the_gradient_without_batch_statistics(
    tiny: Tiny, trajectory: Build, model: Any, chunk: int
) -> None:
    whole = first_gradient(trajectory(tiny(**FULL, model=model)))
    parts = first_gradient(trajectory(tiny(**{**FULL, "chunk": chunk}, model=model)))
    assert float((whole - parts).norm() / whole.norm()) < 1e-6


def test_it_is_the_gradient_of_the_mean_loss_over_the_clean_examples_in_order(
    tiny: Tiny, trajectory: Build
) -> None:
    built = trajectory(tiny(**{**FULL, "chunk": 40}, model=CNN))
    task = built.task
    assert isinstance(task, ExampleTask)
    plain = task.build_model()
    plain.load_state_dict(built.model.state_dict())
    task.loss_on(plain, "train", slice(0, 96)).backward()
    layout, expected = built.flat.layout, torch.zeros_like(built.flat.gradients)
    for name, parameter in plain.named_parameters():
        assert parameter.grad is not None
        segment = next(s for s in layout.segments if s.name == name)
        segment.view(expected).copy_(parameter.grad)
    gradient = first_gradient(built)
    assert float((gradient - expected).norm() / expected.norm()) < 1e-6


def test_a_step_is_an_epoch_and_every_step_sees_the_same_examples(
    tiny: Tiny, store: Store, finish: Finish
) -> None:
    """The recorded loss of every step is the training loss that the evaluation finds at w_t."""
    finish(store, a=tiny(**{**FULL, "chunk": 40}, budget={"epochs": 4}))
    manifest = store.run("a").manifest()
    assert manifest is not None
    assert (manifest["steps_per_epoch"], manifest["num_steps"]) == (1, 4)
    assert manifest["replay_exact"] is True
    steps, epochs = (
        read_table(store.run("a").path / f"{name}.parquet") for name in ("steps", "epochs")
    )
    assert steps["epoch"].tolist() == [0, 1, 2, 3]
    assert steps["loss"].tolist()[1:] == pytest.approx(epochs["train_loss"].tolist()[:-1], rel=1e-6)


def test_batch_statistics_are_those_of_a_chunk(tiny: Tiny, trajectory: Build) -> None:
    """With batch normalisation the chunking is part of the objective, and of the trajectory."""

    def loss(model: nn.Module, task: ExampleTask, part: slice) -> Tensor:
        return task.loss_on(model, "train", part)

    options = {**FULL, "model": {**CNN, "batch_norm": True}}
    built = trajectory(tiny(**{**options, "chunk": 40}))
    task = built.task
    assert isinstance(task, ExampleTask)
    plain = task.build_model()
    plain.load_state_dict(built.model.state_dict())
    parts = [slice(0, 32), slice(32, 64), slice(64, 96)]
    mean = torch.stack([loss(plain, task, part) for part in parts]).mean()
    mean.backward()
    gradient = first_gradient(built)
    total = sum(
        float(p.grad.double().square().sum()) for p in plain.parameters() if p.grad is not None
    )
    assert float(gradient.double().square().sum()) == pytest.approx(total, rel=1e-5)
    whole = first_gradient(trajectory(tiny(**options)))
    assert float((gradient - whole).norm() / whole.norm()) > 1e-3
    running = dict(built.model.named_buffers())
    for name, buffer in plain.named_buffers():
        torch.testing.assert_close(buffer, running[name])


def test_dropout_differs_between_chunks_and_repeats_with_the_step(
    tiny: Tiny, trajectory: Build
) -> None:
    config = tiny(**{**FULL, "chunk": 48}, model={"name": "mlp", "hidden": [8], "dropout": 0.5})
    one, other = trajectory(config), trajectory(config)
    one.advance(3)
    other.advance(1)
    torch.rand(5)
    other.advance(3)
    assert one.fingerprint() == other.fingerprint()


@pytest.mark.parametrize(
    ("num_examples", "at_most", "sizes"),
    [(96, 96, [96]), (96, 95, [48, 48]), (96, 40, [32] * 3), (10, 4, [3, 3, 4]), (3, 1, [1, 1, 1])],
)
def test_chunks_are_as_equal_as_can_be(num_examples: int, at_most: int, sizes: list[int]) -> None:
    parts = chunks(num_examples, at_most)
    assert [part.stop - part.start for part in parts] == sizes
    assert [i for part in parts for i in range(part.start, part.stop)] == list(range(num_examples))


def test_the_automatic_chunk_is_what_fits() -> None:
    assert auto_chunk(CHUNK_BYTES // 1000, 50_000) == 1000
    assert auto_chunk(CHUNK_BYTES // 1000, 1500) == 750  # two equal chunks, not 1000 and 500
    assert auto_chunk(1, 1500) == 1500
    assert auto_chunk(2 * CHUNK_BYTES, 3) == 1
    for fit in (700, 999, 1000):
        chunk = auto_chunk(CHUNK_BYTES // fit, 4321)
        assert chunk <= fit
        assert len(chunks(4321, chunk)) == -(-4321 // fit)


def test_kept_bytes_are_counted_without_the_weights() -> None:
    """Linear keeps its input, ReLU its output: 4 (5 + 7 + 7) bytes, whatever the weights take."""

    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3))

    assert example_bytes(build, (5,)) == 4 * (5 + 7 + 7)


def test_it_is_refused_where_it_cannot_be(tiny: Tiny, trajectory: Build) -> None:
    with pytest.raises(UserError, match="chunk: auto is chosen when a sweep is planned; give a"):
        trajectory(tiny(**{**FULL, "chunk": "auto"}))
    with pytest.raises(
        UserError, match="chunk: 97 is larger than the 96 training examples of digi"
    ):
        trajectory(tiny(**{**FULL, "chunk": 97}))
    with pytest.raises(UserError, match=r"batch_size: .*integer.*, got 'all'; or write full"):
        tiny(batch_size="all")


def test_the_learning_rate_rule_takes_all_examples(tiny: Tiny, trajectory: Build) -> None:
    rate = {"base": 0.1, "rule": "linear", "reference_batch_size": 32}
    assert trajectory(tiny(**FULL, learning_rate=rate)).learning_rate(0) == pytest.approx(0.3)


def test_the_loss_of_chosen_examples_is_the_mean_of_their_losses(
    tiny: Tiny, tmp_path: Path
) -> None:
    config = tiny(model=CNN)
    task = config.task.bind(config, tmp_path, torch.device("cpu"))
    assert isinstance(task, ExampleTask)
    model = task.build_model().eval()
    assert task.num_examples("validation") == 20
    chosen = torch.tensor([3, 17, 3])
    each = [task.loss_on(model, "validation", slice(i, i + 1)) for i in (3, 17, 3)]
    together = task.loss_on(model, "validation", chosen)
    torch.testing.assert_close(together, torch.stack(each).mean())
    whole = task.loss_on(model, "train", slice(0, 96))
    assert whole.item() == pytest.approx(task.evaluate(model, "train")["loss"], rel=1e-6)
