"""A sweep as tidy tables: one row per run, per epoch, per step."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from analysis.cache import cached, digest_of
from analysis.columns import documentation
from analysis.sources import MlflowSource, Source, StoreSource
from trainables.store import StoreDamaged, StoreTooNew, UserError

STATE_COLUMNS = (
    "status",
    "replay_exact",
    "regime",
    "num_steps",
    "steps_per_epoch",
    "diverged_at_step",
)

T = TypeVar("T")


@dataclass
class Sweep:
    """A sweep's tables.

    `runs` has one row per planned run: run_id, trajectory_id, every varied config field by its
    dotted name, ablations (labels joined by commas), status, replay_exact, regime, num_steps,
    steps_per_epoch, diverged_at_step, then last, best and test metrics, and what a schedule that
    changes at a point did (schedule_change_step, ...). What is not known is missing (NaN, NA or
    None), never a number. status is one of done, diverged, replay_diverged, failed, unfinished,
    not started, unreadable. `columns` documents the columns of all tables, with units.
    `problems` names in words every run that is not done, every replay that was not exact, and
    every run of which an MLflow server has the values but not the files.
    `cache_folder` holds tables reduced from the steps and epochs; None: none are kept.
    """

    name: str
    plan: dict[str, Any]
    runs: pd.DataFrame
    manifests: dict[str, dict[str, Any]]
    problems: list[str]
    spec: str | None
    source: Source
    cache_folder: Path | None = None
    _remembered: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def stand_in(self) -> str:
        """What stands in for data that cannot be had, as its plan says; empty: nothing does."""
        return str(self.plan.get("stand_in", ""))

    @property
    def usable(self) -> pd.DataFrame:
        """The rows of `runs` that count: done, and not with a replay that missed w*."""
        runs = self.runs
        return runs[(runs["status"] == "done") & runs["replay_exact"].fillna(True)]

    @property
    def epochs(self) -> pd.DataFrame:
        """One row per run with a manifest and epoch: run_id, epoch, num_steps, aggregates."""
        return self.remember("epochs", lambda: self._epochs(None))

    @property
    def columns(self) -> pd.DataFrame:
        """The documentation of the tables: table, column, dtype, unit, meaning."""
        tables = {"runs": self.runs, "epochs": self.epochs, "steps": self._first_steps()}
        return documentation(tables)

    def epoch_columns(self, columns: Sequence[str]) -> pd.DataFrame:
        """run_id, epoch, num_steps and those columns of `epochs`, without reading all of it."""
        wanted = ["run_id", "epoch", "num_steps", *columns]
        if "epochs" not in self._remembered and self.cache_folder is not None:
            return self._epochs(wanted)
        return self.epochs[[name for name in wanted if name in self.epochs.columns]]

    def steps(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """One row per usable run and step: run_id, step, epoch, and those columns (None: all).

        Columns that no run has are left out. All runs' steps are in memory together: for many long
        runs use `map_steps`.
        """
        wanted = None if columns is None else list(dict.fromkeys(["run_id", *_PLACE, *columns]))
        tables = (self.source.table(run, "steps", wanted) for run in self.usable["run_id"])
        found = [table for table in tables if table is not None]
        if wanted is not None:
            found = [table[[name for name in wanted if name in table.columns]] for table in found]
        return _concat(found, ["run_id", *_PLACE])

    def map_steps(
        self,
        reduce: Callable[[str, pd.DataFrame], T],
        columns: Sequence[str],
        run_ids: Iterable[str] | None = None,
    ) -> dict[str, T]:
        """reduce(run_id, that run's step, epoch and those columns) of every usable run with steps.

        A few runs' steps are in memory at a time. `run_ids`: those runs only.
        """
        wanted = list(dict.fromkeys([*_PLACE, *columns]))
        chosen = self.usable["run_id"] if run_ids is None else run_ids
        tables = read_ahead(lambda run_id: self.source.table(run_id, "steps", wanted), chosen)
        return {run_id: reduce(run_id, table) for run_id, table in tables if table is not None}

    def planned_in(self, label: str) -> pd.DataFrame:
        """The rows of `runs` of that ablation."""
        members = {run["run_id"] for run in self.plan["runs"] if label in run["ablations"]}
        return self.runs[self.runs["run_id"].isin(members)]

    def in_ablation(self, label: str) -> pd.DataFrame:
        """The usable runs of that ablation."""
        planned = self.planned_in(label)
        return planned[planned["run_id"].isin(self.usable["run_id"])]

    def remember(self, name: str, make: Callable[[], T]) -> T:
        """What `make` returned when that name was first asked for."""
        if name not in self._remembered:
            self._remembered[name] = make()
        found: T = self._remembered[name]
        return found

    @property
    def environment(self) -> dict[str, str]:
        """Versions, devices and the data's digest; the values of runs that differ, all of them."""
        found: dict[str, dict[str, None]] = {}
        for manifest in self.manifests.values():
            values = {**manifest["environment"], "data_digest": manifest["data_digest"]}
            for name, value in values.items():
                found.setdefault(name, {})[str(value)] = None
        return {name: " | ".join(values) for name, values in found.items()}

    def content_of(self, run_ids: Iterable[str]) -> list[Any]:
        """The names and hashes of those runs' files: equal where their tables are."""
        return [[run_id, self.manifests[run_id].get("files")] for run_id in sorted(run_ids)]

    def _epochs(self, columns: Sequence[str] | None) -> pd.DataFrame:
        folder = self.cache_folder
        key = digest_of(self.content_of(self.manifests))
        return cached(folder and folder / "epochs.parquet", key, self._read_epochs, columns)

    def _read_epochs(self) -> pd.DataFrame:
        found = []
        read = partial(self.source.table, name="epochs", columns=None)
        for run_id, table in read_ahead(read, self.manifests):
            if table is not None:
                found.append(table)
            elif "epochs.parquet" in self.manifests[run_id].get("files", {}):
                where = f"{self.source.where}: run {run_id}"
                raise StoreDamaged(f"{where}: no epochs.parquet, though its manifest names it")
        return _concat(found, ["run_id", "epoch", "num_steps"])

    def _first_steps(self) -> pd.DataFrame:
        tables = (self.source.table(run, "steps", None) for run in self.usable["run_id"])
        return next((t for t in tables if t is not None), pd.DataFrame(columns=["run_id", *_PLACE]))


_PLACE = ("step", "epoch")
READERS = 2
"""Threads that read; ours: with one, the epochs of 1,000 runs take longer."""
AHEAD = 3
"""Tables that wait to be reduced: enough for a reader that is now faster, now slower."""


def load_sweep(
    name: str, storage: Path | str | None = None, tracking_uri: str | None = None
) -> Sweep:
    """The tables of a sweep, from a store or from an MLflow server alone.

    A server whose artifacts are gone still has the plan's runs and, from its metrics, their epochs:
    the means, of gamma the extremes, and the evaluations. Steps are in the artifacts alone.

    `storage` is the storage folder; None: OPTPATH_STORAGE, else ./optpath-results. With a
    `tracking_uri` the sweep is read from that server and no store is needed.

    Raises:
        UserError: both places given; no such sweep there (lists those that are); server down; the
            sweep's plan written by a newer version.
        StoreDamaged: a plan, manifest or table was altered.
    """
    if storage is not None and tracking_uri is not None:
        raise UserError("load_sweep: give storage or tracking_uri, not both")
    if tracking_uri is not None:
        return sweep_from(name, MlflowSource(name, tracking_uri))
    root = Path(storage or os.environ.get("OPTPATH_STORAGE") or "optpath-results")
    source = StoreSource(name, root)
    return replace(sweep_from(name, source), cache_folder=source.cache_folder)


def read_ahead(
    read: Callable[[str], T], names: Iterable[str]
) -> Generator[tuple[str, T], None, None]:
    """(name, read(name)) in order, the next AHEAD read by other threads meanwhile.

    Reading a table leaves the interpreter free for most of its time.
    """
    with ThreadPoolExecutor(max_workers=READERS) as reader:
        waiting: deque[tuple[str, Future[T]]] = deque()
        try:
            for name in names:
                waiting.append((name, reader.submit(read, name)))
                if len(waiting) > AHEAD:
                    first, table = waiting.popleft()
                    yield first, table.result()
            for first, table in waiting:
                yield first, table.result()
        finally:
            reader.shutdown(cancel_futures=True)


def axis_value(run: Mapping[str, Any], axis: str) -> Any:
    """The planned run's value of a dotted config field, as a plain label; None: the default."""
    if axis in run["axes"]:
        return plain_label(run["axes"][axis])
    return flatten(run["config"]).get(axis)


def plain_label(value: Any) -> Any:
    """A config value that fits a table cell: numbers and text stay, the rest becomes text."""
    if isinstance(value, Mapping):
        options = [f"{key}={plain_label(item)}" for key, item in value.items() if key != "name"]
        return " ".join([str(value["name"])] * ("name" in value) + options)
    if isinstance(value, list | tuple):
        return "-".join(str(plain_label(item)) for item in value)
    return value


def sweep_from(name: str, source: Source) -> Sweep:
    """The tables of a sweep, from wherever the source has them."""
    plan = source.plan()
    found, too_new = _manifests(source, [run["run_id"] for run in plan["runs"]])
    varied = _varied_fields(plan)
    rows, problems = [], []
    for run in plan["runs"]:
        run_id = run["run_id"]
        newer = ({"status": "unreadable"}, too_new.get(run_id, ""))
        state, words = newer if run_id in too_new else _state(run, found.get(run_id), source)
        rows.append({**_identity(run, varied), **state})
        if words:
            problems.append(f"run {run['run_id']} ({_describe(run)}): {words}")
    return Sweep(
        name=name,
        plan=plan,
        runs=_typed(pd.DataFrame(rows, columns=_columns(rows, varied))),
        manifests=found,
        problems=problems,
        spec=source.spec(),
        source=source,
    )


def _manifests(
    source: Source, run_ids: Iterable[str]
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """The manifests that are there, and why others cannot be read."""
    found: dict[str, dict[str, Any]] = {}
    too_new: dict[str, str] = {}
    for run_id in run_ids:
        try:
            manifest = source.manifest(run_id)
        except StoreTooNew as error:
            too_new[run_id] = str(error)
            continue
        if manifest is not None:
            found[run_id] = manifest
    return found, too_new


def _state(
    run: Mapping[str, Any], manifest: Mapping[str, Any] | None, source: Source
) -> tuple[dict[str, Any], str]:
    if manifest is None:
        status, words = source.state(run["run_id"], run["trajectory_id"])
        return {"status": status}, words
    known = {name: manifest.get(name) for name in STATE_COLUMNS}
    schedule = manifest.get("schedule", {})
    return {**known, **manifest["metrics"], **schedule}, _complaint(manifest)


def _complaint(manifest: Mapping[str, Any]) -> str:
    if manifest["status"] == "diverged":
        return f"diverged at step {manifest['diverged_at_step']} (NaN or Inf); not in any trend"
    if manifest["status"] == "replay_diverged" or manifest.get("replay_exact") is False:
        return "its replay did not end at w*; its values are not used"
    if "files" not in manifest:
        return "its files are not on this server: epochs from its metrics, and no steps"
    return ""


def _identity(run: Mapping[str, Any], varied: Iterable[str]) -> dict[str, Any]:
    return {
        "run_id": run["run_id"],
        "trajectory_id": run["trajectory_id"],
        **{name: axis_value(run, name) for name in varied},
        "ablations": ",".join(run["ablations"]),
    }


def _describe(run: Mapping[str, Any]) -> str:
    values = [f"{axis}={plain_label(value)}" for axis, value in run["axes"].items()]
    return ", ".join([" + ".join(run["ablations"]), *values])


def _varied_fields(plan: Mapping[str, Any]) -> list[str]:
    runs = plan["runs"]
    axes = list(dict.fromkeys(a for about in plan["ablations"].values() for a in about["axes"]))
    flat = [flatten(run["config"]) for run in runs]
    names = dict.fromkeys(name for config in flat for name in config)
    varied = [name for name in names if len({config.get(name) for config in flat}) > 1]
    covered = tuple(f"{axis}." for axis in axes)
    return axes + [name for name in varied if name not in axes and not name.startswith(covered)]


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested config values under dotted fields, each as a plain label."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = plain_label(value)
    return flat


def _columns(rows: Iterable[Mapping[str, Any]], varied: Iterable[str]) -> list[str]:
    first = ["run_id", "trajectory_id", *varied, "ablations", *STATE_COLUMNS]
    metrics = sorted({name for row in rows for name in row} - set(first))
    return first + metrics


def _typed(runs: pd.DataFrame) -> pd.DataFrame:
    kinds = {"replay_exact": "boolean"}
    counts = ("num_steps", "steps_per_epoch", "diverged_at_step")
    return runs.astype({**kinds, **dict.fromkeys(counts, "Int64")})


def _concat(tables: list[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    if not tables:
        return pd.DataFrame(columns=columns)
    return pd.concat(tables, ignore_index=True)
