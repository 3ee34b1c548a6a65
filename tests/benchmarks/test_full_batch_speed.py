"""What a full-batch step costs beside its chunks' forward and backward passes, by chunk."""

from __future__ import annotations

import copy
import statistics

import pytest
import torch

from tests.benchmarks.harness import PAIRS, device_name, interleaved, print_table, ratio
from tests.benchmarks.loops import NUM_TRAIN, ReplayLoop, SyntheticImages
from trainables.config import LearningRate, RunConfig
from trainables.full_batch import chunks
from trainables.models.cnn import CNN
from trainables.optimizers import SGD
from trainables.tasks.contract import ExampleTask

pytestmark = pytest.mark.benchmark

LIMIT = "<= 1.02"


def config(chunk: int) -> RunConfig:
    """Full-batch gradient descent of a small CNN, as P2 does it with a larger one."""
    return RunConfig(
        data=SyntheticImages(),
        model=CNN(channels=(8, 16, 32), hidden=(64,)),
        optimizer=SGD(),
        learning_rate=LearningRate(base=0.01),
        batch_size="full",
        chunk=chunk,
    )


class ChunksAlone:
    """Forward and backward passes of the same chunks, and nothing else."""

    def __init__(self, loop: ReplayLoop, chunk: int) -> None:
        task = loop.trajectory.task
        assert isinstance(task, ExampleTask)
        self._task = task
        self._model = copy.deepcopy(loop.trajectory.model)
        self._chunks = chunks(NUM_TRAIN, chunk)

    def step(self) -> None:
        """All chunks once; gradients add up."""
        for part in self._chunks:
            self._task.loss_on(self._model, "train", part).backward()  # type: ignore[no-untyped-call]


def test_full_batch_step(device: torch.device) -> None:
    rows = []
    for chunk in (128, 512, 2048):
        loop = ReplayLoop(config(chunk), device)
        alone = ChunksAlone(loop, chunk)
        contestants = {"chunks": alone.step, "step": lambda loop=loop: loop.advance(1, [])}
        times = interleaved(contestants, device)
        seconds = {name: f"{statistics.median(t):.3f}" for name, t in times.items()}
        step = ratio(times, "step", "chunks").show(3)
        rows.append([str(chunk), seconds["chunks"], seconds["step"], step, LIMIT])
    print_table(
        f"A full-batch step of {NUM_TRAIN} images against its chunks alone, {device_name(device)}",
        ["chunk", "chunks, s", "step, s", "ratio", "limit"],
        rows,
        f"Medians (min..max) of {PAIRS} interleaved rounds of one step.",
    )
