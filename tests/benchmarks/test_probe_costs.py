"""What probes with gradients of their own cost beyond those gradients; what lags cost a step."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from geometry.probes.contract import Probe, ProbeContext, StepView
from geometry.probes.registry import PROBES
from geometry.surface import Batch
from tests.benchmarks.harness import PAIRS, device_name, interleaved, print_table, ratio
from tests.benchmarks.loops import BareLoop, ReplayLoop, SyntheticImages
from trainables.config import LearningRate, RunConfig
from trainables.models.contract import ModelConfig
from trainables.models.mlp import MLP
from trainables.models.resnet import ResNet18
from trainables.optimizers import Momentum
from trainables.surface import TrajectorySurface

pytestmark = pytest.mark.benchmark

NUM_BATCHES = 4
"""Probe batches of a measurement: the cost beyond the gradients is paid by each."""
LAG_STEPS = 51
"""A whole cycle of the lags probe, on a GPU; on the CPU a part with its base and four lags."""


@dataclass(frozen=True)
class Case:
    """A model, and the steps of a turn on the CPU."""

    title: str
    model: ModelConfig
    batch_size: int
    steps: int

    def config(self) -> RunConfig:
        """Momentum 0.9; the probes' work does not depend on it."""
        return RunConfig(
            data=SyntheticImages(),
            model=self.model,
            optimizer=Momentum(),
            learning_rate=LearningRate(base=0.01),
            batch_size=self.batch_size,
        )


CASES = [
    Case("ResNet-18 with CIFAR stem, batch 64", ResNet18(), batch_size=64, steps=11),
    Case(
        "MLP 3072-4096-4096-4096-10, batch 256",
        MLP(hidden=(4096, 4096, 4096)),
        batch_size=256,
        steps=11,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title.split(",")[0])
def test_probe_batches_against_their_gradients(case: Case, device: torch.device) -> None:
    replay = ReplayLoop(case.config(), device)
    surface, view = TrajectorySurface(replay.trajectory), _view(replay)
    probe = _probe_batches(replay, surface)
    cells = torch.zeros(probe.num_primitives, dtype=torch.float64, device=device)
    kept = torch.empty(NUM_BATCHES, len(view.weights), device=device)

    def gradients() -> None:
        for number in range(NUM_BATCHES):
            surface.gradient(Batch("fixed", number), view.weights, kept[number])

    def steps() -> None:
        replay.trajectory.advance(replay.trajectory.step + NUM_BATCHES)

    contestants = {
        "training steps": steps,
        "gradients": gradients,
        "probe": lambda: probe.measure(view, cells),
    }
    times = interleaved(contestants, device)
    limits = {"training steps": "", "gradients": "", "probe": "<= 1.05 of the gradients"}
    print_table(
        f"{NUM_BATCHES} probe batches: {case.title}, {device_name(device)}",
        ["what", "ms", "over the gradients", "limit"],
        [
            [
                name,
                f"{1e3 * statistics.median(times[name]):.1f}",
                ratio(times, name, "gradients").show(3),
                limit,
            ]
            for name, limit in limits.items()
        ],
        f"Medians (min..max) of {PAIRS} interleaved rounds.",
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title.split(",")[0])
def test_lags_against_the_bare_step(case: Case, device: torch.device) -> None:
    bare, measured = BareLoop(case.config(), device), ReplayLoop(case.config(), device)
    steps = LAG_STEPS if device.type == "cuda" else case.steps
    rivals = {
        name: measured.measurement(probes)
        for name, probes in {"path": ["path"], "path and lags": ["path", "lags"]}.items()
    }
    contestants = {
        "bare": lambda: bare.advance(steps),
        **{
            name: lambda measurement=measurement: measured.advance(steps, [measurement])
            for name, measurement in rivals.items()
        },
    }
    times = interleaved(contestants, device)
    limits = {"bare": "", "path": "", "path and lags": "<= 1.05 of path"}
    print_table(
        f"Lags: {case.title}, {device_name(device)}",
        ["what", "ms per step", "over bare", "over path", "limit"],
        [
            [
                name,
                f"{1e3 * statistics.median(times[name]) / steps:.2f}",
                ratio(times, name, "bare").show(3),
                ratio(times, name, "path").show(3),
                limit,
            ]
            for name, limit in limits.items()
        ],
        f"Medians (min..max) of {PAIRS} interleaved rounds of {steps} steps.",
    )


def _view(replay: ReplayLoop) -> StepView:
    weights: Tensor = replay.trajectory.flat.weights
    return StepView(0, weights, replay.trajectory.flat.gradients, weights[:0], 0.01, 0.0, None)


def _probe_batches(replay: ReplayLoop, surface: TrajectorySurface) -> Probe:
    cls = PROBES["probe_batches"]
    context = ProbeContext(
        replay.trajectory.flat.layout, replay.reducer, replay.reference, surface=surface
    )
    options = cls.options_type(num_batches=NUM_BATCHES)  # type: ignore[call-arg]
    return cls(context, options)
