"""What a launch knows of its runs: counts, passes, remaining time, failures."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sweeps.plan import Plan, PlannedRun, PlannedTrajectory
from trainables.store import Store

RunState = Literal["pending", "running", "done", "failed", "reused"]
RUN_STATES: tuple[RunState, ...] = ("pending", "running", "done", "failed", "reused")


@dataclass
class Line:
    """One trajectory under way."""

    name: str
    phase: str
    step: int
    num_steps: int
    epoch: int
    num_runs: int


@dataclass
class Failure:
    """Why a trajectory's runs did not come to a good end."""

    name: str
    run_ids: tuple[str, ...]
    message: str
    diverged: bool = False
    """The training itself diverged: a result, which is not retried."""


@dataclass
class Progress:
    """The state of a launch. A run is reused if the store had it before the launch began."""

    plan: Plan
    store: Store
    clock: Callable[[], float] = time.monotonic
    lines: dict[str, Line] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Take stock of what the plan says is settled already."""
        self.states: dict[str, RunState] = {
            run.run_id: "pending" if run.state == "open" else "reused" for run in self.plan.runs
        }
        for run in self.plan.runs:
            manifest = self.store.run(run.run_id).manifest() if run.state == "diverged" else None
            if manifest is not None:
                self._diverged(run, manifest["diverged_at_step"])
        self._trajectories = {t.trajectory_id: t for t in self.plan.trajectories if t.open_runs}
        self._steps_left = {key: sum(open_steps(t)) for key, t in self._trajectories.items()}
        self._steps_worked = 0
        self._since: float | None = None

    def started(self, trajectory_id: str) -> None:
        """A worker has been given that trajectory; its first report may be an epoch away."""
        for run in self._unsettled(trajectory_id):
            self.states[run.run_id] = "running"

    def report(self, result: Mapping[str, Any]) -> None:
        """A worker's report (`trainables.worker.Report`, plain)."""
        trajectory = self._trajectories[result["trajectory_id"]]
        self.started(trajectory.trajectory_id)
        for run in trajectory.open_runs:
            if run.run_id in result["finished"]:
                self._settle(run)
        if result["num_steps"]:
            self._advance(trajectory, result)
        if result["error"]:
            self._fail(trajectory.trajectory_id, result["error"])
        if result["done"]:
            self._end(trajectory.trajectory_id)

    def worker_failed(self, trajectory_id: str) -> None:
        """A worker failed for good, its retries used up."""
        path = self.store.trajectory(trajectory_id).path / "error.json"
        if path.is_file():  # a worker that was killed leaves none
            message = json.loads(path.read_bytes())["message"].splitlines()[0]
            message += f" (traceback: {path})"
        else:
            message = "the worker was killed, perhaps for want of memory"
        self._fail(trajectory_id, message)
        self._end(trajectory_id)

    def close(self) -> None:
        """Nothing runs any more: whatever is not settled has failed."""
        for trajectory_id in self._trajectories:
            if self._unsettled(trajectory_id):
                self._fail(trajectory_id, "not done when the launch ended")

    def counts(self) -> Counter[RunState]:
        """Number of runs in each state."""
        return Counter(self.states.values())

    def remaining_seconds(self) -> float | None:
        """Steps left over steps per second since the first report; None before there are any."""
        if self._since is None or not self._steps_worked:
            return None
        elapsed = self.clock() - self._since
        return sum(self._steps_left.values()) * elapsed / self._steps_worked

    def _advance(self, trajectory: PlannedTrajectory, result: Mapping[str, Any]) -> None:
        key = trajectory.trajectory_id
        reference, replay = open_steps(trajectory)
        left = {"other": reference + replay, "reference": reference + replay}.get(
            result["phase"], replay
        )
        done = 0 if result["phase"] == "other" else result["step"]
        self._steps_left[key] = max(0, left - done)
        if self._since is None:  # the first report's time is mostly that of setting up
            self._since = self.clock()
        else:
            self._steps_worked += result["steps_done"]
        self.lines[key] = Line(
            name=describe(*trajectory.runs),
            phase=result["phase"],
            step=result["step"],
            num_steps=result["num_steps"],
            epoch=result["epoch"],
            num_runs=len(trajectory.open_runs),
        )

    def _settle(self, run: PlannedRun) -> None:
        manifest = self.store.run(run.run_id).manifest()
        self.states[run.run_id] = "failed"
        if manifest is None:
            message = f"finished, but {self.store.run(run.run_id).manifest_path} is not there"
            self.failures.append(Failure(describe(run), (run.run_id,), message))
        elif manifest["status"] == "diverged":
            self._diverged(run, manifest["diverged_at_step"])
        elif manifest["status"] == "done":
            self.states[run.run_id] = "done"

    def _diverged(self, run: PlannedRun, step: int) -> None:
        message = f"training diverged at step {step}"
        self.failures.append(Failure(describe(run), (run.run_id,), message, diverged=True))

    def _fail(self, trajectory_id: str, message: str) -> None:
        unsettled = self._unsettled(trajectory_id)
        for run in unsettled:
            self.states[run.run_id] = "failed"
        ids = tuple(run.run_id for run in unsettled)
        self.failures.append(Failure(describe(*unsettled), ids, message))

    def _end(self, trajectory_id: str) -> None:
        self.lines.pop(trajectory_id, None)
        self._steps_left[trajectory_id] = 0

    def _unsettled(self, trajectory_id: str) -> list[PlannedRun]:
        runs = self._trajectories[trajectory_id].open_runs
        return [run for run in runs if self.states[run.run_id] in ("pending", "running")]


def describe(*runs: PlannedRun) -> str:
    """Runs by the values of their axes: batch_size=64 seed=0; several values as 100|200."""
    values: dict[str, dict[str, None]] = {}
    for run in runs:
        for axis, value in run.axes.items():
            values.setdefault(axis.removesuffix(".name"), {})[str(value)] = None
    return " ".join(f"{axis}={'|'.join(levels)}" for axis, levels in values.items()) or "the run"


def counted(number: int, one: str, many: str) -> str:
    """A number and the word that goes with it: 1 run, 2 runs."""
    return f"{number:,} {one if number == 1 else many}"


def open_steps(trajectory: PlannedTrajectory) -> tuple[int, int]:
    """Steps of the reference and of the replay pass that a trajectory's open runs ask for."""
    runs = trajectory.open_runs
    replayed = (run.num_steps for run in runs if run.config.needs_replay())
    trained = () if trajectory.has_reference else (run.reference_steps for run in runs)
    return max(trained, default=0), max(replayed, default=0)
