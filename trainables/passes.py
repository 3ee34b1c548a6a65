"""The work on one trajectory: the reference pass finds w*, the replay pass measures against it.

A generator of `Progress`: whoever drives it may stop at any yield. Every phase begins by asking
what is there already, so doing the same job again goes on where it stopped.
"""

from __future__ import annotations

import platform
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from geometry.probes.contract import OtherReference
from trainables.checkpoint import Cadence, load_checkpoint
from trainables.config import RunConfig
from trainables.data.same import SHOWN, check_same
from trainables.errors import UserError
from trainables.job import Job, Place, Progress, RunJob, Workbench, drive
from trainables.keepers import keepers_for
from trainables.measurement import Measurement
from trainables.record import ReferenceRecord, ReplayDiverged, sealed_record
from trainables.reference import ReferencePass, discard, load_record, load_reference
from trainables.references import Located, loaded, located, other_record, plain
from trainables.results import finish_run, mark_diverged, mark_replay_diverged
from trainables.store import Folder, Locked, Store
from trainables.trajectory import Trajectory

REPLAY_CHECKPOINT = "replay.safetensors"
LENT = "lent"
"""A note beside a trajectory's lock: another job makes its reference pass, and no more."""
WAIT_SECONDS = 1.0
"""Between two looks at a trajectory that somebody else works on; ours."""


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
    if any(not is_settled(place.store, run.run_id) for run in job.runs):
        # before the own lock is taken: two jobs may want each other's w*
        for trajectory_id, config in job.others.items():
            yield from _other_reference(trajectory_id, config, place, job.data_digest)
    with _own_lock(folder):
        runs = tuple(run for run in job.runs if not is_settled(place.store, run.run_id))
        if not runs:
            return
        for used in (folder, *(place.store.run(run.run_id) for run in runs)):
            used.remove_leftovers()
        bench, record = _set_up(replace(job, runs=runs), place)
        ends = sorted({end for run in runs for end in run.config.reference_ends(record.calendar)})
        direct = [run for run in runs if not run.config.needs_replay()]
        keepers = keepers_for(_wanted(bench))
        yield from ReferencePass(bench, record).run(ends, direct, keepers)
        yield from _settle_diverged(bench, record)
        still_open = [run for run in runs if not is_settled(place.store, run.run_id)]
        yield from ReplayPass(bench, record).run(still_open)


def _set_up(job: Job, place: Place) -> tuple[Workbench, ReferenceRecord]:
    """The workbench under the recorded thread count; another device or version starts anew.

    Raises:
        UserError: the data are not those of the driver, or of the passes that this one builds on.
    """
    folder = place.store.trajectory(job.trajectory_id)
    record = load_record(folder)
    num_threads = record.environment["num_threads"] if record else place.num_threads
    bench = Workbench(job, place, num_threads)
    if not bench.config.data.generated:
        _check_data(bench, record)
    if record is None:
        return bench, bench.new_record()
    if record.data_digest != bench.task.data_digest:
        reason = "the installed code makes other data"
    elif bench.curve and record.schedule.get("schedule_curve") != bench.curve.digest():
        reason = f"run {bench.curve.run_id}, which it follows, was done anew"
    elif record.environment != bench.environment:
        reason = f"recorded on {record.environment}, now on {bench.environment}"
    else:
        return bench, record
    discard(folder)
    return bench, bench.new_record().model_copy(update={"redone_because": reason})


def _check_data(bench: Workbench, record: ReferenceRecord | None) -> None:
    """Compare the data with the driver's, and with those of the passes that are built on."""
    job, data, root = bench.job, bench.config.data, bench.place.data_root
    found = bench.task.data_digest
    used = {job.trajectory_id: record.data_digest} if record else {}
    for trajectory_id in job.others:
        used[trajectory_id] = other_record(bench.place.store, trajectory_id).data_digest
    for trajectory_id, digest in used.items():
        check_same(f"trajectory {trajectory_id}", data, root, digest, found)
    if job.data_digest not in (None, found):
        raise UserError(
            f"data {data.name}: digest {found[:SHOWN]} in {root} on {platform.node()}, where the "
            f"sweep was started with {job.data_digest[:SHOWN]}; give all machines the same files"
        )


def _wanted(bench: Workbench) -> dict[OtherReference, set[int]]:
    """The further references of the runs, each with the budgets at whose ends it is asked for."""
    wanted: dict[OtherReference, set[int]] = {}
    for run in bench.job.runs:
        for reference in run.config.other_references():
            wanted.setdefault(reference, set()).add(bench.num_steps(run))
    return wanted


def _other_reference(
    trajectory_id: str, config: RunConfig, place: Place, data_digest: str | None
) -> Iterator[Progress]:
    """See to it that another trajectory has its w*; whoever is at work on it is waited for."""
    folder = place.store.trajectory(trajectory_id)
    while not _has_reference(folder, config):
        try:
            with folder.lock(patience_seconds=WAIT_SECONDS), _lent(folder):
                run = RunJob(run_id="", config=config)
                job = Job(trajectory_id, (run,), data_digest=data_digest)
                bench, record = _set_up(job, place)
                for progress in ReferencePass(bench, record).run([bench.num_steps(run)]):
                    yield replace(progress, phase="other", evaluation=None)
        except Locked:
            continue


@contextmanager
def _lent(folder: Folder) -> Iterator[None]:
    """Leave a note that the lock is held for the reference pass only, and will be given back."""
    note = folder.path / LENT
    note.touch()
    try:
        yield
    finally:
        note.unlink(missing_ok=True)


@contextmanager
def _own_lock(folder: Folder) -> Iterator[None]:
    """The trajectory's lock; one that is lent is waited for, however long that takes."""
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(folder.lock())
                break
            except Locked:
                if not (folder.path / LENT).exists():
                    raise
        yield


def _has_reference(folder: Folder, config: RunConfig) -> bool:
    """True if the trajectory is sealed with the end of that budget, reached or not."""
    record = sealed_record(folder)
    return record is not None and record.covers(config.budget.num_steps(record.calendar))


def _settle_diverged(bench: Workbench, record: ReferenceRecord) -> Iterator[Progress]:
    diverged = [run for run in bench.job.runs if record.end(bench.num_steps(run)) is None]
    for run in diverged:
        folder = bench.place.store.run(run.run_id)
        mark_diverged(folder, run.run_id, bench.job.trajectory_id, run.config, record)
    if diverged:
        step = (record.diverged_at_step or 0) + 1
        epoch, _ = record.calendar.place(step - 1)
        finished = tuple(run.run_id for run in diverged)
        yield Progress("reference", step, step, epoch, step, finished=finished)


class ReplayPass:
    """The same training again, compared with its record, measured against every open run's w*."""

    def __init__(self, bench: Workbench, record: ReferenceRecord) -> None:
        self.bench = bench
        self.record = record
        self._path = bench.folder.path / REPLAY_CHECKPOINT
        self._located: dict[str, dict[str, Located | None]] = {}

    def run(self, runs: Sequence[RunJob]) -> Iterator[Progress]:
        """Replay from t = 0, or from the replay's checkpoint, to the last open budget."""
        if not runs:
            return
        trajectory, measurements = self._start(runs)
        first_step = trajectory.step
        ends = sorted({measurement.num_steps for measurement in measurements})
        cadence = Cadence(self.bench.place.checkpoint_seconds)
        for step in drive(trajectory, ends, measurements):
            if step in ends or self.record.calendar.place(step)[1] == 0:
                self._compare(trajectory, runs)
            finished = self._finish(measurements, step)
            if cadence.due():
                still_open = [m for m in measurements if m.num_steps > step]
                cadence.save(self._path, trajectory, still_open, "")
            epoch, _ = self.record.calendar.place(step - 1)
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
        found = located(self.bench.job, self.bench.place.store, run.config, self.record)
        self._located[run.run_id] = found
        references = loaded(self.bench.place.store, found, trajectory.flat.weights)
        return self.bench.measurement(run, trajectory, reference, references)

    def _compare(self, trajectory: Trajectory, runs: Sequence[RunJob]) -> None:
        current = trajectory.fingerprint()
        epoch, index = self.record.calendar.place(trajectory.step)
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
            places = plain(self._located[measurement.run_id])
            finish_run(
                folder,
                trajectory_id,
                measurement,
                self.record,
                replay_exact=exact,
                references=places,
            )
        return tuple(measurement.run_id for measurement in done)
