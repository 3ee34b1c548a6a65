"""What measuring costs: the replay step against the bare training step, and the authors' way."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch

from tests.benchmarks.harness import PAIRS, device_name, interleaved, print_table, ratio
from tests.benchmarks.loops import AuthorsLoop, BareLoop, ReplayLoop, SyntheticImages
from trainables.config import LearningRate, RunConfig
from trainables.models.contract import ModelConfig
from trainables.models.mlp import MLP
from trainables.models.resnet import ResNet18
from trainables.optimizers import Momentum

pytestmark = pytest.mark.benchmark

PROBES = {
    "path": ("path",),
    "path, update": ("path", "update"),
    "path, update, decay": ("path", "update", "weight_decay"),
}
"""The last measures what the authors' way measures; it has no limit."""


@dataclass(frozen=True)
class Case:
    """A model to step, and the ratios to reach."""

    title: str
    model: ModelConfig
    batch_size: int
    steps: int
    """Steps per turn on the CPU: about a second, on two cores."""
    limits: dict[str, str]
    rounds: int = PAIRS

    def config(self) -> RunConfig:
        """P1's CIFAR-10 setting: momentum 0.9, learning rate 0.01, weight decay 1e-6."""
        return RunConfig(
            data=SyntheticImages(),
            model=self.model,
            optimizer=Momentum(weight_decay=1e-6),
            learning_rate=LearningRate(base=0.01),
            batch_size=self.batch_size,
        )


def limits(path: str, update: str, authors: str) -> dict[str, str]:
    """The issue's limits on the ratios; the authors' column is what was found before."""
    return {
        "path": f"<= {path}",
        "path, update": f"<= {update}",
        "path, update, decay": "-",
        "authors' way": f"({authors} found)",
    }


CASES = [
    Case(
        "MLP 3072-100-100-100-10, batch 256",
        MLP(hidden=(100, 100, 100)),
        batch_size=256,
        steps=40,
        limits=limits("1.10", "1.20", "1.55"),
        rounds=3 * PAIRS,
    ),
    Case(
        "MLP 3072-4096-4096-4096-10, batch 256",
        MLP(hidden=(4096, 4096, 4096)),
        batch_size=256,
        steps=2,
        limits=limits("1.12", "1.20", "2.75"),
    ),
    Case(
        "ResNet-18 with CIFAR stem, batch 64",
        ResNet18(),
        batch_size=64,
        steps=1,
        limits=limits("1.02", "1.03", "1.10"),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title.split(",")[0])
def test_step_overhead(case: Case, device: torch.device) -> None:
    bare = BareLoop(case.config(), device)
    steps = bare.task.steps_per_epoch if device.type == "cuda" else case.steps
    contestants = {"bare": lambda: bare.advance(steps), **_rivals(case, device, steps)}
    times = interleaved(contestants, device, rounds=case.rounds)
    milliseconds = {name: f"{1e3 * statistics.median(t) / steps:.2f}" for name, t in times.items()}
    print_table(
        f"Step against the bare training step: {case.title}, {device_name(device)}",
        ["measured", "ms per step", "ratio", "limit"],
        [
            ["nothing (bare)", milliseconds["bare"], "1", ""],
            *(
                [name, milliseconds[name], ratio(times, name, "bare").show(3), limit]
                for name, limit in case.limits.items()
            ),
        ],
        f"Medians (min..max) of {case.rounds} interleaved rounds of {steps} steps.",
    )


def _rivals(case: Case, device: torch.device, steps: int) -> dict[str, Callable[[], None]]:
    authors, replay = AuthorsLoop(case.config(), device), ReplayLoop(case.config(), device)
    measurements = {name: replay.measurement(probes) for name, probes in PROBES.items()}
    ours = {
        name: lambda measurement=measurement: replay.advance(steps, [measurement])
        for name, measurement in measurements.items()
    }
    return {**ours, "authors' way": lambda: authors.advance(steps)}
