"""One worker's share of a sweep: drives a job a second at a time, says where it stands, tracks."""

from __future__ import annotations

import time
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from trainables.config import RunConfig
from trainables.errors import UserError
from trainables.job import Job, Place, Progress, RunJob
from trainables.passes import work
from trainables.record import ReplayDiverged
from trainables.store import Folder, Store, write_json
from trainables.tracker import Tracker

REPORT_SECONDS = 1.0
"""Least time between two reports; one costs the driver 1.5 to 3 ms (DESIGN section 5)."""


@dataclass(frozen=True)
class WorkOrder:
    """What the driver sends to a worker: plain values only."""

    sweep: str
    storage: str
    data_root: str
    num_threads: int
    trajectory_id: str
    runs: dict[str, dict[str, Any]]
    """Run id -> plain config."""
    others: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Trajectory id -> plain config, of other seeds' trainings whose w* is a reference."""
    follows: str | None = None
    """The run whose local learning rates the schedule follows."""
    data_digest: str | None = None
    """That of the data which the driver found; None: it does not know."""

    def job(self) -> Job:
        """The job, its configs validated."""
        runs = (RunJob(run_id, RunConfig.parse(plain)) for run_id, plain in self.runs.items())
        others = {key: RunConfig.parse(plain) for key, plain in self.others.items()}
        return Job(self.trajectory_id, tuple(runs), others, self.follows, self.data_digest)


@dataclass
class Report:
    """What a worker tells the driver, about once a second."""

    trajectory_id: str
    phase: str = "starting"
    step: int = 0
    num_steps: int = 0
    epoch: int = 0
    steps_done: int = 0
    """Steps since the last report, of both passes."""
    seconds: float = 0.0
    """Time since the last report."""
    finished: list[str] = field(default_factory=list)
    """Runs sealed since the last report."""
    error: str | None = None
    """Why the job was given up, one line."""
    done: bool = False

    def plain(self) -> dict[str, Any]:
        """The report as plain values."""
        return asdict(self)


class Worker:
    """Does one order; `advance` until its report says done, then `close`."""

    def __init__(self, order: WorkOrder, device: torch.device, tracker: Tracker) -> None:
        self._order = order
        self._tracker = tracker
        store = Store(order.storage)
        self._folder = store.trajectory(order.trajectory_id)
        place = Place(store, Path(order.data_root), device, order.num_threads)
        self._work = work(order.job(), place)
        self._last = ("", 0)
        self._folder.path.mkdir(parents=True, exist_ok=True)
        (self._folder.path / "error.json").unlink(missing_ok=True)  # of an attempt that is over
        self._write_progress(Report(order.trajectory_id))

    def advance(self, seconds: float = REPORT_SECONDS) -> Report:
        """Work for about that long, or to the end; a failure of the job's own ends it for good.

        Any other exception is written to the store and goes on to the caller, who may retry.
        """
        report = Report(self._order.trajectory_id)
        start = time.monotonic()
        with _RecordedErrors(self._folder):
            try:
                for progress in self._work:
                    self._take_note(progress, report)
                    if time.monotonic() - start >= seconds:
                        break
                else:
                    report.done = True
            except (UserError, ReplayDiverged) as error:
                report.error, report.done = str(error), True
                _write_error(self._folder, error)
        report.seconds = time.monotonic() - start
        self._write_progress(report)
        return report

    def _take_note(self, progress: Progress, report: Report) -> None:
        report.steps_done += self._steps_since_last(progress)
        report.phase, report.epoch = progress.phase, progress.epoch
        report.step, report.num_steps = progress.step, progress.num_steps
        report.finished += progress.finished
        if progress.evaluation is not None:
            for run_id in self._order.runs:
                self._tracker.epochs(run_id, [progress.evaluation.row()])
        for run_id in progress.finished:
            self._tracker.finish(run_id)

    def _steps_since_last(self, progress: Progress) -> int:
        """Steps of this pass since the last progress, or since it began or was resumed."""
        (phase, last), self._last = self._last, (progress.phase, progress.step)
        return progress.step - (last if progress.phase == phase else progress.first_step)

    def _write_progress(self, report: Report) -> None:
        path = self._folder.path / "progress.json"
        if report.done:
            path.unlink(missing_ok=True)
        else:
            values = {**report.plain(), "runs": list(self._order.runs), "updated": time.time()}
            write_json(path, values)

    def close(self) -> None:
        """Release the trajectory's lock."""
        self._work.close()


class _RecordedErrors:
    """Leaves an exception that ends the work in the trajectory's error.json, and lets it rise.

    Being told to stop (SystemExit, KeyboardInterrupt) is no failure of the work.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception):
            _write_error(self._folder, error)
            (self._folder.path / "progress.json").unlink(missing_ok=True)


def _write_error(folder: Folder, error: BaseException) -> None:
    values = {
        "message": f"{type(error).__name__}: {error}",
        "traceback": "".join(traceback.format_exception(error)),
        "time": time.time(),
    }
    write_json(folder.path / "error.json", values)
