"""What a launch shows, from planted reports: counts, remaining time, failures, lines."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sweeps import view
from sweeps.catalogue import load_spec
from sweeps.plan import Plan, make_plan
from sweeps.plan_store import mark_done
from sweeps.progress import Progress, describe, open_steps
from sweeps.view import duration, plain_line, render, shown, summary
from trainables.store import Store, write_json

OVERRIDES = ("batch_size=64,256", "seeds=0", "budget.epochs=4", "ablations=equal-epochs")
"""Two trajectories of one run each: 4 epochs of 23 and of 5 steps, in two passes."""


class Clock:
    """Time that a test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def planned(*overrides: str) -> Plan:
    return make_plan(load_spec("quickstart", overrides or OVERRIDES), Path("unused"))


@pytest.fixture
def progress(store: Store, clock: Clock) -> Progress:
    return Progress(planned(), store, clock)


def report(progress: Progress, index: int, **values: Any) -> None:
    """A worker's report on the plan's trajectory of that index."""
    trajectory = progress.plan.trajectories[index]
    defaults = {
        "trajectory_id": trajectory.trajectory_id,
        "phase": "reference",
        "step": 0,
        "num_steps": trajectory.num_steps,
        "epoch": 0,
        "steps_done": 0,
        "seconds": 1.0,
        "finished": [],
        "error": None,
        "done": False,
    }
    progress.report(defaults | values)


def seal(store: Store, run_id: str, status: str, step: int | None = None) -> None:
    store.run(run_id).path.mkdir(parents=True)
    store.run(run_id).write_manifest(
        {"status": status, "diverged_at_step": step, "data_digest": "digest"}, []
    )


# Counts


def test_a_run_is_running_from_its_start_and_done_when_its_manifest_says_so(
    progress: Progress, store: Store
) -> None:
    first, second = progress.plan.runs
    assert progress.counts() == {"pending": 2}
    progress.started(first.trajectory_id)
    assert progress.counts() == {"pending": 1, "running": 1}
    report(progress, 0, step=23, steps_done=23)
    assert progress.counts() == {"pending": 1, "running": 1}
    seal(store, first.run_id, "done")
    report(progress, 0, phase="replay", step=92, finished=[first.run_id], done=True)
    assert progress.counts() == {"pending": 1, "done": 1}
    assert progress.lines == {}
    assert progress.failures == []
    progress.close()
    assert progress.states[second.run_id] == "failed"
    assert progress.failures[0].message == "not done when the launch ended"


def test_a_run_whose_manifest_is_not_there_is_not_called_done(progress: Progress) -> None:
    run = progress.plan.runs[0]
    report(progress, 0, phase="replay", step=92, finished=[run.run_id], done=True)
    assert progress.states[run.run_id] == "failed"
    assert "manifest.json is not there" in progress.failures[0].message


def test_what_the_store_had_is_reused_and_a_diverged_run_is_told_again(store: Store) -> None:
    plan = planned()
    seal(store, plan.runs[0].run_id, "done")
    seal(store, plan.runs[1].run_id, "diverged", 7)
    progress = Progress(mark_done(plan, store), store)
    assert progress.counts() == {"reused": 2}
    (failure,) = progress.failures
    assert failure.diverged
    assert failure.run_ids == (plan.runs[1].run_id,)
    assert failure.message == "training diverged at step 7"


def test_a_run_that_diverges_fails_with_its_step(progress: Progress, store: Store) -> None:
    run = progress.plan.runs[0]
    seal(store, run.run_id, "diverged", 3)
    report(progress, 0, step=4, finished=[run.run_id], done=True)
    assert progress.counts() == {"failed": 1, "pending": 1}
    (failure,) = progress.failures
    assert (failure.name, failure.diverged) == ("batch_size=64 seed=0", True)
    assert failure.message == "training diverged at step 3"


def test_a_job_that_is_given_up_fails_only_what_is_not_done(store: Store) -> None:
    budgets = ("batch_size=64", "seeds=0", "budget.epochs=2,4", "ablations=equal-epochs")
    plan = planned(*budgets)
    progress = Progress(plan, store)
    short, long = plan.runs
    assert len(plan.trajectories) == 1
    seal(store, short.run_id, "done")
    report(progress, 0, phase="replay", step=46, finished=[short.run_id])
    seal(store, long.run_id, "replay_diverged")
    report(progress, 0, phase="replay", step=69, error="replay left the reference", done=True)
    assert progress.states == {short.run_id: "done", long.run_id: "failed"}
    (failure,) = progress.failures
    assert failure.run_ids == (long.run_id,)
    assert failure.message == "replay left the reference"
    assert not failure.diverged


@pytest.mark.parametrize("recorded", [True, False])
def test_a_worker_that_died_is_told_with_its_error_if_it_left_one(
    progress: Progress, store: Store, recorded: bool
) -> None:
    run = progress.plan.runs[0]
    progress.started(run.trajectory_id)
    if recorded:
        path = store.trajectory(run.trajectory_id).path / "error.json"
        write_json(path, {"message": "OSError: disk full\nmore", "traceback": "", "time": 0.0})
    progress.worker_failed(run.trajectory_id)
    assert progress.states[run.run_id] == "failed"
    message = progress.failures[0].message
    assert message.startswith("OSError: disk full (traceback: " if recorded else "the worker was")


# Remaining time


def test_there_is_no_remaining_time_before_any_step(progress: Progress, clock: Clock) -> None:
    assert progress.remaining_seconds() is None
    progress.started(progress.plan.runs[0].trajectory_id)
    clock.now += 60
    assert progress.remaining_seconds() is None


def test_remaining_time_is_steps_left_over_steps_per_second(
    progress: Progress, clock: Clock
) -> None:
    total = 2 * 4 * 23 + 2 * 4 * 5
    report(progress, 0, step=23, steps_done=23, seconds=30.0)  # 30 s, most of them to set up
    assert progress.remaining_seconds() is None
    clock.now += 2
    report(progress, 0, step=69, steps_done=46)
    assert progress.remaining_seconds() == pytest.approx((total - 69) * 2 / 46)
    clock.now += 6
    report(progress, 0, phase="replay", step=23, steps_done=46)
    assert progress.remaining_seconds() == pytest.approx((total - 92 - 23) * 8 / 92)


def test_steps_of_an_earlier_launch_count_as_done_and_not_as_speed(
    progress: Progress, clock: Clock
) -> None:
    report(progress, 1, step=5, steps_done=5)
    clock.now += 1
    # resumed at step 69 of the replay, where 23 steps took a second
    report(progress, 0, phase="replay", step=92, steps_done=23)
    assert progress.remaining_seconds() == pytest.approx((2 * 4 * 5 - 5) / 23)


def test_a_trajectory_that_ends_early_leaves_no_steps(
    progress: Progress, store: Store, clock: Clock
) -> None:
    seal(store, progress.plan.runs[0].run_id, "diverged", 3)
    report(progress, 1, step=5, steps_done=5)
    clock.now += 1
    report(progress, 0, step=4, steps_done=4, finished=[progress.plan.runs[0].run_id], done=True)
    assert progress.remaining_seconds() == pytest.approx((2 * 4 * 5 - 5) / 4)


def test_only_the_open_runs_of_a_trajectory_are_counted(store: Store) -> None:
    plan = planned("batch_size=64", "seeds=0", "budget.epochs=2,4", "ablations=equal-epochs")
    assert open_steps(plan.trajectories[0]) == (92, 92)
    seal(store, plan.runs[1].run_id, "done")
    assert open_steps(mark_done(plan, store).trajectories[0]) == (46, 46)


# What is shown


def test_a_plain_line_says_counts_time_and_where_runs_stand(
    progress: Progress, clock: Clock
) -> None:
    assert plain_line(progress) == "quickstart: 2 runs  2 pending"
    report(progress, 0, step=23, steps_done=23)
    clock.now += 11.5
    report(progress, 0, step=46, steps_done=23, epoch=1)
    assert plain_line(progress) == (
        "quickstart: 2 runs  1 pending  1 running  about 1 min 29 s left"
        "  (batch_size=64 seed=0: reference epoch 1)"
    )


def test_the_live_view_lists_the_first_trajectories_and_counts_the_others(
    progress: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view, "LINES_SHOWN", 1)
    for index in (0, 1):
        report(progress, index, step=5, epoch=0, steps_done=5)
    console = Console(width=100, file=io.StringIO())
    with console.capture() as shown_text:
        console.print(render(progress))
    text = shown_text.get()
    assert "batch_size=64 seed=0" in text
    assert "5/92" in text
    assert "batch_size=256 seed=0" not in text
    assert "... and 1 more" in text


def test_what_is_no_terminal_gets_lines_when_something_changed(
    progress: Progress, monkeypatch: pytest.MonkeyPatch, until: Any
) -> None:
    monkeypatch.setattr(view, "PLAIN_SECONDS", 0.01)
    file = io.StringIO()
    with shown(progress, Console(file=file, width=200)):
        until(lambda: "2 pending" in file.getvalue())
        progress.started(progress.plan.runs[0].trajectory_id)
        until(lambda: "1 running" in file.getvalue())
    lines = file.getvalue().splitlines()
    changes = ["quickstart: 2 runs  2 pending", "quickstart: 2 runs  1 pending  1 running"]
    assert lines == [*changes, summary(progress).plain]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.6, "1 min 00 s"), (61, "1 min 01 s"), (3600 * 2 + 60 * 5, "2 h 05 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_runs_are_described_by_what_they_have_in_common_and_what_not() -> None:
    runs = planned("batch_size=64", "seeds=0,1", "optimizer=sgd,adam").runs
    assert describe(runs[0]) == "batch_size=64 optimizer=sgd seed=0"
    assert describe(runs[0], runs[1]) == "batch_size=64 optimizer=sgd seed=0|1"
