"""The distance that gamma and the rate mu / L predict, against the one observed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.cells import Ablation, short_name
from analysis.figures.contract import FigureKind
from analysis.figures.style import (
    colours_by_axis,
    draw_null,
    grid,
    level_handles,
    log_axis,
    name_axes,
    null_handle,
)
from analysis.figures.x_axes import X_AXES
from analysis.reductions import SHARES
from analysis.runs import Sweep

LINES: dict[str, Any] = {"observed": "-", "contraction": "--", "rate": "-."}
NAMES = {
    "observed": "observed",
    "contraction": "product of sqrt(1 - gamma^2)",
    "rate": "(1 - mu^2 / L^2)^(t/2)",
}


def predicted_distance(sweep: Sweep, ablations: Sequence[Ablation]) -> pd.DataFrame:
    """One row per ablation, group, level and kept fiftieth of the run, over the level's seeds.

    Columns: ablation, group, level, axis, part, x (share of the run), the means over seeds of the
    distance as a share of the first, observed, contraction, rate and null (see
    `analysis.reductions.shares`), num_runs, num_bounded (runs with a rate).
    """
    tables = [_rows(ablation) for ablation in ablations if not ablation.cells.empty]
    tables = [table for table in tables if not table.empty]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def draw_predicted(table: pd.DataFrame) -> Figure:
    """Per ablation and group, of every level: observed, both predictions, and the null in grey."""
    panels = list(table.groupby(["ablation", "group"], sort=False))
    colours = colours_by_axis(table)
    layout = grid(len(panels))
    for axes, ((ablation, group), own) in zip(layout.panels, panels, strict=True):
        for level, rows in own.groupby("level", sort=False, dropna=False):
            _lines(axes, rows.sort_values("part"), colours[str(rows["axis"].iloc[0]), level])
        title = ", ".join(text for text in (str(ablation), str(group)) if text)
        name_axes(axes, title, X_AXES["fraction"].label, "||w_t - w*|| / ||w_0 - w*||")
        log_axis(axes)
        first = own.drop_duplicates("level")
        unbounded = int((first["num_runs"] - first["num_bounded"]).sum())
        if unbounded:
            note = f"mu <= 0 in {unbounded} runs: no rate"
            axes.text(0.98, 1.02, note, transform=axes.transAxes, ha="right", va="bottom")
    lines = [Line2D([], [], color="black", linestyle=LINES[n], label=NAMES[n]) for n in LINES]
    layout.legend([*level_handles(colours), *lines, null_handle()])
    return layout.figure


PREDICTED = FigureKind(
    name="predicted_distance",
    meaning="distance to w* as a share of the first: observed, as the product of sqrt(1 - gamma^2) "
    "predicts for steps of the locally optimal length, as the rate mu / L bounds it, and the null "
    "model's in grey",
    table=predicted_distance,
    draw=draw_predicted,
)


def _rows(ablation: Ablation) -> pd.DataFrame:
    if ablation.parts.empty:
        return pd.DataFrame()
    parts = ablation.parts.rename(columns={f"{name}_mean": name for name in SHARES})
    rows = ablation.cells[["run_id", "level", "group", "num_steps"]].merge(parts, on="run_id")
    rows = rows.assign(x=rows["x"] / rows["num_steps"].astype(int)).dropna(subset=["observed"])
    table = rows.groupby(["group", "level", "part"], sort=False, dropna=False).agg(
        x=("x", "mean"),
        **{name: (name, "mean") for name in SHARES},
        num_runs=("run_id", "size"),
        num_bounded=("rate", "count"),
    )
    axis = short_name(ablation.compared or "")
    return table.reset_index().assign(ablation=ablation.label, axis=axis)


def _lines(axes: Axes, rows: pd.DataFrame, colour: str) -> None:
    x = rows["x"].to_numpy(float)
    draw_null(axes, x, rows["null"].to_numpy(float), colour)
    for name, line in LINES.items():
        axes.plot(x, rows[name].to_numpy(float), line, color=colour)
