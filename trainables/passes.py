"""The work on one trajectory: the reference pass finds w*, the replay pass measures against it.

A generator of `Progress`: whoever drives it may stop at any yield. Every phase begins by asking
what is there already, so doing the same job again goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence

from trainables.checkpoint import Cadence, load_checkpoint
from trainables.job import Job, Place, Progress, RunJob, Workbench, drive
from trainables.measurement import Measurement
from trainables.record import ReferenceRecord, ReplayDiverged
from trainables.reference import ReferencePass, discard, load_record, load_reference
from trainables.results import finish_run, mark_diverged, mark_replay_diverged
from trainables.store import Store
from trainables.trajectory import Trajectory

REPLAY_CHECKPOINT = "replay.safetensors"


def is_settled(store: Store, run_id: str) -> bool:
    """True if nothing is left to do for the run: measured, or diverged in training."""
    manifest = store.run(run_id).manifest()
    return manifest is not None and manifest["status"] != "replay_diverged"


def work(job: Job, place: Place) -> Generator[Progress, None, None]:
    """Bring every run of the job to its end; see `Progress`.

    Raises:
        ReplayDiverged: the replay left the reference pass; its runs are marked, none is good.
        StoreDamaged: a file that the job builds on was altered.
    """
    folder = place.store.trajectory(job.trajectory_id)
    with folder.lock():
        runs = tuple(run for run in job.runs if not is_settled(place.store, run.run_id))
        if not runs:
            return
        for used in (folder, *(place.store.run(run.run_id) for run in runs)):
            used.remove_leftovers()
        bench, record = _set_up(Job(job.trajectory_id, runs), place)
        ends = sorted({bench.num_steps(run) for run in runs})
        direct = [run for run in runs if not run.config.needs_replay()]
        yield from ReferencePass(bench, record).run(ends, direct)
        yield from _settle_diverged(bench, record)
        still_open = [run for run in runs if not is_settled(place.store, run.run_id)]
        yield from ReplayPass(bench, record).run(still_open)


def _set_up(job: Job, place: Place) -> tuple[Workbench, ReferenceRecord]:
    """The workbench under the recorded thread count; another device or version starts anew."""
    folder = place.store.trajectory(job.trajectory_id)
    record = load_record(folder)
    num_threads = record.environment["num_threads"] if record else place.num_threads
    bench = Workbench(job, place, num_threads)
    if record is None:
        return bench, bench.new_record()
    if record.data_digest != bench.task.data_digest:
        reason = "the data set's content changed"
    elif record.environment != bench.environment:
        reason = f"recorded on {record.environment}, now on {bench.environment}"
    else:
        return bench, record
    discard(folder)
    return bench, bench.new_record().model_copy(update={"redone_because": reason})


def _settle_diverged(bench: Workbench, record: ReferenceRecord) -> Iterator[Progress]:
    diverged = [run for run in bench.job.runs if record.end(bench.num_steps(run)) is None]
    for run in diverged:
        folder = bench.place.store.run(run.run_id)
        mark_diverged(folder, run.run_id, bench.job.trajectory_id, run.config, record)
    if diverged:
        step = (record.diverged_at_step or 0) + 1
        epoch = (step - 1) // record.steps_per_epoch
        finished = tuple(run.run_id for run in diverged)
        yield Progress("reference", step, step, epoch, step, finished=finished)


class ReplayPass:
    """The same training again, compared with its record, measured against every open run's w*."""

    def __init__(self, bench: Workbench, record: ReferenceRecord) -> None:
        self.bench = bench
        self.record = record
        self._path = bench.folder.path / REPLAY_CHECKPOINT

    def run(self, runs: Sequence[RunJob]) -> Iterator[Progress]:
        """Replay from t = 0, or from the replay's checkpoint, to the last open budget."""
        if not runs:
            return
        trajectory, measurements = self._start(runs)
        first_step = trajectory.step
        ends = sorted({measurement.num_steps for measurement in measurements})
        cadence = Cadence(self.bench.place.checkpoint_seconds)
        for step in drive(trajectory, ends, measurements):
            if step in ends or step % self.record.steps_per_epoch == 0:
                self._compare(trajectory, runs)
            finished = self._finish(measurements, step)
            if cadence.due():
                still_open = [m for m in measurements if m.num_steps > step]
                cadence.save(self._path, trajectory, still_open, "")
            epoch = (step - 1) // self.record.steps_per_epoch
            yield Progress("replay", step, ends[-1], epoch, first_step, finished=finished)
        self._path.unlink(missing_ok=True)

    def _start(self, runs: Sequence[RunJob]) -> tuple[Trajectory, list[Measurement]]:
        trajectory = self.bench.trajectory()
        measurements = [self._measurement(run, trajectory) for run in runs]
        checkpoint = load_checkpoint(self._path)
        if checkpoint is not None and {run.run_id for run in runs} <= checkpoint.run_ids:
            trajectory.load(checkpoint.state, checkpoint.step)
            for measurement in measurements:
                measurement.load(checkpoint.tables)
        return trajectory, measurements

    def _measurement(self, run: RunJob, trajectory: Trajectory) -> Measurement:
        reference = None
        if run.config.needs_replay():
            end = self.record.end(self.bench.num_steps(run))
            assert end is not None, "runs without a reference are settled before the replay"
            reference = load_reference(self.bench.folder, end, self.bench.place.device)
        return self.bench.measurement(run, trajectory, reference)

    def _compare(self, trajectory: Trajectory, runs: Sequence[RunJob]) -> None:
        current = trajectory.fingerprint()
        epoch, index = divmod(trajectory.step, self.record.steps_per_epoch)
        try:
            if index == 0:
                self.record.check_epoch(epoch - 1, current)
            self.record.check_end(trajectory.step, current)
        except ReplayDiverged:
            self._mark(runs)
            raise

    def _mark(self, runs: Sequence[RunJob]) -> None:
        self._path.unlink(missing_ok=True)
        store, trajectory_id = self.bench.place.store, self.bench.job.trajectory_id
        for run in runs:
            if not is_settled(store, run.run_id):
                folder = store.run(run.run_id)
                mark_replay_diverged(folder, run.run_id, trajectory_id, run.config, self.record)

    def _finish(self, measurements: Sequence[Measurement], step: int) -> tuple[str, ...]:
        done = [measurement for measurement in measurements if measurement.num_steps == step]
        for measurement in done:
            folder = self.bench.place.store.run(measurement.run_id)
            trajectory_id = self.bench.job.trajectory_id
            exact = True if measurement.config.needs_replay() else None
            finish_run(folder, trajectory_id, measurement, self.record, replay_exact=exact)
        return tuple(measurement.run_id for measurement in done)
