"""A quantity along training: mean per epoch, band from minimum to maximum, null model behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from analysis.cells import Ablation, ordered, parts_of, short_name
from analysis.figures.contract import FigureKind
from analysis.figures.style import (
    NULL_GREY,
    grid,
    level_colours,
    level_text,
    log_axis,
    name_axes,
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
MIN_EPOCHS = 5
"""Fewer points than that show no course; ours, untuned."""


def curve_table(column: str, sweep: Sweep, ablations: Sequence[Ablation]) -> pd.DataFrame:
    """One row per ablation, group, level and kept part of the run, over the level's seeds.

    Columns: quantity, ablation, group, level, axis, x_name, part, x, mean (over seeds of the mean
    over the part's steps), low and high (smallest and largest value at any step and seed, P1
    figure 1), null (mean of the null model; missing where there is none), num_runs.
    A part is an epoch, drawn at its number, counted from 0 (the paper's count from 1), and kept if
    all its steps are. Where runs of one length in steps differ in epochs, or one has fewer than
    MIN_EPOCHS to show, parts are fiftieths of the run, drawn at the middle of their kept steps.
    """
    rows = [_ablation_rows(column, sweep, ablation) for ablation in ablations]
    rows = [table for table in rows if not table.empty]
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=["quantity"])


def draw_curves(table: pd.DataFrame, log_y: bool) -> Figure:
    """One panel per ablation and group, one curve and band per level, nulls in grey."""
    panels = list(table.groupby(["ablation", "group"], sort=False))
    colours = {
        (str(axis), level): colour
        for axis, rows in table.groupby("axis", sort=False)
        for level, colour in level_colours(ordered(rows["level"].tolist())).items()
    }
    has_null = bool(table["null"].notna().any())
    legend_rows = -(-(len(colours) + has_null) // LEGEND_COLUMNS)
    layout = grid(len(panels), legend_rows)
    for axes, ((ablation, group), rows) in zip(layout.panels, panels, strict=True):
        axis = str(rows["axis"].iloc[0])
        for level, curve in rows.groupby("level", sort=False, dropna=False):
            _curve(axes, curve, colours[axis, level])
        title = ", ".join(text for text in (str(ablation), str(group)) if text)
        _label(axes, rows, title, log_y)
    layout.legend(_handles(colours, has_null), LEGEND_COLUMNS)
    return layout.figure


def per_epoch(column: str, log_y: bool, meaning: str) -> FigureKind:
    """The figure of one column of the steps table along training."""
    return FigureKind(
        name=column,
        meaning=meaning,
        table=partial(curve_table, column),
        draw=partial(draw_curves, log_y=log_y),
    )


def _ablation_rows(column: str, sweep: Sweep, ablation: Ablation) -> pd.DataFrame:
    null = NULLS.get(column, f"null_{column}")
    place = ablation.cells[["run_id", "level", "group", "num_steps", "steps_per_epoch"]]
    parts = _epochs(column, null, sweep, ablation)
    over_steps = ablation.equal_steps and place["steps_per_epoch"].nunique() > 1
    if over_steps or parts.groupby("run_id").size().reindex(place["run_id"]).min() < MIN_EPOCHS:
        parts = _equal_parts(column, null, sweep, ablation)
        if not over_steps:
            lengths = place.set_index("run_id")["steps_per_epoch"].astype(float)
            parts["x"] /= parts["run_id"].map(lengths)
    rows = place.merge(parts, on="run_id").dropna(subset=["mean"])
    if rows.empty:
        return rows
    table = rows.groupby(["group", "level", "part"], sort=False, dropna=False).agg(
        x=("x", "mean"),
        mean=("mean", "mean"),
        low=("low", "min"),
        high=("high", "max"),
        null=("null", "mean"),
        num_runs=("run_id", "size"),
    )
    axis = short_name(ablation.compared or "")
    names = {"quantity": column, "ablation": ablation.label, "axis": axis}
    return table.reset_index().assign(**names, x_name="step" if over_steps else "epoch")


def _epochs(column: str, null: str, sweep: Sweep, ablation: Ablation) -> pd.DataFrame:
    names = {
        "epoch": "part",
        f"{column}_mean": "mean",
        f"{column}_min": "low",
        f"{column}_max": "high",
        f"{null}_mean": "null",
    }
    lengths = ablation.cells[["run_id", "num_steps", "steps_per_epoch"]]
    epochs = sweep.epoch_columns([name for name in names if name != "epoch"])
    rows = epochs.rename(columns={"num_steps": "size"})
    rows = lengths.merge(rows.reindex(columns=["run_id", "size", *names]), on="run_id")
    ends = {
        run: ablation.exclusion.num_kept(int(total), int(per_epoch))
        for run, total, per_epoch in lengths.itertuples(index=False)
    }
    last = rows["epoch"] * rows["steps_per_epoch"] + rows["size"]
    kept = rows[last <= rows["run_id"].map(ends)].rename(columns=names)
    return kept[["run_id", *names.values()]].assign(x=kept["part"].astype(float))


def _equal_parts(column: str, null: str, sweep: Sweep, ablation: Ablation) -> pd.DataFrame:
    names = {f"{column}_{what}": what for what in ("mean", "low", "high")}
    names |= {f"{null}_mean": "null"}
    parts = parts_of(sweep, ablation, [column, null]).rename(columns=names)
    return parts.reindex(columns=["run_id", "part", "x", *names.values()])


def _curve(axes: Axes, rows: pd.DataFrame, colour: Any) -> None:
    rows = rows.sort_values("x")
    x = rows["x"].to_numpy(float)
    low, high = rows["low"].to_numpy(float), rows["high"].to_numpy(float)
    axes.fill_between(x, low, high, color=colour, alpha=0.13, linewidth=0)
    axes.plot(x, rows["null"].to_numpy(float), color=NULL_GREY, linewidth=0.9, linestyle="--")
    axes.plot(x, rows["mean"].to_numpy(float), color=colour)


def _label(axes: Axes, rows: pd.DataFrame, title: str, log_y: bool) -> None:
    x_name, column = str(rows["x_name"].iloc[0]), str(rows["quantity"].iloc[0])
    if x_name == "epoch":
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
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


def _handles(colours: Mapping[tuple[str, Any], Any], has_null: bool) -> list[Line2D]:
    handles = [
        Line2D([], [], color=colour, label=f"{axis} {level_text(level)}".strip())
        for (axis, level), colour in colours.items()
    ]
    if has_null:
        handles.append(
            Line2D([], [], color=NULL_GREY, linewidth=0.9, linestyle="--", label="null model")
        )
    return handles
