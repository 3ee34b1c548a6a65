"""The reference pass: trains to the end of every budget, and keeps w* of each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from geometry.recorder import Recorder
from trainables.checkpoint import Cadence, Carried, load_checkpoint, save_checkpoint
from trainables.job import Progress, RunJob, Workbench, drive
from trainables.keepers import Keeper
from trainables.measurement import Measurement
from trainables.noise import warnings_of
from trainables.randomness import fold
from trainables.record import (
    End,
    EpochRecord,
    Evaluation,
    Kept,
    ReferenceRecord,
    sealed_record,
    without_test,
)
from trainables.results import finish_run
from trainables.store import Folder, StoreDamaged, read_tensors, write_tensors, write_yaml
from trainables.trajectory import Trajectory, fingerprint

CHECKPOINT = "checkpoint.safetensors"
DRAWN = "drawn.safetensors"
"""State at the start of one drawn epoch, which `optpath verify` replays."""


def load_record(folder: Folder) -> ReferenceRecord | None:
    """The record of a reference pass that is done or under way, None if there is none."""
    sealed = sealed_record(folder)
    checkpoint = load_checkpoint(folder.path / CHECKPOINT)
    records = [sealed] if sealed else []
    if checkpoint is not None:
        records.append(ReferenceRecord.model_validate_json(checkpoint.record))
    # a longer budget under way is ahead of the manifest, a shorter one added later behind it
    return max(records, key=lambda r: (len(r.epochs), len(r.ends), len(r.kept)), default=None)


def load_reference(folder: Folder, end: End | Kept, device: torch.device) -> Tensor:
    """w* of one budget, or a kept vector, on the device.

    Raises:
        StoreDamaged: it is not the recorded one.
    """
    tensors, _ = read_tensors(folder.path / end.file)
    if "weights" not in tensors or fingerprint(tensors["weights"]) != end.fingerprint:
        raise StoreDamaged(f"{folder.path / end.file}: damaged; delete its folder and run again")
    return tensors["weights"].to(device)


def discard(folder: Folder) -> None:
    """Throw a reference pass away: the manifest first, its own checkpoint last.

    A kill on the way leaves that checkpoint, whose record has the rest discarded the next time.
    """
    others = {*folder.path.rglob("*.safetensors")} - {folder.path / CHECKPOINT}
    for path in (folder.manifest_path, *others, folder.path / CHECKPOINT):
        path.unlink(missing_ok=True)


class ReferencePass:
    """One trajectory's reference pass; `record` grows while `run` is driven."""

    def __init__(self, bench: Workbench, record: ReferenceRecord) -> None:
        self.bench = bench
        self.record = record
        self._path = bench.folder.path
        self._cadence = Cadence(bench.place.checkpoint_seconds)
        self._saves = True
        self._first_step = 0
        self._keepers: list[Keeper] = []

    def run(
        self,
        ends: Sequence[int],
        watched_runs: Sequence[RunJob] = (),
        keepers: Sequence[Keeper] = (),
    ) -> Iterator[Progress]:
        """Train until every end is covered; runs that need no reference are measured on the way.

        A watched run is measured only if the pass has its steps from t = 0 on; one that is not
        stays open, for the replay. A trajectory that is there already is trained again for what a
        keeper is to keep of it, and compared with its record on the way.
        """
        self._keepers = [keeper for keeper in keepers if not keeper.covered(self.record)]
        kept_ends = {end for keeper in self._keepers for end in keeper.ends}
        open_ends = sorted(
            {end for end in ends if not self.record.covers(end)}
            | {end for end in kept_ends if not self._diverged_before(end)}
        )
        if not open_ends:
            self._seal_if_open()
            return
        trajectory, watched = self._start(min(open_ends), watched_runs)
        self._first_step = trajectory.step
        losses = Recorder([], self.record.steps_per_epoch, self.bench.place.device)
        self._at_start(trajectory, open_ends)
        for step in drive(trajectory, open_ends, watched, [losses, *self._keepers]):
            self._note_divergence(trajectory, losses, step in open_ends)
            self.record.schedule |= trajectory.pace.report()
            evaluated = self._record_boundary(trajectory, open_ends)
            finished = self._finish(watched, step)
            if self._saves and self._cadence.due():
                path = self._path / CHECKPOINT
                carried: list[Carried] = [*watched, *self._keepers]
                self._cadence.save(path, trajectory, carried, self.record.text())
            yield self._progress(step, max(open_ends), evaluated, finished)
            if self._diverged_before(step):
                break
        if self._saves:
            path = self._path / CHECKPOINT
            save_checkpoint(path, trajectory, self._keepers, self.record.text())
        self._seal()

    def _start(
        self, first_end: int, runs: Sequence[RunJob]
    ) -> tuple[Trajectory, list[Measurement]]:
        """From the last checkpoint, or from t = 0 where that lies beyond the first end."""
        trajectory = self.bench.trajectory()
        checkpoint = load_checkpoint(self._path / CHECKPOINT)
        self._saves = checkpoint is None or checkpoint.step <= first_end
        kept = {keeper.run_id for keeper in self._keepers}
        if checkpoint is None or not self._saves or not kept <= checkpoint.run_ids:
            return trajectory, [self.bench.measurement(run, trajectory, None) for run in runs]
        trajectory.load(checkpoint.state, checkpoint.step)
        for keeper in self._keepers:
            keeper.load(checkpoint.tables)
        known = [run for run in runs if run.run_id in checkpoint.run_ids]
        watched = [self.bench.measurement(run, trajectory, None) for run in known]
        for measurement in watched:
            measurement.load(checkpoint.tables)
        return trajectory, watched

    def _at_start(self, trajectory: Trajectory, ends: Sequence[int]) -> None:
        if trajectory.step == 0:
            self.record.initial = self._evaluate(trajectory, ("train", "validation"))
            self.record.schedule = {**trajectory.pace.report(), **warnings_of(trajectory)}
            self._keep_drawn(trajectory, ends)
        if not (self._path / "config.yaml").is_file():
            write_yaml(self._path / "config.yaml", self.bench.config.plain())

    def _diverged_before(self, step: int) -> bool:
        """True if w_step cannot be a reference; a shorter budget than the broken one still can."""
        broken = self.record.diverged_at_step
        return broken is not None and broken < step

    def _note_divergence(self, trajectory: Trajectory, losses: Recorder, at_end: bool) -> None:
        """The first step whose loss is no number, or the last one if it broke the weights."""
        steps, values, _ = losses.flush()
        broken = steps[~torch.isfinite(values)].tolist()
        if broken:
            self.record.diverged_at_step = broken[0]
        elif (at_end or self._at_epoch_end(trajectory.step)) and not trajectory.is_finite():
            self.record.diverged_at_step = trajectory.step - 1

    def _at_epoch_end(self, step: int) -> bool:
        return self.record.calendar.place(step)[1] == 0

    def _record_boundary(self, trajectory: Trajectory, ends: Sequence[int]) -> EpochRecord | None:
        step = trajectory.step
        if self._diverged_before(step):
            return None
        epoch, _ = self.record.calendar.place(step - 1)
        at_epoch_end, at_end = self._at_epoch_end(step), step in ends
        if not (at_epoch_end or at_end):
            return None
        due = at_epoch_end and (epoch + 1) % self.bench.config.evaluate_every_epochs == 0
        splits = self.bench.task.splits if at_end else ("train", "validation")
        evaluation = self._evaluate(trajectory, splits) if at_end or due else {}
        current = trajectory.fingerprint()
        for keeper in self._keepers:
            keeper.at_boundary(trajectory, evaluation if due else {})
        if at_end:
            self._keep_reference(trajectory, current, evaluation)
        if not at_epoch_end:
            return None
        self._keep_drawn(trajectory, ends)
        # only what the cadence asks for: another budget's end must not change this run's table
        kept = without_test(evaluation) if due else {}
        return self._keep_epoch(
            EpochRecord(epoch=epoch, step=step, fingerprint=current, evaluation=kept)
        )

    def _keep_epoch(self, record: EpochRecord) -> EpochRecord:
        if self.record.epoch(record.epoch) is None:
            self.record.epochs.append(record)
        self.record.check_epoch(record.epoch, record.fingerprint)
        return record

    def _keep_reference(self, trajectory: Trajectory, current: str, evaluation: Evaluation) -> None:
        metadata = trajectory.flat.layout.metadata()
        for keeper in self._keepers:
            known = self.record.kept_vector(keeper.label, trajectory.step)
            if trajectory.step in keeper.ends and known is None:
                kept, vector = keeper.kept(trajectory)
                write_tensors(self._path / kept.file, {"weights": vector}, metadata)
                self.record.kept.append(kept)
        if self.record.end(trajectory.step) is not None:
            return
        end = End(
            step=trajectory.step,
            file=f"references/{trajectory.step}.safetensors",
            fingerprint=current,
            evaluation=evaluation,
        )
        write_tensors(self._path / end.file, {"weights": trajectory.flat.weights}, metadata)
        self.record.ends = sorted([*self.record.ends, end], key=lambda end: end.step)

    def _keep_drawn(self, trajectory: Trajectory, ends: Sequence[int]) -> None:
        """Save the state at the start of the drawn epoch, one of those before the first end."""
        if self.record.drawn_epoch is None:
            num_epochs = max(1, self.record.calendar.place(min(ends))[0])
            self.record.drawn_epoch = fold(0, self.bench.job.trajectory_id) % num_epochs
        at_start = trajectory.step == self.record.calendar.start(self.record.drawn_epoch)
        # one that a manifest names already stays as it is
        if at_start and not (self.bench.folder.manifest() and (self._path / DRAWN).is_file()):
            save_checkpoint(self._path / DRAWN, trajectory, [], self.record.text())

    def _evaluate(self, trajectory: Trajectory, splits: Sequence[str]) -> Evaluation:
        """Values by name; one that is no number is left out, so that missing stays missing."""
        values = {
            f"{split}_{name}": value
            for split in splits
            for name, value in trajectory.evaluate(split).items()
        }
        return {name: value for name, value in values.items() if math.isfinite(value)}

    def _finish(self, watched: Sequence[Measurement], step: int) -> tuple[str, ...]:
        done = [m for m in watched if m.num_steps == step and self.record.end(step) is not None]
        if done:  # a run must not be done without the trajectory that it names
            self._seal()
        for measurement in done:
            folder = self.bench.place.store.run(measurement.run_id)
            trajectory_id = self.bench.job.trajectory_id
            finish_run(folder, trajectory_id, measurement, self.record, replay_exact=None)
        return tuple(measurement.run_id for measurement in done)

    def _progress(
        self, step: int, num_steps: int, evaluated: EpochRecord | None, finished: tuple[str, ...]
    ) -> Progress:
        epoch, _ = self.record.calendar.place(step - 1)
        return Progress("reference", step, num_steps, epoch, self._first_step, evaluated, finished)

    def _seal_if_open(self) -> None:
        """Seal what a kill between the last checkpoint and the manifest left open."""
        manifest = self.bench.folder.manifest()
        if manifest is None or manifest["record"] != self.record.plain():
            self._seal()

    def _seal(self) -> None:
        values = {
            "trajectory_id": self.bench.job.trajectory_id,
            "config": self.bench.config.plain(),
            "record": self.record.plain(),
        }
        kept: list[End | Kept] = [*self.record.ends, *self.record.kept]
        files = ["config.yaml", *(vector.file for vector in kept)]
        if (self._path / DRAWN).is_file():  # not there if the training diverged before that epoch
            files.append(DRAWN)
        self.bench.folder.write_manifest(values, files)
