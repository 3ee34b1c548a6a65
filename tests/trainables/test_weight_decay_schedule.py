"""A schedule may take the weight decay along, as P1's segmentation runs do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from trainables.config import RunConfig
from trainables.trajectory import Trajectory

Build = Callable[[RunConfig], Trajectory]


def trained(build: Build, **schedule: Any) -> Trajectory:
    """Four epochs of one step, the milestone at the third."""
    built = build(
        RunConfig.parse(
            {
                "data": {"name": "digits", "train_examples": 64},
                "optimizer": {"name": "momentum", "weight_decay": 0.5},
                "schedule": {"name": "milestones", "epochs": [2], **schedule},
                "budget": {"epochs": 4},
            }
        )
    )
    built.advance(4)
    return built


def test_milestones_leave_the_weight_decay_alone(trajectory: Build) -> None:
    built = trained(trajectory)
    assert [built.weight_decay(step) for step in range(4)] == [0.5] * 4


def test_milestones_take_the_weight_decay_along_if_asked(trajectory: Build) -> None:
    built = trained(trajectory, weight_decay=True)
    decays = [built.weight_decay(step) for step in range(4)]
    rates = [built.learning_rate(step) for step in range(4)]
    assert decays == pytest.approx([0.5, 0.5, 0.05, 0.05])
    assert rates == pytest.approx([0.01, 0.01, 0.001, 0.001])
    assert built.optimizer.param_groups[0]["weight_decay"] == decays[-1]
    assert built.fingerprint() != trained(trajectory).fingerprint()


def test_before_its_milestone_it_is_the_same_training(trajectory: Build) -> None:
    late, never = (trained(trajectory, epochs=[4], weight_decay=w) for w in (True, False))
    assert late.fingerprint() == never.fingerprint()
