"""A sweep as tidy tables: one row per run, per epoch, per step."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.sources import MlflowSource, Source, StoreSource
from trainables.store import UserError, write_bytes, write_table

STATE_COLUMNS = (
    "status",
    "replay_exact",
    "regime",
    "num_steps",
    "steps_per_epoch",
    "diverged_at_step",
)


@dataclass
class Sweep:
    """A sweep's tables.

    `runs` has one row per planned run: run_id, trajectory_id, every varied config field by its
    dotted name, ablations (labels joined by commas), status, replay_exact, regime, num_steps,
    steps_per_epoch, diverged_at_step, then last, best and test metrics, and what a schedule that
    changes at a point did (schedule_change_step, ...). What is not known is missing (NaN, NA or
    None), never a number. status is one of done, diverged, replay_diverged,
    failed, unfinished, not started.
    `epochs` has one row per run and epoch (see the documentation of the tables).
    `problems` names in words every run that is not done and every replay that was not exact.
    """

    name: str
    plan: dict[str, Any]
    runs: pd.DataFrame
    epochs: pd.DataFrame
    manifests: dict[str, dict[str, Any]]
    problems: list[str]
    spec: str | None
    source: Source
    _read: dict[str, tuple[tuple[str, ...], pd.DataFrame | None]] = field(
        default_factory=dict, repr=False
    )
    """Per run: the columns of the steps table asked for so far, and what it has of them."""

    @property
    def usable(self) -> pd.DataFrame:
        """The rows of `runs` that count: done, and not with a replay that missed w*."""
        runs = self.runs
        return runs[(runs["status"] == "done") & runs["replay_exact"].fillna(True)]

    def steps(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """One row per usable run and step: run_id, step, epoch, and those columns (None: all).

        Named columns are read at the first call that asks for them, and kept; columns that no run
        has are left out.
        """
        parts = [self._steps_of(run_id, columns) for run_id in self.usable["run_id"]]
        return _concat([part for part in parts if part is not None], ["run_id", "step", "epoch"])

    def _steps_of(self, run_id: str, columns: Sequence[str] | None) -> pd.DataFrame | None:
        if columns is None:
            return self.source.table(run_id, "steps", None)
        asked, table = self._read.get(run_id, ((), None))
        if not set(columns) <= set(asked):
            asked = tuple(dict.fromkeys(["run_id", "step", "epoch", *asked, *columns]))
            table = self.source.table(run_id, "steps", asked)
            self._read[run_id] = asked, table
        if table is None:
            return None
        wanted = dict.fromkeys(["run_id", "step", "epoch", *columns])
        return table[[name for name in wanted if name in table.columns]]

    def in_ablation(self, label: str) -> pd.DataFrame:
        """The usable runs of that ablation."""
        members = [run["run_id"] for run in self.plan["runs"] if label in run["ablations"]]
        usable = self.usable
        return usable[usable["run_id"].isin(members)]


def load_sweep(
    name: str, storage: Path | str | None = None, tracking_uri: str | None = None
) -> Sweep:
    """The tables of a sweep, from a store or from an MLflow server alone.

    `storage` is the storage folder; None: OPTPATH_STORAGE, else ./optpath-results. With a
    `tracking_uri` the sweep is read from that server and no store is needed.

    Raises:
        UserError: both places given; no such sweep there (lists those that are); server down.
        StoreDamaged: a plan, manifest or table was altered.
    """
    if storage is not None and tracking_uri is not None:
        raise UserError("load_sweep: give storage or tracking_uri, not both")
    if tracking_uri is not None:
        return sweep_from(name, MlflowSource(name, tracking_uri))
    root = Path(storage or os.environ.get("OPTPATH_STORAGE") or "optpath-results")
    return sweep_from(name, StoreSource(name, root))


def export_table(sweep: Sweep, table: str, path: Path | str) -> None:
    """Write the steps, epochs or runs of a sweep as .parquet or .csv, by the file's ending.

    Raises:
        UserError: no such table, or another ending.
    """
    names = ("steps", "epochs", "runs")
    target = Path(path)
    if table not in names:
        raise UserError(f"no table '{table}'; there are: {', '.join(names)}")
    if target.suffix not in (".parquet", ".csv"):
        raise UserError(f"{target}: write a name that ends in .parquet or .csv")
    content = {"epochs": sweep.epochs, "runs": sweep.runs}.get(table)
    frame = sweep.steps() if content is None else content
    if target.suffix == ".parquet":
        write_table(target, frame)
    else:
        write_bytes(target, frame.to_csv(index=False).encode())


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
    found = ((run["run_id"], source.manifest(run["run_id"])) for run in plan["runs"])
    manifests = {run_id: manifest for run_id, manifest in found if manifest is not None}
    varied = _varied_fields(plan)
    rows, problems = [], []
    for run in plan["runs"]:
        state, words = _state(run, manifests.get(run["run_id"]), source)
        rows.append({**_identity(run, varied), **state})
        if words:
            problems.append(f"run {run['run_id']} ({_describe(run)}): {words}")
    return Sweep(
        name=name,
        plan=plan,
        runs=_typed(pd.DataFrame(rows, columns=_columns(rows, varied))),
        epochs=_epochs(source, list(manifests)),
        manifests=manifests,
        problems=problems,
        spec=source.spec(),
        source=source,
    )


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


def _epochs(source: Source, run_ids: Iterable[str]) -> pd.DataFrame:
    tables = (source.table(run_id, "epochs", None) for run_id in run_ids)
    return _concat(
        [table for table in tables if table is not None], ["run_id", "epoch", "num_steps"]
    )


def _concat(tables: list[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    if not tables:
        return pd.DataFrame(columns=columns)
    return pd.concat(tables, ignore_index=True)
