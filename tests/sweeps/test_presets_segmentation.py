"""The segmentation presets against a table typed by hand (INVENTORY B and C; P1 A.3 and A.4)."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from sweeps.catalogue import describe, load_spec
from sweeps.plan import Plan, PlannedRun, make_plan
from tests.trainables.trainings import training

NAMES = ["vaihingen-budget", "vaihingen-model"]

WEIGHTS = {"unet": 7_763_206, "segnet": 29_446_470}

# name, scale, variant; runs, trajectories, epochs, steps per epoch, T per budget, decay follows
TABLE = [
    ("vaihingen-model", "full", None, 6, 6, [26], 1000, [26_000], True),
    ("vaihingen-model", "full", "lr-only", 6, 6, [26], 1000, [26_000], False),
    ("vaihingen-budget", "full", None, 12, 6, [26, 50], 1000, [26_000, 50_000], False),
    ("vaihingen-model", "smoke", None, 4, 4, [26], 7, [182], True),
    ("vaihingen-model", "smoke", "lr-only", 4, 4, [26], 7, [182], False),
    ("vaihingen-budget", "smoke", None, 8, 4, [26, 50], 4, [104, 200], False),
]

TRAIN = (1, 3, 5, 7, 11, 13, 15, 17, 21, 23, 26)
VALIDATION = (28, 30, 32, 34, 37)


@cache
def plan_of(name: str, scale: str, variant: str | None = None) -> Plan:
    """The plan without any file: every epoch has the patches that are asked for."""
    spec = load_spec(name, scale=scale, variant=variant)

    def patches(config: Any, root: Path) -> int:
        return int(config.data.train_examples)

    return make_plan(spec, Path("unused"), num_train=patches)


def every_run() -> list[tuple[str, PlannedRun]]:
    keys = [(row[0], row[1], row[2]) for row in TABLE]
    return [(scale, run) for name, scale, v in keys for run in plan_of(name, scale, v).runs]


def test_the_table_has_every_variant_and_scale() -> None:
    offered = {
        (name, scale, variant)
        for name in NAMES
        for scale in describe(name).scales
        for variant in (None, *describe(name).variants)
    }
    assert {(row[0], row[1], row[2]) for row in TABLE} == offered


@pytest.mark.parametrize(
    ("name", "scale", "variant", "runs", "trajectories", "epochs", "per_epoch", "steps", "decays"),
    TABLE,
)
def test_a_plan_has_the_runs_and_steps_of_the_table(
    name: str,
    scale: str,
    variant: str | None,
    runs: int,
    trajectories: int,
    epochs: list[int],
    per_epoch: int,
    steps: list[int],
    decays: bool,
) -> None:
    plan = plan_of(name, scale, variant)
    assert (len(plan.runs), len(plan.trajectories)) == (runs, trajectories)
    assert sorted({run.config.budget.epochs or 0 for run in plan.runs}) == epochs
    assert {run.steps_per_epoch for run in plan.runs} == {per_epoch}
    assert sorted({run.num_steps for run in plan.runs}) == steps
    schedules: list[Any] = [run.config.schedule for run in plan.runs]
    assert {schedule.weight_decay for schedule in schedules} == {decays}
    for model in ("unet", "segnet"):
        own = [run for run in plan.runs if run.config.model.name == model]
        assert len(own) == runs / 2


def test_every_run_is_p1s_training() -> None:
    for _, run in every_run():
        config = run.config
        optimizer: Any = config.optimizer
        schedule: Any = config.schedule
        assert config.task.name == "segmentation"
        assert config.batch_size == 10
        assert config.learning_rate.at(10) == 0.01
        assert (optimizer.name, optimizer.momentum) == ("momentum", 0.9)
        assert optimizer.weight_decay == 1e-5
        assert (schedule.name, schedule.epochs, schedule.decay) == ("milestones", (25,), 0.1)
        data: Any = config.data
        assert (data.train_tiles, data.validation_tiles) == (TRAIN, VALIDATION)
        assert (data.flip, data.mirror) == (True, True)


def test_the_last_epoch_is_at_a_tenth() -> None:
    schedule: Any = plan_of("vaihingen-model", "full").runs[0].config.schedule
    told = training(num_steps=26_000, steps_per_epoch=1000)
    assert schedule.factor(24_999, told) == 1
    assert schedule.factor(25_000, told) == pytest.approx(0.1)


def test_the_full_scale_is_vaihingen_and_p1s_networks() -> None:
    for scale, run in every_run():
        if scale == "full":
            data: Any = run.config.data
            assert (data.name, data.train_examples, data.patch_size) == ("vaihingen", 10_000, 256)
            shape, num_classes = data.signature(Path("unused"))
            with torch.device("meta"):
                network = run.config.model.build(shape, num_classes)
            count = sum(parameter.numel() for parameter in network.parameters())
            assert count == WEIGHTS[run.config.model.name]


def test_the_smoke_scale_says_everywhere_that_its_tiles_are_a_stand_in() -> None:
    for name in NAMES:
        for variant in (None, *describe(name).variants):
            spec = load_spec(name, scale="smoke", variant=variant)
            assert "smoke scale: stand-in tiles from two photographs" in spec.title
            assert "Stand-in tiles" in spec.description
            assert "-smoke" in spec.name
    for scale, run in every_run():
        if scale == "smoke":
            model: Any = run.config.model
            assert run.config.data.name == "stand_in_tiles"
            assert model.width == 0.125
