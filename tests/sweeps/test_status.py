"""What the store says of a sweep's runs, state by state."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from sweeps.status import RunStatus, sweep_status
from trainables.errors import UserError
from trainables.store import Store, write_json


@pytest.fixture
def store_and_run(plant_sweep: Any) -> tuple[Store, dict[str, Any]]:
    """A sweep of which one run has not finished."""
    store, entries = plant_sweep()
    store.run(entries[0]["run_id"]).manifest_path.unlink()
    return store, entries[0]


def status_of(store: Store, run: dict[str, Any]) -> RunStatus:
    (status,) = (s for s in sweep_status(store, "planted", store.root) if s.run_id == run["run_id"])
    return status


def write_progress(store: Store, run: dict[str, Any], age_seconds: float, **values: Any) -> None:
    defaults = {
        "phase": "replay",
        "step": 40,
        "num_steps": 100,
        "epoch": 3,
        "steps_done": 20,
        "seconds": 2.0,
        "runs": [run["run_id"]],
        "updated": time.time() - age_seconds,
    }
    write_json(store.trajectory(run["trajectory_id"]).path / "progress.json", defaults | values)


def write_error(store: Store, run: dict[str, Any]) -> None:
    path = store.trajectory(run["trajectory_id"]).path / "error.json"
    write_json(path, {"message": "OSError: disk full\n...", "traceback": "", "time": time.time()})


@pytest.fixture
def held(store_and_run: Any) -> Iterator[None]:
    """A worker that holds the trajectory's lock."""
    store, run = store_and_run
    with store.trajectory(run["trajectory_id"]).lock():
        yield


def test_a_finished_run_is_done_and_one_that_nobody_began_is_pending(store_and_run: Any) -> None:
    store, run = store_and_run
    statuses = sweep_status(store, "planted", store.root)
    assert sorted(status.state for status in statuses) == ["done", "pending"]
    assert status_of(store, run).axes == run["axes"]


def test_a_run_under_way_says_pass_epoch_and_time_left(store_and_run: Any) -> None:
    store, run = store_and_run
    write_progress(store, run, age_seconds=1)
    status = status_of(store, run)
    assert (status.state, status.phase, status.epoch) == ("running", "replay", "3")
    assert status.remaining == "6 s"  # 60 steps at 10 per second


def test_a_run_without_a_rate_says_no_time(store_and_run: Any) -> None:
    store, run = store_and_run
    write_progress(store, run, age_seconds=1, phase="starting", steps_done=0, seconds=0.0)
    assert status_of(store, run).remaining == ""


def test_a_worker_that_wrote_nothing_for_long_runs_while_it_holds_the_lock(
    store_and_run: Any, held: None
) -> None:
    store, run = store_and_run
    write_progress(store, run, age_seconds=3600)
    assert status_of(store, run).state == "running"


def test_a_worker_that_is_gone_is_interrupted(store_and_run: Any) -> None:
    store, run = store_and_run
    write_progress(store, run, age_seconds=3600)
    status = status_of(store, run)
    assert (status.state, status.epoch, status.remaining) == ("interrupted", "3", "")


def test_a_failed_run_says_the_first_line_of_its_error(store_and_run: Any) -> None:
    store, run = store_and_run
    write_error(store, run)
    status = status_of(store, run)
    assert (status.state, status.error) == ("failed", "OSError: disk full")


def test_progress_of_other_runs_of_the_trajectory_says_nothing_of_this_one(
    store_and_run: Any,
) -> None:
    store, run = store_and_run
    write_progress(store, run, age_seconds=1, runs=["another"])
    assert status_of(store, run).state == "pending"


def test_a_done_run_stays_done_while_its_trajectory_goes_on(store_and_run: Any) -> None:
    store, run = store_and_run
    other = next(s for s in sweep_status(store, "planted", store.root) if s.state == "done")
    write_progress(store, run, age_seconds=1, runs=[run["run_id"], other.run_id])
    assert status_of(store, {"run_id": other.run_id}).state == "done"


@pytest.mark.parametrize(
    ("status", "step", "error"),
    [("diverged", 7, "training diverged at step 7"), ("replay_diverged", None, "")],
)
def test_what_a_manifest_says_is_said(
    store_and_run: Any, status: str, step: int | None, error: str
) -> None:
    store, run = store_and_run
    folder = store.run(run["run_id"])
    folder.write_manifest({"status": status, "diverged_at_step": step}, [])
    said = status_of(store, run)
    assert (said.state, said.error) == (status, error)


def test_a_run_whose_replay_diverged_is_running_when_it_is_tried_again(store_and_run: Any) -> None:
    store, run = store_and_run
    manifest = {"status": "replay_diverged", "diverged_at_step": None}
    store.run(run["run_id"]).write_manifest(manifest, [])
    write_progress(store, run, age_seconds=1)
    assert status_of(store, run).state == "running"


def test_an_unknown_sweep_names_the_near_ones(store_and_run: Any) -> None:
    store, _ = store_and_run
    with pytest.raises(UserError, match=r"no sweep 'plantd' in .*; did you mean planted\?"):
        sweep_status(store, "plantd", store.root)
