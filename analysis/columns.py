"""What the columns of a sweep's tables mean: unit and meaning of each that is there."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

KEYS = {
    "run_id": ("", "identity of the run: a hash of what changes its result"),
    "trajectory_id": ("", "identity of the training; runs of one trajectory share their passes"),
    "ablations": ("", "labels of the sweep's ablations that the run belongs to, comma-separated"),
    "status": (
        "",
        "done, diverged, replay_diverged, failed, unfinished, not started or unreadable",
    ),
    "replay_exact": ("", "True if the replay ended bitwise at w*; missing without a replay"),
    "regime": ("", "interpolating or non-interpolating, by the rule in the run's manifest"),
    "steps_per_epoch": ("steps", "steps of one epoch, the last incomplete one left out"),
    "diverged_at_step": ("steps", "first step with a loss that is not finite"),
    "step": ("steps", "t, from 0; values at step t are of w_t, before update t"),
    "epoch": ("epochs", "epoch of the step, from 0"),
}
LENGTHS = {"runs": "steps of the whole run, T", "epochs": "steps of the epoch in the run"}
"""num_steps, by table."""
AGGREGATES = {
    "mean": "mean over the epoch's defined steps",
    "median": "median over the epoch's defined steps",
    "std": "population standard deviation over the epoch's defined steps",
    "min": "least value at a step of the epoch",
    "max": "greatest value at a step of the epoch",
    "ratio_of_means": "ratio of the means of numerator and denominator over the epoch",
}
COUNTS = {"num_undefined": "undefined", "num_negative": "negative"}
METRICS = {
    "last_": "at the end of the run",
    "best_": "best value at the end of any epoch",
    "test_": "on the test set, at w*",
    "train_": "on the training set, evaluation mode, end of the epoch",
    "validation_": "on the validation set, evaluation mode, end of the epoch",
}
UNITS = {"loss": "loss", "accuracy": "1"}


def documentation(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """One row per column of each table: table, column, dtype, unit, meaning.

    A unit of 1 is a pure number; it is empty where a column holds no quantity. A config field's
    unit stands in `RunConfig`'s documentation.
    """
    known = _steps()
    rows = [
        {"table": table, "column": name, "dtype": str(frame[name].dtype)}
        | dict(zip(("unit", "meaning"), _describe(table, name, known), strict=True))
        for table, frame in tables.items()
        for name in frame.columns
    ]
    return pd.DataFrame(rows, columns=["table", "column", "dtype", "unit", "meaning"])


def _steps() -> dict[str, tuple[str, str]]:
    # Over a second for torch, which nobody else here needs.
    from geometry.columns import step_columns

    return {column.name: (column.unit, column.meaning) for column in step_columns()}


def _describe(table: str, name: str, known: Mapping[str, tuple[str, str]]) -> tuple[str, str]:
    if name == "num_steps":
        return "steps", LENGTHS.get(table, "")
    if name in KEYS:
        return KEYS[name]
    if name in known and table == "steps":
        return known[name]
    return _aggregate(name, known) or _metric(name) or ("", f"config field {name}")


def _aggregate(name: str, known: Mapping[str, tuple[str, str]]) -> tuple[str, str] | None:
    for ending, what in COUNTS.items():
        column = name.removesuffix(f"_{ending}")
        if column != name and column in known:
            return "steps", f"steps of the epoch at which {column} is {what}"
    for ending, what in AGGREGATES.items():
        column = name.removesuffix(f"_{ending}")
        if column != name and column in known:
            unit, meaning = known[column]
            return unit, f"{meaning}: {what}"
    return None


def _metric(name: str) -> tuple[str, str] | None:
    for start, when in METRICS.items():
        if name.startswith(start):
            metric = name.removeprefix(start)
            return UNITS.get(metric.rpartition("_")[2], "1"), f"{metric.replace('_', ' ')}, {when}"
    return None
