"""A finished run as an MLflow server's own values tell it, where its files are not on the server.

Parameters, tags and metrics are always there; artifacts may have been lost, or lie on a disk that
the reader cannot see. What the tracker sends (one mean per column and epoch, minimum and maximum of
gamma, the evaluations, the summary) is turned back into the tables that it was taken from.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis.lengths import Length, growth_of

if TYPE_CHECKING:
    from mlflow.entities import Run

ENDED = ("done", "diverged", "replay_diverged")
"""Values of a run's status tag with which it has results; others are still going, or failed."""
FINAL, SECONDS = "final", "seconds"
"""Groups of metrics with one value per run: its summary, and what its passes took."""
NULL = "null"
"""The group of the null model's columns, whose names begin with it."""
ELSEWHERE = "stated in the run's manifest, which is not on the server"


def column_of(key: str) -> str | None:
    """The column of the epochs table that a metric's key stands for; None for a value per run."""
    group, _, name = key.partition("/")
    if group in (FINAL, SECONDS):
        return None
    return f"{NULL}_{name}" if group == NULL else name


def manifest_of(planned: Mapping[str, Any], child: Run) -> dict[str, Any] | None:
    """What a manifest says, from the child's tags and metrics; None while the run has not ended.

    It has no `files`. `planned` is the run's entry in the plan.
    """
    tags = child.data.tags
    status = tags.get("optpath.status")
    if status not in ENDED:
        return None
    exact, diverged = tags.get("optpath.replay_exact"), tags.get("diverged_at_step")
    return {
        "run_id": planned["run_id"],
        "trajectory_id": planned["trajectory_id"],
        "config": planned["config"],
        "status": status,
        "replay_exact": None if exact is None else exact == "true",
        "diverged_at_step": None if diverged is None else int(diverged),
        "num_steps": planned.get("num_steps"),
        "steps_per_epoch": planned.get("steps_per_epoch"),
        "metrics": _of_group(child.data.metrics, FINAL),
        "seconds": _of_group(child.data.metrics, SECONDS),
        "regime": tags.get("regime"),
        "regime_rule": ELSEWHERE,
        "schedule": {},
        "data_digest": _data_digest(child),
        "environment": {},
    }


def epochs_of(
    manifest: Mapping[str, Any], histories: Mapping[str, Iterable[tuple[int, float]]]
) -> pd.DataFrame:
    """The epochs table as far as a server has it: run_id, epoch, num_steps and the columns sent.

    `histories` holds (epoch, value) pairs by metric key. Values that the server was not sent,
    since they are undefined, are missing. Of a run that is not done: the evaluated epochs alone,
    without num_steps, as in its own table.
    """
    columns = {column: dict(histories[key]) for key in histories if (column := column_of(key))}
    known = sorted({epoch for values in columns.values() for epoch in values})
    sizes = _epoch_sizes(manifest)
    epochs = list(range(len(sizes))) if sizes else known
    table = pd.DataFrame({"run_id": manifest["run_id"], "epoch": pd.Series(epochs, dtype="int64")})
    if sizes:
        table["num_steps"] = sizes
    values = {name: table["epoch"].map(found).astype(float) for name, found in columns.items()}
    return pd.concat([table, pd.DataFrame(values)], axis=1)


def _epoch_sizes(manifest: Mapping[str, Any]) -> list[int]:
    """Steps of every epoch of a run that is done, the last one perhaps cut short."""
    num_steps, per_epoch = manifest["num_steps"], manifest["steps_per_epoch"]
    if manifest["status"] != "done" or num_steps is None or per_epoch is None:
        return []
    sizes = Length(num_steps, per_epoch, growth_of(manifest["config"])).sizes
    return [int(size) for size in sizes]


def _of_group(metrics: Mapping[str, float], group: str) -> dict[str, float]:
    start = f"{group}/"
    return {k.removeprefix(start): value for k, value in metrics.items() if k.startswith(start)}


def _data_digest(child: Run) -> str:
    inputs = child.inputs.dataset_inputs if child.inputs is not None else ()
    for given in inputs:
        digest: str = json.loads(given.dataset.profile or "{}").get("sha256", given.dataset.digest)
        return digest
    return "unknown"
