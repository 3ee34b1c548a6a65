"""How long 60,000 image files take: decoded into the cache, started again, streamed from disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.benchmarks.harness import CHECKOUT, Spread, interleaved, print_table, run_python, seconds
from trainables.config import RunConfig
from trainables.data.cifar10 import CIFAR10
from trainables.data.image_stream import ImageStream
from trainables.data.prefetch import DECODERS_VARIABLE
from trainables.tasks.images import ImageTask

pytestmark = pytest.mark.benchmark

PER_CLASS = {"train": 5000, "test": 1000}

START = "from pathlib import Path; from trainables.data.cifar10 import CIFAR10; import time; \
start = time.perf_counter(); CIFAR10().load(Path()); print(time.perf_counter() - start)"
"""What a started process does with data that are in the cache; prints its own seconds."""

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree of 60,000 JPEGs of 32x32 pixels in the classes of CIFAR-10."""
    folder = tmp_path_factory.mktemp("images")
    coarse = np.random.default_rng(6).integers(0, 256, (500, 8, 8, 3), dtype=np.uint8)
    for part, count in PER_CLASS.items():
        for name in CIFAR10.class_names:
            (folder / "cifar10" / part / name).mkdir(parents=True)
            for i in range(count):
                image = Image.fromarray(coarse[i % 500]).resize((32, 32))
                image.save(folder / "cifar10" / part / name / f"{i:04}.jpg")
    return folder


def test_decoding_and_starting_again(root: Path) -> None:
    decoding = seconds(lambda: CIFAR10().load(root), CPU)
    again = [float(run_python(["-c", START], root).stdout) for _ in range(5)]
    spread = Spread.of(again)
    print_table(
        "60,000 JPEGs of 32x32 in 20 folders",
        ["what", "seconds", "limit"],
        [
            ["listed, decoded and written", f"{decoding:.1f}", "< 90"],
            ["loaded by another process", spread.show(), "< 1"],
        ],
        f"Files in {root}; the second without imports ({CHECKOUT.name}).",
    )


@contextmanager
def decoders(number: int) -> Iterator[None]:
    """Bind tasks with so many decoding threads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(DECODERS_VARIABLE, str(number))
        yield


def test_streaming(root: Path) -> None:
    config = RunConfig(data=ImageStream(path="cifar10", size=32, resize=36), batch_size=256)
    tasks: dict[str, ImageTask] = {}
    for number in (0, 1, 2):
        with decoders(number):
            task = config.task.bind(config, root, CPU)
        assert isinstance(task, ImageTask)
        tasks[f"{number} decoders"] = task
    times = interleaved(
        {
            name: lambda task=task: [task.minibatch(k) for k in range(20)]  # type: ignore[misc]
            for name, task in tasks.items()
        }
    )
    rows = [
        [name, Spread.of([20 * 256 / second for second in values]).show(0)]
        for name, values in times.items()
    ]
    print_table(
        "Images of 32x32 a second, decoded, cropped and mirrored from disk",
        ["threads", "images/s"],
        rows,
        "Twenty minibatches of 256 in order; no training beside it.",
    )
