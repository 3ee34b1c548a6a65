"""What the correlation probe costs: a step with it against the bare training step."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from tests.benchmarks.harness import PAIRS, device_name, interleaved, print_table, ratio
from tests.benchmarks.loops import BareLoop, ReplayLoop, SyntheticImages
from trainables.config import LearningRate, RunConfig
from trainables.models.contract import ModelConfig
from trainables.models.mlp import MLP
from trainables.models.resnet import ResNet18
from trainables.optimizers import Momentum

pytestmark = pytest.mark.benchmark

PROBES: dict[str, dict[str, Any]] = {
    "correlation, h = 5": {"name": "correlation", "window": 5},
    "the mean alone": {"name": "correlation", "window": 5, "mean_only": True},
    "kept as bf16": {"name": "correlation", "window": 5, "keep_as": "bf16"},
    "sign shift": {"name": "sign_shift", "window": 5},
}
"""The first has a limit; the others are what else can be asked for."""


@dataclass(frozen=True)
class Case:
    """A model to step, and the ratio to reach."""

    title: str
    model: ModelConfig
    batch_size: int
    steps: int
    """Steps per turn on the CPU: about a second, on two cores."""
    limit: str

    def config(self) -> RunConfig:
        """Momentum 0.9, as the bare loop has it; the probe's work does not depend on it."""
        return RunConfig(
            data=SyntheticImages(),
            model=self.model,
            optimizer=Momentum(),
            learning_rate=LearningRate(base=0.01),
            batch_size=self.batch_size,
        )


CASES = [
    Case("ResNet-18 with CIFAR stem, batch 64", ResNet18(), batch_size=64, steps=1, limit="1.05"),
    Case(
        "MLP 3072-4096-4096-4096-10, batch 256",
        MLP(hidden=(4096, 4096, 4096)),
        batch_size=256,
        steps=2,
        limit="1.15",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title.split(",")[0])
def test_correlation_overhead(case: Case, device: torch.device) -> None:
    bare, measured = BareLoop(case.config(), device), ReplayLoop(case.config(), device)
    steps = bare.task.steps_per_epoch if device.type == "cuda" else case.steps
    rivals = {name: measured.measurement([probe]) for name, probe in PROBES.items()}
    contestants = {
        "bare": lambda: bare.advance(steps),
        **{
            name: lambda measurement=measurement: measured.advance(steps, [measurement])
            for name, measurement in rivals.items()
        },
    }
    times = interleaved(contestants, device)
    milliseconds = {name: f"{1e3 * statistics.median(t) / steps:.2f}" for name, t in times.items()}
    limits = dict.fromkeys(PROBES, "-") | {"correlation, h = 5": f"<= {case.limit}"}
    print_table(
        f"Correlation against the bare training step: {case.title}, {device_name(device)}",
        ["measured", "ms per step", "ratio", "limit"],
        [
            ["nothing (bare)", milliseconds["bare"], "1", ""],
            *(
                [name, milliseconds[name], ratio(times, name, "bare").show(3), limit]
                for name, limit in limits.items()
            ),
        ],
        f"Medians (min..max) of {PAIRS} interleaved rounds of {steps} steps.",
    )
