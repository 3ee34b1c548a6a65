"""Verification of a stored run: its files are re-hashed, one drawn epoch of it is replayed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from geometry.columns import WHOLE_RUN_COLUMNS
from geometry.probes.contract import Probe
from geometry.probes.registry import PROBES
from geometry.whole_run import Columns
from trainables.checkpoint import load_checkpoint
from trainables.config import RunConfig
from trainables.environment import describe
from trainables.errors import UserError
from trainables.job import Job, Place, RunJob, Workbench, drive
from trainables.measurement import Measurement
from trainables.record import ReferenceRecord, sealed_record
from trainables.reference import DRAWN, load_reference
from trainables.references import loaded, parsed
from trainables.store import Folder, Store, StoreDamaged, read_table
from trainables.tables import epochs_table, labelled_table, steps_table
from trainables.trajectory import Trajectory
from trainables.whole_run import whole_run_columns

DERIVED = frozenset(column.name for column in WHOLE_RUN_COLUMNS)
"""Columns that one epoch cannot give; they are computed again from the stored tables."""
NONE: frozenset[str] = frozenset()


def verify_run(store: Store, run_id: str, *, data_root: Path, device: torch.device) -> None:
    """Check that the store still holds what was computed, as far as one replayed epoch can tell.

    Files are compared with their hashes; the tables of the drawn epoch and the weights at its end
    with a replay from its checkpoint, bit for bit; the null model's columns and the epochs table
    with what the stored steps table gives.

    Raises:
        StoreDamaged: a file is missing, altered, or holds other numbers than the replay.
        ReplayDiverged: the replayed epoch ends at other weights than the reference pass did.
        UserError: the run is not done, or cannot be replayed bit for bit here.
    """
    folder = store.run(run_id)
    manifest = folder.manifest()
    if manifest is None:
        raise UserError(f"{folder.path}: no finished run; type optpath run to finish it")
    if manifest["status"] == "replay_diverged":
        raise UserError(f"{folder.path}: its replay diverged, nothing to verify; run it again")
    folder.check_files()
    stored = _load(store, folder, manifest)
    stored.trajectory.check_files()
    _check_environment(stored, device)
    _replay_epoch(stored, store, data_root, device)
    if manifest["status"] == "done":
        _check_derived(stored)


@dataclass(frozen=True)
class _Stored:
    """A run as the store has it."""

    run: RunJob
    folder: Folder
    manifest: dict[str, Any]
    trajectory_id: str
    trajectory: Folder
    record: ReferenceRecord

    @property
    def num_steps(self) -> int:
        return int(self.manifest["num_steps"])

    def start(self) -> int:
        """First step of the epoch to replay: the drawn one, or the first if that is not kept."""
        epoch = self.record.drawn_epoch or 0
        start = self.record.calendar.start(epoch)
        kept = (self.trajectory.path / DRAWN).is_file()
        return start if kept and start < self.num_steps else 0

    def table(self, name: str) -> pd.DataFrame:
        return read_table(self.folder.path / f"{name}.parquet")


def _load(store: Store, folder: Folder, manifest: dict[str, Any]) -> _Stored:
    trajectory = store.trajectory(manifest["trajectory_id"])
    record = sealed_record(trajectory)
    if record is None:
        raise StoreDamaged(f"{trajectory.manifest_path}: missing; type optpath run to make it anew")
    run = RunJob(manifest["run_id"], RunConfig.parse(manifest["config"]))
    return _Stored(run, folder, manifest, manifest["trajectory_id"], trajectory, record)


def _check_environment(stored: _Stored, device: torch.device) -> None:
    """Another device, version or thread count changes the last bits; nothing follows from that."""
    recorded, sealed = stored.manifest["environment"], stored.record.environment
    if recorded != sealed:
        raise UserError(
            f"{stored.folder.path}: its reference pass was redone since "
            f"({_differences(recorded, sealed)}), so it cannot be replayed bit for bit"
        )
    here = describe(device, sealed["num_threads"])
    if sealed != here:
        raise UserError(
            f"{stored.folder.path}: cannot be verified bit for bit here: "
            f"{_differences(sealed, here)}; verify it where it was computed"
        )


def _differences(recorded: dict[str, Any], here: dict[str, Any]) -> str:
    keys = sorted(key for key in {*recorded, *here} if recorded.get(key) != here.get(key))
    parts = (f"{key} was {recorded.get(key)} and is {here.get(key)}" for key in keys)
    return ", ".join(parts)


def _replay_epoch(stored: _Stored, store: Store, data_root: Path, device: torch.device) -> None:
    """Replay from the start of the epoch to its end, or to the end of a shorter budget."""
    record, follows = stored.record, stored.record.schedule.get("schedule_follows")
    followed = None if follows is None else str(follows)
    job = Job(stored.trajectory_id, (stored.run,), follows=followed)
    num_threads = record.environment["num_threads"]
    bench = Workbench(job, Place(store, data_root, device, num_threads), num_threads)
    if record.data_digest != bench.task.data_digest:
        raise UserError(
            f"{stored.folder.path}: the data set's content changed since; "
            "point OPTPATH_DATA at the data that it was computed from"
        )
    if bench.curve and record.schedule["schedule_curve"] != bench.curve.digest():
        raise UserError(
            f"{stored.folder.path}: run {bench.curve.run_id}, whose local learning rates it "
            "follows, was done anew since; type optpath run to do this one anew as well"
        )
    trajectory = _at(stored, bench.trajectory())
    calendar = record.calendar
    epoch = calendar.place(trajectory.step)[0]
    epoch_end = calendar.start(epoch + 1)
    end = min(epoch_end, stored.num_steps)
    if stored.manifest["status"] == "diverged" and calendar.start(len(record.epochs)) < end:
        return  # it broke within this epoch, so there is no recorded end to compare with
    measurements = _measurements(stored, bench, trajectory, device)
    for _ in drive(trajectory, [end], measurements):
        pass
    for measurement in measurements:
        _compare_tables(stored, measurement.tables(), measurement)
    if end == epoch_end:
        record.check_epoch(epoch, trajectory.fingerprint())
    record.check_end(end, trajectory.fingerprint())


def _at(stored: _Stored, trajectory: Trajectory) -> Trajectory:
    """The trajectory at the start of the epoch to replay."""
    start = stored.start()
    if start:
        checkpoint = load_checkpoint(stored.trajectory.path / DRAWN)
        assert checkpoint is not None, "`start` has looked for the file"
        trajectory.load(checkpoint.state, checkpoint.step)
    return trajectory


def _measurements(
    stored: _Stored, bench: Workbench, trajectory: Trajectory, device: torch.device
) -> list[Measurement]:
    """The run's own measurement; none for a run that diverged, which has no tables."""
    if stored.manifest["status"] != "done":
        return []
    reference = None
    if stored.run.config.needs_replay():
        end = stored.record.end(stored.num_steps)
        if end is None:
            path = stored.trajectory.manifest_path
            raise StoreDamaged(f"{path}: has no reference after {stored.num_steps} steps")
        reference = load_reference(stored.trajectory, end, device)
    places = parsed(stored.manifest.get("references", {}))
    references = loaded(bench.place.store, places, trajectory.flat.weights)
    return [bench.measurement(stored.run, trajectory, reference, references)]


def _compare_tables(
    stored: _Stored, replayed: dict[str, Columns], measurement: Measurement
) -> None:
    """Compare every row of the replayed epoch with the stored tables, bit for bit."""
    run_id, calendar = stored.run.run_id, stored.record.calendar
    for name, columns in replayed.items():
        if name == "steps":
            expected = steps_table(run_id, columns, calendar)
        else:
            expected = labelled_table(run_id, columns, measurement.labels[name], calendar)
        table, start = stored.table(name), stored.start()
        rows = table["epoch"] == calendar.place(start)[0]
        found = table[rows].reset_index(drop=True)
        looking_back = [p for p in PROBES.values() if p.table == name and p.remembers and start]
        unseen = _names(probe for probe in looking_back if not probe.starts_anywhere)
        partly = _names(looking_back)
        _compare(stored, name, found, expected, without=DERIVED | unseen, partly=partly)


def _names(probes: Iterable[type[Probe]]) -> frozenset[str]:
    return frozenset(column.name for probe in probes for column in probe.columns)


def _check_derived(stored: _Stored) -> None:
    """Compute again what follows from the stored tables: the null model, windows, the epochs."""
    steps, config = stored.table("steps"), stored.run.config
    names = {PROBES[probe.name].table for probe in config.all_probes()}
    tables = {name: _columns(stored.table(name)) for name in {"steps", *names}}
    again = whole_run_columns(config, tables)
    expected = steps.assign(**{name: values.numpy() for name, values in again.items()})
    _compare(stored, "steps", steps, expected)
    rows = stored.record.rows_until(stored.num_steps)
    expected = epochs_table(stored.run.run_id, steps, rows)
    _compare(stored, "epochs", stored.table("epochs"), expected)


def _columns(table: pd.DataFrame) -> Columns:
    """The measured columns of a stored table, [rows] or [rows, labels]."""
    names = [name for name in table if name not in ("run_id", "label", "epoch", *DERIVED)]
    values = {str(name): torch.tensor(table[name].to_numpy()) for name in names}
    if "label" not in table:
        return values
    num_labels = table["label"].nunique()
    values = {name: column.view(-1, num_labels) for name, column in values.items()}
    return values | {"step": values["step"][:, 0]}


def _compare(
    stored: _Stored,
    name: str,
    found: pd.DataFrame,
    expected: pd.DataFrame,
    without: frozenset[str] = NONE,
    partly: frozenset[str] = NONE,
) -> None:
    """Raise StoreDamaged at the first difference.

    `partly` are columns of which the first rows look back to before the replay: NaN there.
    """
    path = stored.folder.path / f"{name}.parquet"
    expected = expected[[column for column in expected if column not in without]]
    columns = [column for column in found if column not in without]
    if columns != list(expected) or len(found) != len(expected):
        raise StoreDamaged(f"{path}: other rows or columns than a replay gives")
    for column in columns:
        differ = _bits(found[column]) != _bits(expected[column])
        if column in partly:
            differ &= expected[column].notna().to_numpy()
        if differ.any():
            row = int(differ.argmax())
            place = "step" if "step" in found else "epoch"
            stands, replayed = (table[column].tolist()[row] for table in (found, expected))
            raise StoreDamaged(
                f"{path}: {column} of {place} {found[place][row]} is {stands!r} "
                f"where a replay gives {replayed!r}"
            )


def _bits(column: pd.Series[Any]) -> NDArray[Any]:
    """The values such that == is bitwise equality; every NaN is one value, as in the files."""
    values: NDArray[Any] = column.to_numpy()
    if values.dtype != np.float64:
        return values
    bits: NDArray[Any] = np.where(np.isnan(values), np.float64("nan"), values).view(np.int64)
    return bits
