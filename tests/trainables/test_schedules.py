"""Schedules: values computed by hand, and what every member promises."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from tests.trainables.trainings import training
from trainables.errors import UserError
from trainables.registry import build, lookup
from trainables.schedules.contract import ScheduleConfig
from trainables.schedules.fixed import (
    Constant,
    FixedSchedule,
    LinearDecay,
    Milestones,
    WarmupCosine,
)
from trainables.schedules.registry import SCHEDULES

REQUIRED: dict[str, Any] = {"epochs": (2, 3)}
"""Values for options without a default, by option."""


def member(name: str) -> ScheduleConfig:
    """A registered schedule with its defaults."""
    cls = SCHEDULES[name]
    needed = [key for key, field in cls.model_fields.items() if field.is_required()]
    return cls(**{key: REQUIRED[key] for key in needed})


FIXED = [name for name, cls in SCHEDULES.items() if issubclass(cls, FixedSchedule)]


@pytest.mark.parametrize("name", FIXED)
def test_every_fixed_schedule_is_a_pure_function_in_the_unit_interval(name: str) -> None:
    schedule = member(name)
    assert isinstance(schedule, FixedSchedule)
    known = training(40, 10)
    factors = [schedule.factor(step, known) for step in range(40)]
    assert all(0 <= factor <= 1 for factor in factors)
    assert factors == [schedule.factor(step, known) for step in reversed(range(40))][::-1]
    longer = [schedule.factor(step, training(80, 10)) for step in range(40)]
    assert (longer == factors) == (not schedule.depends_on_budget)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize(("num_steps", "steps_per_epoch"), [(1, 1), (1, 10), (7, 3)])
def test_every_schedule_knows_the_shortest_budgets(
    name: str, num_steps: int, steps_per_epoch: int
) -> None:
    pace = member(name).start(training(num_steps, steps_per_epoch))
    for step in range(num_steps):
        assert 0 <= pace.factor(step) < math.inf
        pace.observe(step, torch.ones(256))


def test_constant() -> None:
    assert Constant().factor(123, training(200, 10)) == 1


def test_linear_decay_reaches_zero_one_step_after_the_last() -> None:
    assert [LinearDecay().factor(t, training(5, 2)) for t in range(5)] == pytest.approx(
        [1, 0.8, 0.6, 0.4, 0.2]
    )


def test_warmup_starts_at_exactly_zero_and_the_cosine_follows() -> None:
    schedule = WarmupCosine(warmup_epochs=2)  # W = 4 of T = 12
    factors = [schedule.factor(t, training(12, 2)) for t in range(12)]
    assert factors[:5] == [0, 0.25, 0.5, 0.75, 1]
    assert factors[8] == pytest.approx(0.5)  # half of the cosine's 8 steps
    assert factors[6] == pytest.approx((1 + math.sqrt(0.5)) / 2)
    assert factors[11] == pytest.approx((1 + math.cos(math.pi * 7 / 8)) / 2)


def test_warmup_longer_than_the_budget_only_warms_up() -> None:
    schedule, known = WarmupCosine(warmup_epochs=5), training(4, 2)
    assert [schedule.factor(t, known) for t in range(4)] == [0, 0.25, 0.5, 0.75]


def test_no_warmup_is_the_cosine_from_one() -> None:
    factors = [WarmupCosine(warmup_epochs=0).factor(t, training(4, 2)) for t in range(4)]
    assert factors == pytest.approx([1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2])


def test_a_fraction_of_an_epoch_warms_up_too() -> None:
    assert WarmupCosine(warmup_epochs=0.5).factor(1, training(100, 4)) == 0.5


def test_milestones_count_epochs_from_zero() -> None:
    schedule = Milestones(epochs=(1, 3), decay=0.1)
    factors = [schedule.factor(t, training(10, 2)) for t in range(10)]
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.01])


@pytest.mark.parametrize("epochs", [[3, 1], [2, 2], [-1]])
def test_milestones_must_ascend(epochs: list[int]) -> None:
    with pytest.raises(UserError, match="schedule: milestone epochs must ascend from 0 on"):
        build(Milestones, {"epochs": epochs}, "schedule")


def test_an_unknown_schedule_names_the_near_ones() -> None:
    with pytest.raises(UserError, match="unknown schedule 'cosine'; did you mean warmup_cosine"):
        lookup("schedule", SCHEDULES, "cosine")
