"""A quantity along training: mean per epoch, band from minimum to maximum, null model behind."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.cells import Ablation, short_name
from analysis.figures.contract import FigureKind
from analysis.figures.style import (
    NULL_GREY,
    grid,
    level_colours,
    level_text,
    log_axis,
    name_axes,
    ordered,
)
from analysis.runs import Sweep

NULLS = {"gamma": "null_gamma"}
"""Column of the null model of a quantity, where it is not null_<quantity>."""
SYMBOLS = {
    "gamma": "gamma = cos(G_t, w_t - w*)",
    "distance": "distance ||w_t - w*||",
    "rsi": "RSI [1 / learning rate]",
    "error_bound": "error bound [1 / learning rate]",
    "local_lr": "locally optimal step size",
}
LEGEND_COLUMNS = 3


def epoch_table(column: str, sweep: Sweep, ablations: Sequence[Ablation]) -> pd.DataFrame:
    """One row per ablation, group, level and kept epoch, over the level's seeds.

    Columns: quantity, ablation, group, level, axis, x_name, epoch, x, mean (over seeds of the mean
    over the epoch's steps), low and high (smallest and largest value at any step and seed, P1
    figure 1), null (mean of the null model; missing where there is none), num_runs.
    An epoch is kept if all its steps are. x is the epoch, counted from 0 (the paper's count from
    1), or, where runs of one length in steps differ in epochs, the epoch's middle step.
    """
    parts = [_ablation_rows(column, sweep.epochs, ablation) for ablation in ablations]
    parts = [part for part in parts if not part.empty]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["quantity"])


def draw_epochs(table: pd.DataFrame, log_y: bool) -> Figure:
    """One panel per ablation and group, one curve and band per level, nulls in grey."""
    panels = list(table.groupby(["ablation", "group"], sort=False))
    colours = level_colours(ordered(table["level"].tolist()))
    has_null = bool(table["null"].notna().any())
    rows = -(-(len(colours) + has_null) // LEGEND_COLUMNS)
    layout = grid(len(panels), rows)
    for axes, ((ablation, group), rows_of_panel) in zip(layout.panels, panels, strict=True):
        for level in ordered(rows_of_panel["level"].tolist()):
            _curve(axes, rows_of_panel[rows_of_panel["level"] == level], colours[level])
        title = ", ".join(text for text in (str(ablation), str(group)) if text)
        _label(axes, rows_of_panel, title, log_y)
    layout.legend(_handles(table["axis"].iloc[0], colours, has_null), LEGEND_COLUMNS)
    return layout.figure


def per_epoch(column: str, log_y: bool, meaning: str) -> FigureKind:
    """The figure of one column of the steps table along training."""
    return FigureKind(
        name=column,
        meaning=meaning,
        table=partial(epoch_table, column),
        draw=partial(draw_epochs, log_y=log_y),
    )


def _ablation_rows(column: str, epochs: pd.DataFrame, ablation: Ablation) -> pd.DataFrame:
    mean, null = f"{column}_mean", f"{NULLS.get(column, 'null_' + column)}_mean"
    if mean not in epochs.columns:
        return pd.DataFrame()
    place = ablation.cells[["run_id", "level", "group", "num_steps", "steps_per_epoch"]]
    rows = epochs.reindex(
        columns=["run_id", "epoch", "num_steps", mean, f"{column}_min", f"{column}_max", null]
    ).rename(columns={"num_steps": "epoch_steps"})
    rows = place.merge(rows, on="run_id")
    rows = rows[_is_kept(rows, ablation)]
    steps_axis = ablation.equal_steps and place["steps_per_epoch"].nunique() > 1
    middle = rows["epoch"] * rows["steps_per_epoch"] + rows["epoch_steps"] / 2
    rows = rows.assign(x=middle if steps_axis else rows["epoch"])
    keys = ["group", "level", "epoch", "x"]
    table = rows.groupby(keys, sort=False, dropna=False).agg(
        mean=(mean, "mean"),
        low=(f"{column}_min", "min"),
        high=(f"{column}_max", "max"),
        null=(null, "mean"),
        num_runs=("run_id", "size"),
    )
    axis = short_name(ablation.compared or "")
    names = {"quantity": column, "ablation": ablation.label, "axis": axis}
    return table.reset_index().assign(**names, x_name="step" if steps_axis else "epoch")


def _is_kept(rows: pd.DataFrame, ablation: Ablation) -> pd.Series[bool]:
    lengths = ablation.cells[["run_id", "num_steps", "steps_per_epoch"]].itertuples(index=False)
    ends = {run: ablation.exclusion.num_kept(int(t), int(s)) for run, t, s in lengths}
    return rows["epoch"] * rows["steps_per_epoch"] + rows["epoch_steps"] <= rows["run_id"].map(ends)


def _curve(axes: Axes, rows: pd.DataFrame, colour: Any) -> None:
    rows = rows.sort_values("x")
    x = rows["x"].to_numpy(float)
    low, high = rows["low"].to_numpy(float), rows["high"].to_numpy(float)
    axes.fill_between(x, low, high, color=colour, alpha=0.13, linewidth=0)
    axes.plot(x, rows["null"].to_numpy(float), color=NULL_GREY, linewidth=0.9, linestyle="--")
    axes.plot(x, rows["mean"].to_numpy(float), color=colour)


def _label(axes: Axes, rows: pd.DataFrame, title: str, log_y: bool) -> None:
    x_name, column = str(rows["x_name"].iloc[0]), str(rows["quantity"].iloc[0])
    name_axes(axes, title, f"{x_name} (from 0)", SYMBOLS.get(column, column))
    means = rows["mean"].dropna()
    if log_y and (means > 0).any():
        # A minimum at or below zero would stretch a logarithmic axis without end.
        smallest = means[means > 0].min()
        axes.set_ylim(bottom=0.8 * rows["low"].where(rows["low"] > smallest / 10, smallest).min())
        log_axis(axes)
        hidden = int((means <= 0).sum())
        if hidden:
            note = f"{hidden} means <= 0 not shown"
            axes.text(0.98, 1.02, note, transform=axes.transAxes, ha="right", va="bottom")


def _handles(axis: str, colours: dict[Any, Any], has_null: bool) -> list[Line2D]:
    handles = [
        Line2D([], [], color=colour, label=f"{axis} {level_text(level)}".strip())
        for level, colour in colours.items()
    ]
    if has_null:
        handles.append(
            Line2D([], [], color=NULL_GREY, linewidth=0.9, linestyle="--", label="null model")
        )
    return handles
