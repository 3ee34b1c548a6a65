"""What a launch knows of its runs: counts, passes, remaining time."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sweeps.plan import Plan, PlannedTrajectory
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
    """Why runs did not come to a good end."""

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
                self._diverged(run.run_id, manifest["diverged_at_step"])
        self._trajectories = {t.trajectory_id: t for t in self.plan.trajectories if t.open_runs}
        self._steps_done = dict.fromkeys(self._trajectories, 0)
        self._started: float | None = None
        self._steps_before = 0

    def report(self, result: Mapping[str, Any]) -> None:
        """A worker's report (`trainables.worker.Report`, plain)."""
        trajectory = self._trajectories[result["trajectory_id"]]
        key = trajectory.trajectory_id
        for run in trajectory.open_runs:
            if self.states[run.run_id] == "pending":
                self.states[run.run_id] = "running"
        for run_id in result["finished"]:
            self._settle(run_id)
        if result["num_steps"]:
            self._advance(trajectory, result)
        if result["done"]:
            self.lines.pop(key, None)
            self._steps_done[key] = _total_steps(trajectory)
        if result["error"]:
            self._fail(trajectory, result["error"])

    def worker_failed(self, trajectory_id: str) -> None:
        """A worker died for good, its retries used up."""
        trajectory = self._trajectories[trajectory_id]
        error = self.store.trajectory(trajectory_id).path / "error.json"
        where = f"; see {error}" if error.is_file() else ""
        self._fail(trajectory, f"the worker died{where}")

    def counts(self) -> Counter[RunState]:
        """Number of runs in each state."""
        return Counter(self.states.values())

    def remaining_seconds(self) -> float | None:
        """Steps left over steps per second so far; None before there is a rate."""
        if self._started is None:
            return None
        done = sum(self._steps_done.values())
        elapsed = self.clock() - self._started
        if done <= self._steps_before or elapsed <= 0:
            return None
        total = sum(_total_steps(trajectory) for trajectory in self._trajectories.values())
        return (total - done) * elapsed / (done - self._steps_before)

    def _advance(self, trajectory: PlannedTrajectory, result: Mapping[str, Any]) -> None:
        key, replayed = trajectory.trajectory_id, result["phase"] == "replay"
        before = trajectory.num_steps if replayed else 0
        self._steps_done[key] = before + result["step"]
        if self._started is None:
            self._started, self._steps_before = self.clock(), sum(self._steps_done.values())
        self.lines[key] = Line(
            name=describe(trajectory),
            phase=result["phase"],
            step=result["step"],
            num_steps=result["num_steps"],
            epoch=result["epoch"],
            num_runs=len(trajectory.open_runs),
        )

    def _settle(self, run_id: str) -> None:
        manifest = self.store.run(run_id).manifest()
        status = manifest["status"] if manifest else "unknown"
        if status == "diverged" and manifest is not None:
            step = manifest["diverged_at_step"]
            self._diverged(run_id, step)
        self.states[run_id] = "done" if status == "done" else "failed"

    def _diverged(self, run_id: str, step: int) -> None:
        self.failures.append(Failure((run_id,), f"training diverged at step {step}", diverged=True))

    def _fail(self, trajectory: PlannedTrajectory, message: str) -> None:
        self.lines.pop(trajectory.trajectory_id, None)
        unsettled = [r.run_id for r in trajectory.open_runs if self.states[r.run_id] != "done"]
        for run_id in unsettled:
            self.states[run_id] = "failed"
        self.failures.append(Failure(tuple(unsettled), message))


def describe(trajectory: PlannedTrajectory) -> str:
    """A trajectory by the values of its axes: batch_size=64 seed=0."""
    axes: dict[str, Any] = {}
    for run in trajectory.runs:
        axes |= {k: v for k, v in run.axes.items() if not k.startswith("budget.")}
    return " ".join(f"{name.removesuffix('.name')}={value}" for name, value in axes.items())


def _total_steps(trajectory: PlannedTrajectory) -> int:
    return trajectory.num_steps + trajectory.replay_steps
