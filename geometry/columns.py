"""The columns of a steps table, with unit and meaning."""

from __future__ import annotations

from geometry.probes.contract import Column
from geometry.probes.registry import PROBES

COMMON_COLUMNS = (
    Column("loss", "loss", "mean loss of minibatch t at w_t, in train mode"),
    Column("learning_rate", "weight^2/loss", "eta_t, used in step t"),
)
GROWTH_COLUMNS = (
    Column("examples", "1", "examples of minibatch t; only where the batch size grows"),
)
NULL_COLUMNS = (
    Column("null_gamma", "1", "gamma of the null model aware of step size, norm and momentum (D9)"),
    Column("null_gamma_closed", "1", "(T - t)^(-1/2), the isotropic random walk (P1 eq. 8)"),
    Column("null_rsi", "loss/weight^2", "RSI of the aware null model"),
    Column("null_error_bound", "loss/weight^2", "error bound of the aware null model"),
    Column("null_local_lr", "weight^2/loss", "locally optimal step size of the aware null model"),
    Column("null_distance", "weight", "‖w_t - w*‖ of the aware null model"),
)

WHOLE_RUN_COLUMNS = (
    *NULL_COLUMNS,
    *(column for probe in PROBES.values() for column in probe.whole_run_columns),
)
"""Columns that one epoch cannot give; they follow from the tables of the whole run."""


def step_columns() -> tuple[Column, ...]:
    """Every column that a steps table can have, with unit and meaning, in the table's order."""
    path, *others = (probe.columns for probe in PROBES.values() if probe.table == "steps")
    rest = tuple(column for columns in others for column in columns)
    derived = WHOLE_RUN_COLUMNS[len(NULL_COLUMNS) :]
    return (*COMMON_COLUMNS, *GROWTH_COLUMNS, *path, *NULL_COLUMNS, *rest, *derived)
