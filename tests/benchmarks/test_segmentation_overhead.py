"""What measuring costs in segmentation: the replay step against the bare training step."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from tests.benchmarks.harness import PAIRS, device_name, interleaved, print_table, ratio
from tests.benchmarks.loops import ReplayLoop
from trainables.config import LearningRate, RunConfig
from trainables.data.contract import SplitSizes
from trainables.data.tiles import Tile, TileData, TilesConfig
from trainables.data.tiles_files import CLASSES, TileFolder
from trainables.models.contract import ModelConfig
from trainables.models.segnet import SegNet
from trainables.models.unet import UNet
from trainables.optimizers import Momentum
from trainables.randomness import seeded
from trainables.tasks.segmentation import Segmentation

pytestmark = pytest.mark.benchmark

PROBES = {"path": ("path",), "path, update": ("path", "update")}

LIMITS = {"unet": "<= 1.05", "segnet": "-"}
"""Issue 3; it names no limit for SegNet."""

STEPS = {"cpu": 1, "cuda": 50}
"""Steps per turn: some seconds on two cores."""


class SyntheticTiles(TilesConfig):
    """Two drawn tiles of about Vaihingen's size."""

    name: ClassVar[str] = "synthetic_tiles"
    licence: ClassVar[str] = "none needed"
    citation: ClassVar[str] = "none"

    def folder(self, root: Path) -> TileFolder:
        """Nowhere: nothing is read."""
        return TileFolder(root)

    def sizes(self, root: Path) -> SplitSizes:
        """Vaihingen's patches per epoch; one tile validates, which no benchmark does."""
        return SplitSizes(self.train_examples, 1, 0)

    def load(self, root: Path) -> TileData:
        """The drawn tiles."""
        draw = np.random.default_rng(0)
        pixels = draw.integers(256, size=(2500, 2000, 3), dtype=np.uint8)
        classes = draw.integers(len(CLASSES), size=(2500, 2000), dtype=np.uint8)
        tiles = (Tile(pixels, classes),)
        return TileData(
            digest="drawn", train=tiles, validation=tiles, test=(), class_names=tuple(CLASSES)
        )


def p1s_config(model: ModelConfig) -> RunConfig:
    """P1's segmentation setting: ten patches of 256x256, momentum 0.9, weight decay 1e-5."""
    return RunConfig(
        task=Segmentation(),
        data=SyntheticTiles(),
        model=model,
        optimizer=Momentum(weight_decay=1e-5),
        learning_rate=LearningRate(base=0.01),
        batch_size=10,
    )


class BareLoop:
    """The plain loop over the same minibatches with the same loss, per-tensor parameters."""

    def __init__(self, config: RunConfig, device: torch.device) -> None:
        self.task = config.task.bind(config, Path(), device)
        with seeded(config.seed_for("init"), "init"):
            self.model = self.task.build_model().to(device)
        if config.channels_last():
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = torch.optim.SGD(
            self.model.parameters(),
            lr=config.learning_rate.base,
            momentum=0.9,
            weight_decay=config.optimizer.weight_decay,
        )
        self.step = 0

    def advance(self, num_steps: int) -> None:
        """Take so many steps."""
        for _ in range(num_steps):
            self.optimizer.zero_grad()
            self.task.loss(self.model, self.step).backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            self.step += 1


@pytest.mark.parametrize("model", [UNet(), SegNet()], ids=lambda model: model.name)
def test_segmentation_step_overhead(model: ModelConfig, device: torch.device) -> None:
    steps = STEPS[device.type]
    bare, replay = BareLoop(p1s_config(model), device), ReplayLoop(p1s_config(model), device)
    measurements = {name: replay.measurement(probes) for name, probes in PROBES.items()}
    ours = {
        name: lambda measurement=measurement: replay.advance(steps, [measurement])
        for name, measurement in measurements.items()
    }
    times = interleaved({"bare": lambda: bare.advance(steps), **ours}, device)
    milliseconds = {name: f"{1e3 * statistics.median(t) / steps:.0f}" for name, t in times.items()}
    print_table(
        f"Step against the bare training step: {model.name}, ten patches of 256x256, "
        f"{device_name(device)}",
        ["measured", "ms per step", "ratio", "limit"],
        [
            ["nothing (bare)", milliseconds["bare"], "1", ""],
            *(
                [name, milliseconds[name], ratio(times, name, "bare").show(3), LIMITS[model.name]]
                for name in PROBES
            ),
        ],
        f"Medians (min..max) of {PAIRS} interleaved rounds of {steps} steps.",
    )
