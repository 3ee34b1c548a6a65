"""Presets for claims that no published figure is about, against a table typed by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from geometry.probes.registry import PROBES
from sweeps.catalogue import describe
from tests.sweeps.test_claims import settled_by
from tests.sweeps.test_presets import plan_of

# name, scale; runs, steps per epoch, T, weights' dimension or examples, learning rate at the batch
TABLE: dict[tuple[str, str], tuple[int, int, int, float]] = {
    ("random-walk", "full"): (3, 10, 200, 0.01),
    ("random-walk", "smoke"): (2, 10, 100, 0.01),
    ("signal-and-noise", "full"): (3, 23, 920, 0.02),
    ("signal-and-noise", "smoke"): (2, 23, 92, 0.02),
}
SETTLES = {"random-walk": {"C22"}, "signal-and-noise": {"C14", "C44", "C45", "C50"}}


@pytest.mark.parametrize(("name", "scale"), TABLE)
def test_the_plan_is_the_table(name: str, scale: str) -> None:
    plan = plan_of(name, scale)
    num_runs, steps_per_epoch, num_steps, rate = TABLE[name, scale]
    assert len(plan.runs) == len(plan.trajectories) == num_runs
    assert [run.axes for run in plan.runs] == [{"seed": seed} for seed in range(num_runs)]
    for run in plan.runs:
        assert (run.steps_per_epoch, run.num_steps) == (steps_per_epoch, num_steps)
        size: Any = run.config.batch_size
        assert run.config.learning_rate.at(size) == pytest.approx(rate)
        assert run.config.needs_replay()


@pytest.mark.parametrize("name", SETTLES)
def test_they_ask_and_settle_what_no_other_preset_does(name: str, tmp_path: Path) -> None:
    assert describe(name).question.endswith("?")
    assert describe(name).scales == ("full", "smoke")
    assert settled_by(name, tmp_path) >= SETTLES[name]


# preset, scale; batches, steps from one measurement to the next
HELD_OUT = {
    ("cifar10-resnet18", "full"): (10, 100),
    ("cifar10-resnet18", "smoke"): (2, 20),
    ("imagenet-resnet50", "full"): (10, 100),
    ("imagenet-resnet50", "smoke"): (2, 20),
    ("wikitext2-transformer", "full"): (10, 100),
    ("wikitext2-transformer", "smoke"): (4, 20),
    ("vaihingen-model", "full"): (10, 100),
    ("vaihingen-model", "smoke"): (10, 20),
    ("signal-and-noise", "full"): (4, "epoch"),
    ("signal-and-noise", "smoke"): (4, "epoch"),
}
"""Presets of positive gammas: only by held-out gradients do these exceed the null model."""


@pytest.mark.parametrize(("name", "scale"), HELD_OUT)
def test_a_positive_gamma_is_measured_on_held_out_gradients_too(name: str, scale: str) -> None:
    for run in plan_of(name, scale).runs:
        (probe,) = (probe for probe in run.config.probes if probe.name == "held_out")
        options: Any = probe.typed_options()
        every = probe.every or PROBES["held_out"].default_every
        assert (options.num_batches, every) == HELD_OUT[name, scale]
        data: Any = run.config.data
        size = run.config.examples_per_step(0)
        there = getattr(data, "validation_examples", None)
        assert there is None or there >= size * options.num_batches


def test_its_training_is_the_quickstarts() -> None:
    """So that whoever ran the quickstart has its reference passes already."""
    quick = {t.trajectory_id for t in plan_of("quickstart").trajectories}
    assert {t.trajectory_id for t in plan_of("signal-and-noise").trajectories} <= quick
