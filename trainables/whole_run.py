"""What only a whole run can give: the null model, what probes make of all their rows, a summary."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from geometry import null
from geometry.probes.registry import PROBES
from geometry.whole_run import Columns, WholeRun
from trainables.config import RunConfig
from trainables.optimizers import OptimizerConfig


def whole_run_columns(config: RunConfig, tables: Mapping[str, Columns]) -> Columns:
    """Columns of the steps table from the measured ones of all tables; each [T].

    Pure, so that a stored run can be verified by computing them again.
    """
    steps = tables["steps"]
    columns = null_columns(config.optimizer, steps) if "gamma" in steps else {}
    run = WholeRun(tables, config.optimizer.linear_update())
    for probe in config.all_probes():
        columns |= PROBES[probe.name].whole_run(probe.typed_options(), run)
    return columns


def whole_run_summary(config: RunConfig, tables: Mapping[str, Columns]) -> dict[str, float]:
    """What the run's probes say of it as a whole, for the runs table; undefined values absent."""
    run = WholeRun(tables, config.optimizer.linear_update())
    summary: dict[str, float | None] = {}
    for probe in config.all_probes():
        summary |= PROBES[probe.name].summary(probe.typed_options(), run)
    return {k: v for k, v in summary.items() if v is not None and math.isfinite(v)}


def null_columns(optimizer: OptimizerConfig, steps: Mapping[str, Tensor]) -> Columns:
    """The null model's columns of a whole run, from its measured ones; each [T]."""
    path = optimizer.null_path_clipped(steps)
    return {
        "null_gamma": path.gamma,
        "null_gamma_closed": null.closed_form_gamma(len(path.gamma)),
        "null_rsi": path.rsi,
        "null_error_bound": path.error_bound,
        "null_local_lr": path.local_lr,
        "null_distance": steps["gradient_norm"] / path.error_bound,
    }
