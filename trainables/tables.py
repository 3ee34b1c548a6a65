"""The tables of a finished run: steps, epochs, and one long table per labelled probe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from geometry.columns import COMMON_COLUMNS as COMMON_COLUMNS
from geometry.columns import NULL_COLUMNS as NULL_COLUMNS
from geometry.columns import step_columns as step_columns
from geometry.probes.contract import Column
from geometry.probes.registry import PROBES
from trainables.length import Calendar


def steps_table(run_id: str, columns: Mapping[str, Tensor], calendar: Calendar) -> pd.DataFrame:
    """One row per step t = 0..T-1: run_id, step, epoch and the measured columns in fixed order."""
    step = columns["step"].numpy()
    known = [column.name for column in step_columns()]
    return pd.DataFrame(
        {
            "run_id": run_id,
            "step": step,
            "epoch": calendar.epochs_of(step),
            **{name: columns[name].numpy() for name in known if name in columns},
        }
    )


def labelled_table(
    run_id: str, columns: Mapping[str, Tensor], labels: Sequence[str] | None, calendar: Calendar
) -> pd.DataFrame:
    """A probe's own table: one row per (step, label), or per step for a probe without labels."""
    step = np.repeat(columns["step"].numpy(), 1 if labels is None else len(labels))
    label = {} if labels is None else {"label": _repeated(labels, len(columns["step"]))}
    # in the documented order: a checkpoint gives the columns back sorted by name
    documented = dict.fromkeys(c.name for probe in PROBES.values() for c in probe.columns)
    names = [name for name in documented if name in columns]
    return pd.DataFrame(
        {
            "run_id": run_id,
            "step": step,
            "epoch": calendar.epochs_of(step),
            **label,
            **{name: columns[name].numpy().reshape(-1) for name in names},
        }
    )


def _repeated(labels: Sequence[str], times: int) -> NDArray[np.object_]:
    return np.tile(np.array(labels, dtype=object), times)


def epochs_table(
    run_id: str, steps: pd.DataFrame, evaluations: Sequence[Mapping[str, float | int | str]]
) -> pd.DataFrame:
    """One row per epoch: aggregates of every measured column, evaluations of the reference pass.

    Of every column c: c_mean, c_median, c_std (population), c_min, c_max over the epoch's defined
    values, c_num_undefined, c_num_negative; of a ratio also c_ratio_of_means. Evaluations are of
    the weights at the end of the epoch, NaN where the cadence left one out.
    """
    grouped = steps.groupby("epoch", sort=True)
    parts = {"num_steps": grouped.size()}
    measured = [column for column in step_columns() if column.name in steps.columns]
    for column in measured:
        parts |= _aggregates(steps, column)
    table = pd.DataFrame(parts).reset_index()
    table.insert(0, "run_id", run_id)
    return table.merge(_evaluations(evaluations), on="epoch", how="left", validate="1:1")


def reference_epochs_table(
    run_id: str, evaluations: Sequence[Mapping[str, float | int | str]]
) -> pd.DataFrame:
    """The epochs table of a run without measurements: the evaluations of the reference pass."""
    table = _evaluations(evaluations)
    table.insert(0, "run_id", run_id)
    return table


def _aggregates(steps: pd.DataFrame, column: Column) -> dict[str, pd.Series]:
    name, epoch = column.name, steps["epoch"]
    values = steps[name].groupby(epoch)
    result = {f"{name}_{how}": getattr(values, how)() for how in ("mean", "median")}
    result[f"{name}_std"] = values.std(ddof=0)
    result |= {f"{name}_{how}": getattr(values, how)() for how in ("min", "max")}
    result[f"{name}_num_undefined"] = steps[name].isna().groupby(epoch).sum()
    result[f"{name}_num_negative"] = (steps[name] < 0).groupby(epoch).sum()
    if column.ratio is not None:
        above, below = (steps[list(names)].prod(axis=1, skipna=False) for names in column.ratio)
        means = above.groupby(epoch).mean() / below.groupby(epoch).mean()
        result[f"{name}_ratio_of_means"] = means
    return result


def _evaluations(rows: Sequence[Mapping[str, float | int | str]]) -> pd.DataFrame:
    frame = pd.DataFrame(list(rows))
    if frame.empty:
        return pd.DataFrame({"epoch": pd.Series(dtype="int64")})
    return frame.drop(columns=["step", "fingerprint"])
