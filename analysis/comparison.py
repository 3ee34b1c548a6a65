"""Levels of any axis held against each other, and the best setting by validation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.cells import THREE_TIMES, Ablation, is_crossed, ordered, short_name
from analysis.runs import Sweep
from analysis.trends import interval_over_seeds, student_quantile

EQUAL_WITHIN = 1.25
"""Levels within this factor of each other count as equal [1]; ours, untuned."""
OPTIMIZER_AXES = ("optimizer.name", "optimizer")
SELECT_BY = {"metric": "validation_accuracy", "mode": "max"}
"""How settings are chosen in stores from before manifests said it."""


@dataclass(frozen=True)
class Spread:
    """The largest level over the smallest, of one measure, with a simultaneous 95 % interval.

    `low` and `high` are None where no level has two seeds.
    """

    largest: str
    smallest: str
    ratio: float | None
    low: float | None
    high: float | None

    def __str__(self) -> str:
        if self.ratio is None:
            return "undefined"
        if self.largest == self.smallest:
            return "the same at every level"
        pair = f"{self.largest} over {self.smallest}: {self.ratio:.3g}"
        if self.low is None or self.high is None:
            return f"{pair} (interval undefined: no level has two seeds)"
        return f"{pair} [{self.low:.3g}, {self.high:.3g}]"


def level_table(ablation: Ablation, measures: Sequence[str] = THREE_TIMES) -> pd.DataFrame:
    """Mean over seeds of every measure, per group and level, with intervals.

    Columns: ablation, group, level, num_runs, then m, m_low, m_high for each measure m; the ends
    are missing where the interval is undefined.
    """
    groups = ablation.cells.groupby(["group", "level"], sort=False)
    found = {(group, level): cells for (group, level), cells in groups}
    rows = []
    for group, level in _in_order(list(found)):
        cells = found[group, level]
        row = {"ablation": ablation.label, "group": group, "level": level, "num_runs": len(cells)}
        for measure in measures:
            interval = interval_over_seeds(cells[measure].dropna().tolist())
            ends = {f"{measure}_low": interval.low, f"{measure}_high": interval.high}
            row |= {measure: interval.mean, **ends}
        rows.append(row)
    names = [name for m in measures for name in (m, f"{m}_low", f"{m}_high")]
    table = pd.DataFrame(rows, columns=["ablation", "group", "level", "num_runs", *names])
    return table.astype(dict.fromkeys(names, float))


def _in_order(keys: Sequence[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    levels = ordered([level for _, level in keys])
    groups = list(dict.fromkeys(group for group, _ in keys))
    return [(group, level) for group in groups for level in levels if (group, level) in set(keys)]


def spread(cells: pd.DataFrame, measure: str) -> Spread:
    """exp(max_l m_l - min_l m_l), m_l = the effect of level l on log measure.

    log measure = m_level + c_group + noise, by least squares: groups (crossed axes) are blocks, so
    that a level which has no runs in some groups is held against the others within those it is in.
    The interval is Student's t with the variance pooled over all levels, Bonferroni-corrected for
    the choice of the pair. Runs whose value is not positive have no logarithm and are left out.
    Undefined where levels never meet in a group, not even by way of others.
    """
    usable = cells[cells[measure].astype(float) > 0]
    logs = np.log(usable[measure].to_numpy(float))
    levels = list(dict.fromkeys(usable["level"].map(str)))
    num_levels = len(levels)
    if num_levels < 2:
        return Spread("", "", None, None, None)
    own = usable["level"].map(str).to_numpy(object)[:, None] == np.array(levels, dtype=object)
    blocks = pd.get_dummies(usable["group"]).to_numpy(float)
    design = np.column_stack([own.astype(float), blocks])
    inverse = np.linalg.pinv(design)
    effects = inverse @ logs
    top, bottom = int(effects[:num_levels].argmax()), int(effects[:num_levels].argmin())
    contrast = np.eye(design.shape[1])[top] - np.eye(design.shape[1])[bottom]
    rank = int(np.linalg.matrix_rank(design))
    if rank < num_levels + blocks.shape[1] - 1:
        return Spread("", "", None, None, None)
    difference = float(contrast @ effects)
    degrees = len(logs) - rank
    names = levels[top], levels[bottom]
    if degrees < 1 or own.sum(axis=0).max() < 2:
        return Spread(*names, math.exp(difference), None, None)
    residual = logs - design @ effects
    variance = float(residual @ residual) / degrees
    pairs = num_levels * (num_levels - 1) // 2
    error = math.sqrt(variance) * float(np.linalg.norm(contrast @ inverse))
    half = student_quantile(degrees, pairs) * error
    ends = math.exp(difference - half), math.exp(difference + half)
    return Spread(*names, math.exp(difference), *ends)


def optimizer_axis(ablation: Ablation) -> str | None:
    """The axis that holds the optimizer, if it is crossed with learning rates to choose from."""
    rates = [axis for axis in ablation.axes if axis.startswith("learning_rate")]
    for axis in OPTIMIZER_AXES:
        if axis in ablation.axes and any(is_crossed(ablation.cells, axis, r) for r in rates):
            return axis
    return None


def judged_by(sweep: Sweep, ablation: Ablation) -> tuple[str, str]:
    """By what an ablation's settings are chosen: a column of the runs table, and min or max.

    As the manifests of its runs say, which have it from the task. An ablation over several tasks
    that differ in it has no such column: the name is empty.
    """
    manifests = [sweep.manifests[run_id] for run_id in ablation.cells["run_id"]]
    said = {tuple(m.get("judged_by", SELECT_BY).items()) for m in manifests}
    if len(said) != 1:
        return "", ""
    choice = dict(said.pop())
    return f"last_{choice['metric']}", choice["mode"]


def select_best(sweep: Sweep, ablation: Ablation, per: str) -> pd.DataFrame:
    """The setting of the best mean over its seeds of `judged_by`, for each value of the axis `per`.

    One row per value: the ablation's axes, that mean, num_runs. A setting that is undefined in
    every run, or that only has diverged runs, cannot be chosen. Ties: the first.
    """
    axes = list(ablation.axes)
    by, mode = judged_by(sweep, ablation)
    if by not in sweep.runs.columns:
        return pd.DataFrame(columns=[*axes, by, "num_runs"])
    cells = ablation.cells.merge(sweep.runs[["run_id", by]], on="run_id").dropna(subset=[by])
    settings = cells.groupby(axes, sort=False, dropna=False)
    table = settings[by].agg(["mean", "size"]).reset_index()
    table = table.rename(columns={"mean": by, "size": "num_runs"})
    values = table.groupby(per, sort=False)[by]
    best = values.idxmin() if mode == "min" else values.idxmax()
    return table.loc[best].reset_index(drop=True)


def selected(ablation: Ablation, best: pd.DataFrame) -> pd.DataFrame:
    """The cells of the chosen settings, in one group, with `level` naming what each sets."""
    axes = list(ablation.axes)
    cells = ablation.cells.drop(columns=["level", "group"]).merge(best[axes], on=axes)
    names = [
        ", ".join(
            f"{short_name(axis)} {value}"
            for axis, value in zip(axes, values, strict=True)
            if not pd.isna(value)
        )
        for values in cells[axes].to_numpy(object).tolist()
    ]
    return cells.assign(level=pd.Series(names, dtype=object), group="")
