"""Our own presets beyond the papers, against a table typed by hand; growth and oracles planned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from sweeps.catalogue import describe, load_spec
from sweeps.launch import order, stages
from sweeps.plan import Plan, make_plan
from sweeps.ray_session import Launch
from sweeps.same_data import PresentData
from sweeps.tables import plan_notes
from tests.sweeps.test_presets import axes, plan_of
from trainables.errors import UserError
from trainables.worker import WorkOrder

GROWING = {
    # 190 epochs of 625 steps; of 625, 312, 156; of 625, 156, 39
    "full": (21, 12, (118_750, 67_140, 49_590), (625, 312, 156, 39), (60, 120)),
    "smoke": (14, 8, (186, 106, 78), (31, 15, 7, 1), (2, 4)),
}
"""Scale -> runs, trajectories, T at factors 1, 2, 4, steps per epoch at batch 64, 128, 256, 1024,
epochs of growth and of decay."""
ORACLE = {"full": (18, 18, 156, 29_640, 156), "smoke": (12, 12, 31, 196, 31)}
"""Scale -> runs, trajectories, steps per epoch, T, steps of a mean."""


@pytest.mark.parametrize("name", ["growing-batch", "oracle-lr"])
def test_ours_say_what_they_ask_and_have_both_scales(name: str) -> None:
    offered = describe(name)
    assert offered.question.endswith("?")
    assert offered.scales == ("full", "smoke")


@pytest.mark.parametrize("scale", GROWING)
def test_growing_batches_are_the_table(scale: str) -> None:
    plan = plan_of("growing-batch", scale)
    num_runs, num_trajectories, lengths, (at_64, at_128, at_256, at_1024), epochs = GROWING[scale]
    assert (len(plan.runs), len(plan.trajectories)) == (num_runs, num_trajectories)
    assert _lengths(plan, "equal-epochs") == list(lengths)
    assert _lengths(plan, "equal-steps") == [lengths[1]] * 3
    assert _lengths(plan, "instead-of-decay") == list(lengths[:2])
    first, second = epochs
    phases = {
        1: {0: (64, at_64)},
        2: {0: (64, at_64), first: (128, at_128), second: (256, at_256)},
        4: {0: (64, at_64), first: (256, at_256), second: (1024, at_1024)},
    }
    for run in plan.runs:
        size = run.config.examples_per_step
        found = {e: (size(0, e), length) for e, length in run.calendar.phases}
        assert found == phases[run.config.batch_growth.factor]
        assert run.config.learning_rate.at(run.config.examples_per_step(0)) == 5e-3
        assert (run.config.optimizer.name, run.config.optimizer.weight_decay) == ("momentum", 1e-6)
    factors = axes(plan, "equal-epochs")["batch_growth.factor"]
    assert factors == [1, 2, 4]
    decayed: list[Any] = [
        run.config.schedule for run in plan.runs if run.config.schedule.name == "milestones"
    ]
    assert {(schedule.epochs, schedule.decay) for schedule in decayed} == {(epochs, 0.5)}


def _lengths(plan: Plan, label: str) -> list[int]:
    """T of the first seed's runs, in the order of their factors."""
    runs = [run for run in plan.runs if label in run.ablations and run.axes["seed"] == 0]
    in_order = sorted(runs, key=lambda run: run.axes["batch_growth.factor"])
    return [run.num_steps for run in in_order]


@pytest.mark.parametrize("scale", ORACLE)
def test_oracles_are_the_table(scale: str) -> None:
    plan = plan_of("oracle-lr", scale)
    num_runs, num_trajectories, per_epoch, num_steps, window = ORACLE[scale]
    assert (len(plan.runs), len(plan.trajectories)) == (num_runs, num_trajectories)
    assert {run.steps_per_epoch for run in plan.runs} == {per_epoch}
    assert {run.num_steps for run in plan.runs} == {num_steps}
    found = {
        (
            run.config.optimizer.name,
            run.config.schedule.name,
            getattr(run.config.schedule, "scale", None),
            getattr(run.config.schedule, "smooth_steps", None),
        )
        for run in plan.runs
    }
    assert found == {
        ("sgd", "constant", None, None),
        ("sgd", "oracle", 1.0, 1),
        ("sgd", "oracle", 0.5, 1),
        ("sgd", "oracle", 1.0, window),
        ("momentum", "constant", None, None),
        ("momentum", "oracle", 0.1, window),
    }
    assert {run.config.learning_rate.base for run in plan.runs} == {1e-2}
    for run in plan.runs:
        assert [r.kind for r in run.config.other_references()] == ["followed"]
    assert plan.spec.expects_divergence


def test_every_oracle_follows_the_plain_run_of_its_seed_and_optimizer_and_comes_after_it() -> None:
    plan = plan_of("oracle-lr", "smoke")
    runs = {run.run_id: run for run in plan.runs}
    first, second = stages(plan.trajectories)
    assert {t.runs[0].config.schedule.name for t in first} == {"constant"}
    assert {t.runs[0].config.schedule.name for t in second} == {"oracle"}
    for trajectory in second:
        (run,) = trajectory.runs
        assert trajectory.follows is not None
        followed = runs[trajectory.follows]
        assert followed.trajectory_id in {t.trajectory_id for t in first}
        for field in ("seed", "optimizer", "data", "model", "learning_rate", "budget", "probes"):
            assert getattr(followed.config, field) == getattr(run.config, field)
    assert [len(stage) for stage in stages(first)] == [len(first)]


def sweep(folder: Path, **changes: Any) -> Plan:
    """A sweep of small runs from a file, planned."""
    base = {
        "data": {"name": "digits", "train_examples": 96, "validation_examples": 20},
        "model": {"name": "mlp", "hidden": [8]},
        "batch_size": 8,
        "budget": {"epochs": 3},
    }
    file = folder / "mine.yaml"
    spec = {"name": "mine", "title": "ours", "seeds": [0], "base": base, **changes}
    file.write_text(yaml.safe_dump(spec))
    return make_plan(load_spec(str(file), []), folder)


def test_what_a_worker_is_sent_names_the_run_to_follow(tmp_path: Path) -> None:
    plan = sweep(tmp_path, grid={"schedule": ["constant", "oracle"]})
    constant, oracle = plan.trajectories
    launch = Launch(tmp_path, tmp_path)
    present = PresentData(tmp_path)
    assert order("mine", constant, launch, present).follows is None
    sent: WorkOrder = order("mine", oracle, launch, present)
    assert sent.follows == sent.job().follows == plan.runs[0].run_id


def test_an_oracle_without_the_run_that_it_follows_is_refused(tmp_path: Path) -> None:
    match = (
        r"mine\.yaml: ablations\.main: schedule oracle follows the same run with schedule "
        "linear_decay, which the sweep does not have; give both, such as "
        "schedule=linear_decay,oracle"
    )
    with pytest.raises(UserError, match=match):
        sweep(tmp_path, grid={"schedule": ["constant", {"name": "oracle", "of": "linear_decay"}]})


def test_an_oracle_may_follow_what_the_data_and_the_chunk_made_of_a_run(tmp_path: Path) -> None:
    plan = sweep(tmp_path, grid={"schedule": ["constant", "oracle"], "batch_size": ["full", 8]})
    assert [len(stage) for stage in stages(plan.trajectories)] == [2, 2]


def test_the_plan_says_how_batches_grow(tmp_path: Path) -> None:
    growth = {"epochs": [1, 2], "factor": 2}
    plan = sweep(tmp_path, set={"batch_growth": growth}, grid={"batch_growth.factor": [1, 2, 3]})
    assert [run.num_steps for run in plan.runs] == [36, 12 + 6 + 3, 12 + 4 + 1]
    assert plan_notes(plan, tmp_path) == [
        "batch_growth.factor 2: 8 from epoch 0 on (12 steps each), 16 from epoch 1 on (6 steps "
        "each), 32 from epoch 2 on (3 steps each)",
        "batch_growth.factor 3: 8 from epoch 0 on (12 steps each), 24 from epoch 1 on (4 steps "
        "each), 72 from epoch 2 on (1 step each)",
    ]
    match = r"ablations\.main: batch_growth: 128 from epoch 1 on is larger than the 96 training"
    with pytest.raises(UserError, match=match):
        sweep(tmp_path, set={"batch_growth": {"epochs": [1], "factor": 16}})
