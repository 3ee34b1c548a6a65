"""A worker's share: reports, progress and errors in the store."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from trainables import worker
from trainables.job import Job, Place, Progress
from trainables.store import Store
from trainables.tracker import Tracker
from trainables.worker import Report, Worker, WorkOrder

CONFIG = {
    "data": {"name": "digits", "train_examples": 96, "validation_examples": 20},
    "model": {"name": "mlp", "hidden": [8]},
    "batch_size": 32,
    "budget": {"epochs": 3},
}
"""Three epochs of three steps."""

Make = Callable[..., Worker]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def make(store: Store) -> Make:
    """Makes a worker on one trajectory, by default of one run."""

    def make(*run_ids: str) -> Worker:
        runs = {run_id: CONFIG for run_id in run_ids or ("r",)}
        order = WorkOrder("sweep", str(store.root), str(store.root), 1, "t", runs)
        return Worker(order, torch.device("cpu"), Tracker("sweep", store, enabled=False))

    return make


def progress_file(store: Store) -> dict[str, Any] | None:
    path = store.trajectory("t").path / "progress.json"
    return json.loads(path.read_bytes()) if path.is_file() else None


def plant(monkeypatch: pytest.MonkeyPatch, *stages: Progress | Exception) -> None:
    """Make the work yield these, or raise the one that is an exception."""

    def work(job: Job, place: Place) -> Iterator[Progress]:
        for stage in stages:
            if isinstance(stage, Exception):
                raise stage
            yield stage

    monkeypatch.setattr(worker, "work", work)


def test_a_real_order_is_done_and_counted_to_the_last_step(make: Make, store: Store) -> None:
    one = make()
    reports: list[Report] = []
    while not reports or not reports[-1].done:
        reports.append(one.advance(seconds=0.0))
    one.close()
    assert [run_id for report in reports for run_id in report.finished] == ["r"]
    assert sum(report.steps_done for report in reports) == 2 * 9
    assert store.run("r").manifest() is not None
    assert progress_file(store) is None


def test_it_says_at_once_that_it_has_begun(make: Make, store: Store) -> None:
    make("a", "b")
    progress = progress_file(store)
    assert progress is not None
    assert (progress["phase"], progress["step"], progress["runs"]) == ("starting", 0, ["a", "b"])


def test_steps_are_those_since_the_last_report_also_after_a_resume(
    make: Make, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(
        monkeypatch,
        Progress("reference", 21, 30, epoch=6, first_step=18),  # resumed: 18 steps were there
        Progress("reference", 30, 30, epoch=9),
        Progress("replay", 3, 30, epoch=0),
    )
    one = make()
    assert one.advance(seconds=0.0).steps_done == 3
    progress = progress_file(store)
    assert progress is not None
    assert (progress["step"], progress["num_steps"], progress["epoch"]) == (21, 30, 6)
    assert one.advance(seconds=60.0).steps_done == 9 + 3


def test_an_error_is_left_in_the_store_and_rises(
    make: Make, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, Progress("reference", 3, 9, epoch=0), OSError("disk full"))
    one = make()
    one.advance(seconds=0.0)
    with pytest.raises(OSError, match="disk full"):
        one.advance()
    error = json.loads((store.trajectory("t").path / "error.json").read_bytes())
    assert error["message"] == "OSError: disk full"
    assert "Traceback" in error["traceback"]
    assert progress_file(store) is None
    plant(monkeypatch)
    make()
    assert not (store.trajectory("t").path / "error.json").exists()


def test_a_damaged_store_ends_the_job_and_is_not_retried(make: Make, store: Store) -> None:
    first = make("a")
    while not first.advance().done:
        pass
    first.close()
    reference = next(store.trajectory("t").path.glob("references/*"))
    reference.write_bytes(reference.read_bytes()[:-1] + b"x")
    second = make("b")
    report = second.advance(seconds=60.0)
    assert report.done
    assert report.error is not None
    assert str(reference) in report.error
    assert store.run("b").manifest() is None
