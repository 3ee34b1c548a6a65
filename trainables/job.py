"""What a worker is given: the runs of one trajectory and where to do them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch

from geometry.reductions import RowReducer
from trainables.config import RunConfig
from trainables.curves import stored_curve
from trainables.environment import describe, make_deterministic
from trainables.measurement import Measurement
from trainables.record import EpochRecord, ReferenceRecord
from trainables.store import Folder, Store
from trainables.surface import TrajectorySurface, check_probes
from trainables.tasks.contract import Task
from trainables.trajectory import Observer, Trajectory

SLICE_SECONDS = 1.0
"""Longest stretch of a pass between two yields: how stale its progress can be, and how soon it can
stop or save a checkpoint within a long epoch. Ours, untuned."""

CHECKPOINT_SECONDS = 10.0
"""Least time between two checkpoints of a pass: what a SIGKILL can cost. Ours, untuned."""


@dataclass(frozen=True)
class RunJob:
    """One run to be done."""

    run_id: str
    config: RunConfig


@dataclass(frozen=True)
class Job:
    """The runs of one trajectory that are still to be done; they differ in budget and probes."""

    trajectory_id: str
    runs: tuple[RunJob, ...]
    others: Mapping[str, RunConfig] = field(default_factory=dict)
    """Trajectory id -> training, of those whose w* is a reference of some run."""
    follows: str | None = None
    """The finished run whose local learning rates the schedule follows; most follow none."""
    data_digest: str | None = None
    """That of the data which the driver found; None: it does not know."""

    def other(self, config: RunConfig) -> str:
        """The trajectory id of that one of `others`."""
        wanted = config.plain()
        return next(key for key, other in self.others.items() if other.plain() == wanted)


@dataclass(frozen=True)
class Place:
    """Where a job is done."""

    store: Store
    data_root: Path
    device: torch.device
    num_threads: int
    checkpoint_seconds: float = CHECKPOINT_SECONDS


@dataclass(frozen=True)
class Progress:
    """Where a job stands; yielded at every epoch end, every budget's end, and every second."""

    phase: Literal["other", "reference", "replay"]
    """other: the reference pass of another trajectory, whose w* some run measures against."""
    step: int
    num_steps: int
    """Steps of this pass, to the end of the longest budget."""
    epoch: int
    first_step: int = 0
    """The step at which this pass began or was resumed."""
    evaluation: EpochRecord | None = None
    """The epoch of the reference pass that has just ended."""
    finished: tuple[str, ...] = ()
    """The runs that were sealed since the last yield."""


class Workbench:
    """A job bound to its place: the process set up, the task loaded, trajectories built."""

    def __init__(self, job: Job, place: Place, num_threads: int) -> None:
        self.job = job
        self.place = place
        self.config = job.runs[0].config
        make_deterministic(self.config, num_threads)
        self.environment = describe(place.device, num_threads)
        self.task: Task = self.config.task.bind(self.config, place.data_root, place.device)
        self.folder: Folder = place.store.trajectory(job.trajectory_id)
        self.curve = None if job.follows is None else stored_curve(place.store, job.follows)
        self._reducer: RowReducer | None = None
        self._surface: TrajectorySurface | None = None
        for run in job.runs:
            check_probes(run.config, self.task)

    def trajectory(self) -> Trajectory:
        """The trajectory at t = 0."""
        return Trajectory(self.config, self.task, self.place.device, self.curve)

    def num_steps(self, run: RunJob) -> int:
        """T of a run."""
        return run.config.budget.num_steps(self.task.calendar)

    def measurement(
        self,
        run: RunJob,
        trajectory: Trajectory,
        reference: torch.Tensor | None,
        references: Mapping[str, torch.Tensor] | None = None,
    ) -> Measurement:
        """A run's measurement along that trajectory; all share one reducer's scratch."""
        if self._reducer is None:
            weights = trajectory.flat.weights
            self._reducer = RowReducer(len(weights), weights.device, weights.dtype)
        return Measurement(
            run.run_id,
            run.config,
            calendar=self.task.calendar,
            layout=trajectory.flat.layout,
            reducer=self._reducer,
            reference=reference,
            references=references,
            surface=self._surface_of(trajectory) if run.config.needs_surface() else None,
            unused_rows=lambda: self.task.unused_rows(trajectory.model),
        )

    def _surface_of(self, trajectory: Trajectory) -> TrajectorySurface:
        """One for all measurements along a trajectory: it holds a copy of the network."""
        if self._surface is None or self._surface.trajectory is not trajectory:
            self._surface = TrajectorySurface(trajectory)
        return self._surface

    def new_record(self) -> ReferenceRecord:
        """The record of a reference pass that has not begun."""
        return ReferenceRecord(
            environment=self.environment,
            steps_per_epoch=self.task.steps_per_epoch,
            growth=self.task.calendar.phases[1:],
            data_digest=self.task.data_digest,
        )


def drive(
    trajectory: Trajectory,
    ends: Sequence[int],
    measurements: Sequence[Measurement],
    others: Sequence[Observer] = (),
) -> Iterator[int]:
    """Advance to every epoch end, every one of `ends` and every measurement's end; yields the step.

    Within a long epoch it yields every `SLICE_SECONDS` too. A measurement observes until its own
    budget ends and is flushed at every yield.
    """
    calendar = trajectory.task.calendar
    stops = {*ends, *(measurement.num_steps for measurement in measurements)}
    while trajectory.step < max(ends):
        epoch_end = calendar.start(calendar.place(trajectory.step)[0] + 1)
        until = min([epoch_end, *(stop for stop in stops if stop > trajectory.step)])
        active = [m for m in measurements if m.num_steps > trajectory.step]
        trajectory.advance(until, [*others, *active], seconds=SLICE_SECONDS)
        for measurement in active:
            measurement.flush()
        yield trajectory.step
