"""Identities: pinned, and changed by exactly what changes a result."""

from __future__ import annotations

from typing import Any

import pytest

from sweeps.identity import digest, identities, run_id, trajectory_id
from trainables.config import RunConfig

PINNED: list[tuple[dict[str, Any], str, str]] = [
    ({}, "bd34c08e9efbadd8", "17d37c439ebdf934"),
    ({"batch_size": 16, "seed": 3}, "7ba681eb001f3e2e", "e39e843ccb7aad96"),
    ({"budget": {"steps": 1000}}, "3a22abc6b196248a", "17d37c439ebdf934"),
    (
        {"optimizer": {"name": "adam", "weight_decay": 1e-6}, "learning_rate": 1e-3},
        "09abdad98072455c",
        "fdc8ad34cf1a3aad",
    ),
    ({"schedule": "linear_decay"}, "5e43eafd12abc495", "602a8c1f3e87ae7e"),
    (
        {
            "data": {"name": "cifar10", "layout": "folder"},
            "model": {"name": "resnet18", "width": 2},
            "seeds": {"init": 2019},
        },
        "a1be1fc333bbf764",
        "cfb40a3bc00f29a9",
    ),
]


@pytest.mark.parametrize(("values", "run", "trajectory"), PINNED)
def test_identities_are_pinned(values: dict[str, Any], run: str, trajectory: str) -> None:
    """If this fails, every store of every user no longer finds its own results.

    A renamed option, a new default, another canonical form: each makes `optpath run` compute anew
    what is there, and MLflow's tags name runs that nothing else knows. Where that is meant, raise
    IDENTITY_VERSION, pin the new values and say so in the changelog. A new option must be written
    so that its default leaves these values alone.
    """
    assert identities(RunConfig.parse(values)) == (run, trajectory)


def test_what_is_written_differently_and_means_the_same_has_one_identity() -> None:
    short = RunConfig.parse({"learning_rate": 0.02, "model": "mlp", "probes": ["path", "update"]})
    long = RunConfig.parse(
        {
            "learning_rate": {"base": "2e-2", "rule": "fixed"},
            "model": {"name": "mlp", "hidden": [128, 128], "dropout": 0},
            "batch_size": 64,
        }
    )
    assert identities(short) == identities(long)


@pytest.mark.parametrize(
    "values",
    [
        {"seed": 1},
        {"seeds": {"dropout": 0}},
        {"batch_size": 65},
        {"learning_rate": 0.010000001},
        {"optimizer": "sgd"},
        {"optimizer": {"name": "momentum", "weight_decay": 1e-9}},
        {"data": {"name": "digits", "train_examples": 1500}},
        {"precision": "bf16"},
        {"memory_format": "contiguous"},
        {"evaluate_every_epochs": 2},
        {"schedule": {"name": "milestones", "epochs": [3]}},
    ],
)
def test_what_changes_a_training_changes_both(values: dict[str, Any]) -> None:
    default, other = RunConfig(), RunConfig.parse(values)
    assert run_id(other) != run_id(default)
    assert trajectory_id(other) != trajectory_id(default)


@pytest.mark.parametrize("values", [{"budget": {"epochs": 41}}, {"probes": ["path"]}])
def test_budget_and_probes_change_the_run_alone(values: dict[str, Any]) -> None:
    default, other = RunConfig(), RunConfig.parse(values)
    assert run_id(other) != run_id(default)
    assert trajectory_id(other) == trajectory_id(default)


@pytest.mark.parametrize("schedule", ["linear_decay", "warmup_cosine"])
def test_a_schedule_that_sees_the_budget_puts_it_into_the_trajectory(schedule: str) -> None:
    short = RunConfig.parse({"schedule": schedule, "budget": {"epochs": 2}})
    long = RunConfig.parse({"schedule": schedule, "budget": {"epochs": 3}})
    assert trajectory_id(short) != trajectory_id(long)


def test_a_value_without_a_stable_form_has_no_identity() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest({"rate": float("nan")})
    with pytest.raises(TypeError, match="not JSON serializable"):
        digest({"thing": object()})
