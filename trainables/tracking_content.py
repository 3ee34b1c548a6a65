"""What MLflow is told of a run: a pure function of the run's files and its entry in the plan.

Live logging, the upload at a run's end and `optpath sync` all take their values from here, so that
whatever the server missed can be sent later and is then equal to the store.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from geometry.probes.registry import PROBES
from trainables.config import RunConfig
from trainables.registry import Member
from trainables.store import Store, read_table
from trainables.tables import COMMON_COLUMNS, NULL_COLUMNS

Row = tuple[str, float, int]
"""One value of a metric: key, value, MLflow step (the epoch, counted from 0)."""

CONTENT_VERSION = 2
"""Raised when the same files come to be told differently; `optpath sync` then sends them again."""

EPOCHS = "epochs.parquet"

EVALUATION_PREFIXES = ("train_", "validation_")
"""Columns measured in evaluation mode by the reference pass."""

EXTREMES = ("gamma",)
"""Columns whose minimum and maximum are sent beside the mean: the band of P1's figures."""

KEPT_IN_TABLES = (
    "inner_product", "weight_product", "buffer_product",  # sums; the ratios made of them are sent
    "preconditioned_inner", "preconditioned_norm", "decayed_gradient_norm", "first_weight",
    "second_weight", "used_rsi", "used_error_bound", "null_rsi", "null_error_bound",
    "null_local_lr", "null_distance", "mean_correlation_causal", "is_random", "is_mixed",
)  # fmt: skip
"""Columns that MLflow is not sent: its UI is slow with many keys, and 60 per run is the bound."""

FINAL_KEPT = ("best_train_", "_longest_dwell")
"""Parts of names of summary values that stay in the runs table alone, for the same reason."""

DIGEST_LENGTH = 36
"""Longest digest of a data set that MLflow takes."""

VALUE_LENGTH = 500
"""Longest parameter sent; MLflow servers before 2.8 refuse more."""

TAG_LENGTH = 5000
"""Longest tag sent; MLflow servers before 2.17 refuse more."""

NAMED_FIELDS = ("batch_size", "optimizer", "seed", "budget")
"""Axes that the run's name shows in words of its own; other axes are appended as key=value."""


@dataclass(frozen=True)
class DataUsed:
    """The data set that a run was trained on, as an MLflow input: texts only."""

    name: str
    digest: str
    source: str
    """Where it comes from: the citation."""
    profile: str
    """JSON: the licence, and the config fields of the data set."""


@dataclass(frozen=True)
class RunContent:
    """Everything that one MLflow child run holds."""

    run_id: str
    name: str
    params: dict[str, str]
    tags: dict[str, str]
    artifacts: tuple[Path, ...] = ()
    digest: str = ""
    """Hash of all of it; the child that carries it as a tag is complete."""
    failed: bool = False
    manifest: Mapping[str, Any] | None = None
    epochs_path: Path | None = None
    """None where the run has no tables, as after a replay that diverged."""
    data: DataUsed | None = None

    def metrics(self) -> list[Row]:
        """All values, read from the run's files; none of a run that has not ended."""
        if self.manifest is None:
            return []
        epochs = pd.DataFrame({"epoch": []})
        if self.epochs_path is not None:
            epochs = read_table(self.epochs_path)
        return run_metrics(self.manifest, epochs)


def opening(entry: Mapping[str, Any], sweep: str) -> RunContent:
    """What is known of a run before it has ended: its entry in the plan."""
    config = RunConfig.parse(entry["config"])
    name = beside(run_name(config, entry["axes"]), entry)
    return RunContent(
        entry["run_id"], name, run_params(config, entry["axes"]), run_tags(entry, config, sweep),
    )  # fmt: skip


def beside(name: str, entry: Mapping[str, Any]) -> str:
    """The name of a sweep or run, and what its plan says to stand in for other data."""
    return f"{name} ({entry['stand_in']})" if "stand_in" in entry else name


def finished(entry: Mapping[str, Any], sweep: str, store: Store) -> RunContent | None:
    """What the store holds of a run, or None while the run has no manifest."""
    folder = store.run(entry["run_id"])
    manifest = folder.manifest()
    if manifest is None:
        return None
    start = opening(entry, sweep)
    tags = {**start.tags, **outcome_tags(manifest)}
    data = data_used(RunConfig.parse(entry["config"]), manifest["data_digest"])
    return RunContent(
        start.run_id, start.name, start.params, tags,
        artifacts=(*(folder.path / name for name in manifest["files"]), folder.manifest_path),
        digest=_digest([CONTENT_VERSION, manifest, start.name, start.params, tags, asdict(data)]),
        failed=manifest["status"] != "done",
        manifest=manifest,
        epochs_path=folder.path / EPOCHS if EPOCHS in manifest["files"] else None,
        data=data,
    )  # fmt: skip


def data_used(config: RunConfig, digest: str) -> DataUsed:
    """The data set of a run, by the digest of its examples."""
    options = config.data.model_dump(mode="json")
    about = {"licence": config.data.licence, "sha256": digest, "config": options}
    return DataUsed(
        config.data.name, digest[:DIGEST_LENGTH], config.data.citation,
        json.dumps(about, sort_keys=True, default=str),
    )  # fmt: skip


def run_metrics(manifest: Mapping[str, Any], epochs: pd.DataFrame) -> list[Row]:
    """All values of a finished run: per epoch from its epochs table, `final/...` from its manifest.

    Undefined and infinite values are left out: MLflow stores an infinity as 1.8e308.
    """
    steps = epochs["epoch"].tolist()
    last = max(steps, default=0)
    rows = [
        row
        for column, key in epoch_keys(epochs.columns).items()
        for row in _defined(key, zip(epochs[column].tolist(), steps, strict=True))
    ]
    for name, value in manifest["metrics"].items():
        if any(part in name for part in FINAL_KEPT):
            continue
        rows += _defined(f"final/{name}", [(value, last)])
    for name, value in manifest.get("seconds", {}).items():
        rows += _defined(f"seconds/{name}", [(value, last)])
    return rows


def reference_metrics(
    evaluations: Iterable[Mapping[str, Any]], num_steps: int | None = None
) -> list[Row]:
    """The values of epochs of the reference pass, as the trajectory's manifest has them.

    Epochs that end after `num_steps`, the run's own budget, belong to longer runs that share the
    trajectory and are left out.
    """
    return [
        row
        for evaluation in evaluations
        if num_steps is None or evaluation["step"] <= num_steps
        for name, value in evaluation.items()
        if name.startswith(EVALUATION_PREFIXES)
        for row in _defined(f"reference/{name}", [(value, evaluation["epoch"])])
    ]


def epoch_keys(columns: Iterable[str]) -> dict[str, str]:
    """Metric key by column of the epochs table, for the columns that MLflow is sent.

    One mean per column, without those KEPT_IN_TABLES: the UI slows with the number of keys, and
    every other aggregate is in the run's epochs.parquet.
    """
    groups = {column.name: f"step/{column.name}" for column in COMMON_COLUMNS}
    groups |= {column.name: column.name.replace("_", "/", 1) for column in NULL_COLUMNS}
    for probe in PROBES.values():
        own = probe.columns if probe.table == "steps" else ()
        names = (column.name for column in (*own, *probe.whole_run_columns))
        groups |= {name: f"{probe.name}/{name}" for name in names}
    wanted = {f"{c}_{how}": f"{key}_{how}" for c, key in groups.items() for how in _how(c)}
    keys = {}
    for column in columns:
        if column.startswith(EVALUATION_PREFIXES):
            keys[column] = f"reference/{column}"
        elif column in wanted:
            keys[column] = wanted[column]
    return keys


def run_params(config: RunConfig, axes: Mapping[str, Any]) -> dict[str, str]:
    """The whole config, defaults included, and the varied axes, by dotted name."""
    values = config.model_dump(mode="json")
    for name, value in config:
        if isinstance(value, Member):  # a config is written without its members' defaults
            values[name] |= value.model_dump(mode="json")
    values["probes"] = ", ".join(probe.name for probe in config.all_probes())
    if config.batch_size != "full":  # how many examples that is, the data set knows
        values["learning_rate_at_batch_size"] = config.learning_rate.at(config.batch_size)
    flat = {**_flatten(values), **_flatten(axes)}
    return {name: text[:VALUE_LENGTH] for name, text in flat.items() if text}


def run_tags(entry: Mapping[str, Any], config: RunConfig, sweep: str) -> dict[str, str]:
    """Identity tags (`optpath.*`) and, without a prefix, those that a user filters by in the UI."""
    stand_in = {"stand_in": entry["stand_in"][:TAG_LENGTH]} if "stand_in" in entry else {}
    return status_tags("running") | {
        **stand_in,
        "optpath.kind": "run",
        "optpath.sweep": sweep,
        "optpath.run_id": entry["run_id"],
        "optpath.trajectory_id": entry["trajectory_id"],
        "batch_size": str(config.batch_size),
        "optimizer": config.optimizer.name,
        "seed": str(config.seed),
        "budget": _budget(config, " steps", " epochs"),
        "model": config.model.name,
        "data": config.data.name,
        "ablations": ", ".join(entry["ablations"])[:TAG_LENGTH],
    }


def status_tags(status: str) -> dict[str, str]:
    """The run's status, under its stable name and under the one that is short to filter by."""
    return {"status": status, "optpath.status": status}


def outcome_tags(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Tags known at the run's end; what does not apply to the run has no tag."""
    tags = status_tags(manifest["status"])
    if manifest["replay_exact"] is not None:
        exact = json.dumps(manifest["replay_exact"])
        tags |= {"replay_exact": exact, "optpath.replay_exact": exact}
    if manifest["regime"] is not None:
        tags["regime"] = manifest["regime"]
    if manifest["diverged_at_step"] is not None:
        tags["diverged_at_step"] = str(manifest["diverged_at_step"])
    return tags


def run_name(config: RunConfig, axes: Mapping[str, Any]) -> str:
    """A short name for people, such as `b64 momentum seed0 40ep`; other varied fields follow."""
    length = _budget(config, "st", "ep")
    words = [f"b{config.batch_size}", config.optimizer.name, f"seed{config.seed}", length]
    others = {k: v for k, v in _flatten(axes).items() if k.split(".")[0] not in NAMED_FIELDS}
    return " ".join([*words, *(f"{k}={v}" for k, v in others.items())])[:VALUE_LENGTH]


def _budget(config: RunConfig, steps: str, epochs: str) -> str:
    budget = config.budget
    return f"{budget.steps}{steps}" if budget.epochs is None else f"{budget.epochs}{epochs}"


def _how(column: str) -> tuple[str, ...]:
    if column.endswith(KEPT_IN_TABLES):
        return ()
    return ("mean", "min", "max") if column in EXTREMES else ("mean",)


def _defined(key: str, values: Iterable[tuple[float | None, int]]) -> list[Row]:
    return [
        (key, float(value), int(step))
        for value, step in values
        if value is not None and math.isfinite(value)
    ]


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{name}.")
        elif value is not None:
            flat[f"{prefix}{name}"] = value if isinstance(value, str) else json.dumps(value)
    return flat


def _digest(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
