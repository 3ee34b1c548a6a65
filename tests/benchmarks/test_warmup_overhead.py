"""What following the gradients costs: GAWU's warm-up against the same steps of a fixed one."""

from __future__ import annotations

import statistics

import pytest
import torch

from tests.benchmarks.harness import PAIRS, device_name, interleaved, print_table, ratio
from tests.benchmarks.loops import ReplayLoop, SyntheticImages
from trainables.config import LearningRate, RunConfig
from trainables.models.contract import ModelConfig
from trainables.models.mlp import MLP
from trainables.models.resnet import ResNet18
from trainables.optimizers import SGD
from trainables.schedules.contract import ScheduleConfig
from trainables.schedules.warmup import GAWU, WU

pytestmark = pytest.mark.benchmark

NEVER = 10**6
"""A change point that no benchmark reaches; a window so long keeps GAWU from finding one."""
FLAT = 1e-15
"""An omega that leaves the learning rate where it is, so that nothing diverges."""

FIXED = WU(change_point=NEVER, omega=FLAT)
ADAPTED = GAWU(window=NEVER, latest_change_point=NEVER, omega=FLAT)

CASES = [
    pytest.param(ResNet18(), 64, 1, "<= 1.03", id="ResNet-18 with CIFAR stem, batch 64"),
    pytest.param(MLP(hidden=(4096,) * 3), 256, 2, "-", id="MLP 3072-4096-4096-4096-10, batch 256"),
]


def loop(
    schedule: ScheduleConfig, model: ModelConfig, batch_size: int, device: torch.device
) -> ReplayLoop:
    """A trajectory under that schedule, P2's SGD."""
    config = RunConfig(
        data=SyntheticImages(),
        model=model,
        optimizer=SGD(),
        schedule=schedule,
        learning_rate=LearningRate(base=1e-3),
        batch_size=batch_size,
    )
    return ReplayLoop(config, device)


@pytest.mark.parametrize(("model", "batch_size", "steps", "limit"), CASES)
def test_warm_up_overhead(
    request: pytest.FixtureRequest,
    device: torch.device,
    model: ModelConfig,
    batch_size: int,
    steps: int,
    limit: str,
) -> None:
    fixed, adapted = (loop(schedule, model, batch_size, device) for schedule in (FIXED, ADAPTED))
    contestants = {
        "fixed": lambda: fixed.advance(steps, []),
        "gawu": lambda: adapted.advance(steps, []),
    }
    times = interleaved(contestants, device)
    milliseconds = {name: f"{1e3 * statistics.median(t) / steps:.2f}" for name, t in times.items()}
    print_table(
        f"A warm-up step with GAWU: {request.node.callspec.id}, {device_name(device)}",
        ["schedule", "ms per step", "ratio", "limit"],
        [
            ["fixed warm-up", milliseconds["fixed"], "1", ""],
            [
                "GAWU, before its change point",
                milliseconds["gawu"],
                ratio(times, "gawu", "fixed").show(3),
                limit,
            ],
        ],
        f"Medians (min..max) of {PAIRS} interleaved rounds of {steps} steps. After the change "
        "point GAWU does nothing more.",
    )
