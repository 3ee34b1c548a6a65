"""A finished run's files: tables, config, manifest; the summary metrics and the regime."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from trainables.config import RunConfig
from trainables.measurement import Measurement
from trainables.record import ReferenceRecord
from trainables.store import Folder, write_table, write_yaml
from trainables.tables import epochs_table, labelled_table, reference_epochs_table, steps_table
from trainables.tasks.contract import better
from trainables.whole_run import whole_run_summary

INTERPOLATION_SHARE = 0.05
"""Interpolating if the final train loss is at most this share of the initial one (INVENTORY D5)."""
INTERPOLATION_ACCURACY = 0.99
"""... or if the final train accuracy is at least this (INVENTORY D5)."""
REGIME_RULE = (
    f"interpolating iff final train loss <= {INTERPOLATION_SHARE} of the initial one "
    f"or final train accuracy >= {INTERPOLATION_ACCURACY}"
)


def finish_run(
    folder: Folder,
    trajectory_id: str,
    measurement: Measurement,
    record: ReferenceRecord,
    *,
    replay_exact: bool | None,
    references: Mapping[str, Any] | None = None,
) -> None:
    """Write a measured run's tables and seal its folder; `replay_exact` is None without replay.

    `references` says where the further references lie, for whoever verifies the run.
    """
    run_id, calendar = measurement.run_id, record.calendar
    tables = measurement.finished_tables()
    summary = whole_run_summary(measurement.config, tables)
    steps = steps_table(run_id, tables.pop("steps"), calendar)
    epochs = epochs_table(run_id, steps, record.rows_until(measurement.num_steps))
    files = {"steps.parquet": steps, "epochs.parquet": epochs}
    for name, columns in tables.items():
        labels = measurement.labels[name]
        files[f"{name}.parquet"] = labelled_table(run_id, columns, labels, calendar)
    for name, table in files.items():
        write_table(folder.path / name, table)
    manifest = _manifest(run_id, trajectory_id, measurement.config, record, "done")
    manifest |= {"metrics": manifest["metrics"] | summary, "replay_exact": replay_exact}
    if references:
        manifest["references"] = dict(references)
    _seal(folder, measurement.config, manifest, list(files))


def mark_diverged(
    folder: Folder, run_id: str, trajectory_id: str, config: RunConfig, record: ReferenceRecord
) -> None:
    """Seal a run whose training diverged: what the reference pass saw, and no measurements."""
    until = config.budget.num_steps(record.calendar)
    write_table(
        folder.path / "epochs.parquet", reference_epochs_table(run_id, record.rows_until(until))
    )
    manifest = _manifest(run_id, trajectory_id, config, record, "diverged")
    manifest["diverged_at_step"] = record.diverged_at_step
    _seal(folder, config, manifest, ["epochs.parquet"])


def mark_replay_diverged(
    folder: Folder, run_id: str, trajectory_id: str, config: RunConfig, record: ReferenceRecord
) -> None:
    """Seal a run whose replay left the reference pass: it has no tables and is not good."""
    manifest = _manifest(run_id, trajectory_id, config, record, "replay_diverged")
    _seal(folder, config, {**manifest, "replay_exact": False}, [])


def _seal(folder: Folder, config: RunConfig, manifest: dict[str, Any], files: list[str]) -> None:
    write_yaml(folder.path / "config.yaml", config.plain())
    folder.write_manifest(manifest, [*files, "config.yaml"])


def _manifest(
    run_id: str, trajectory_id: str, config: RunConfig, record: ReferenceRecord, status: str
) -> dict[str, Any]:
    num_steps = config.budget.num_steps(record.calendar)
    return {
        "run_id": run_id,
        "trajectory_id": trajectory_id,
        "config": config.plain(),
        "status": status,
        "replay_exact": None,
        "diverged_at_step": None,
        "num_steps": num_steps,
        "steps_per_epoch": record.steps_per_epoch,
        "metrics": _metrics(record, num_steps),
        "judged_by": config.task.choice(),
        "regime": _regime(record, num_steps),
        "regime_rule": REGIME_RULE,
        "schedule": record.schedule,
        "data_digest": record.data_digest,
        "environment": record.environment,
    }


def _metrics(record: ReferenceRecord, num_steps: int) -> dict[str, float]:
    """last_* and best_* over the evaluations of the budget, test_* of w*; unknown ones absent."""
    end = record.end(num_steps)
    history = [epoch.evaluation for epoch in record.epochs if epoch.step <= num_steps]
    history += [end.evaluation] if end else []
    metrics: dict[str, float] = {}
    for name in sorted({name for values in history for name in values}):
        series = [values[name] for values in history if name in values]
        if name.startswith("test_"):
            metrics[name] = series[-1]
        else:
            metrics[f"last_{name}"] = series[-1]
            metrics[f"best_{name}"] = min(series) if better(name) == "min" else max(series)
    return {name: value for name, value in metrics.items() if math.isfinite(value)}


def _regime(record: ReferenceRecord, num_steps: int) -> str | None:
    end = record.end(num_steps)
    if end is None:
        return None
    final, initial = end.evaluation.get("train_loss"), record.initial.get("train_loss")
    if final is None or initial is None:
        return None
    low_loss = final <= INTERPOLATION_SHARE * initial
    accurate = end.evaluation.get("train_accuracy", 0.0) >= INTERPOLATION_ACCURACY
    return "interpolating" if low_loss or accurate else "non-interpolating"
