"""A quantity along training: mean per epoch, band from minimum to maximum, null model behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.cells import Ablation, parts_of, short_name
from analysis.figures.contract import FigureKind
from analysis.figures.style import (
    colours_by_axis,
    draw_null,
    level_handles,
    log_axis,
    name_axes,
    null_handle,
    stacked_grid,
)
from analysis.figures.x_axes import X_AXES, check_x_axis, dress, placed
from analysis.lengths import run_lengths
from analysis.runs import Sweep

NULLS = {"gamma": "null_gamma"}
"""Column of the null model of a quantity, where it is not null_<quantity>."""
SYMBOLS = {
    "gamma": "gamma = cos(G_t, w_t - w*)",
    "mean_correlation": "mean gradient correlation",
    "distance": "distance ||w_t - w*||",
    "rsi": "RSI [1 / learning rate]",
    "error_bound": "error bound [1 / learning rate]",
    "local_lr": "locally optimal step size",
}
MIN_EPOCHS = 5
"""Fewer points than that show no course; ours, untuned."""


def curve_table(
    columns: Sequence[str], sweep: Sweep, ablations: Sequence[Ablation], x: str | None = None
) -> pd.DataFrame:
    """One row per quantity, ablation, group, level and kept part of the run, over the seeds.

    Columns: quantity, ablation, group, level, axis, x_name, part, x, mean (over seeds of the mean
    over the part's steps), low and high (smallest and largest value at any step and seed, P1
    figure 1), null (mean of the null model; missing where there is none), num_runs.
    A part is an epoch, drawn at its number, counted from 0 (the paper's count from 1), and kept if
    all its steps are. Where runs of one length in steps differ in epochs, or one has fewer than
    MIN_EPOCHS to show, or `x` names another x-axis (see X_AXES), parts are fiftieths of the run,
    drawn at the middle of their kept steps.
    """
    rows = [
        _ablation_rows(column, sweep, ablation, x) for ablation in ablations for column in columns
    ]
    rows = [table for table in rows if not table.empty]
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=["quantity"])


def draw_curves(table: pd.DataFrame, log_y: Mapping[str, bool]) -> Figure:
    """Per ablation and group a panel for each quantity; curve, band and null per level."""
    stacks = list(table.groupby(["ablation", "group"], sort=False))
    quantities = [name for name in log_y if (table["quantity"] == name).any()]
    colours = colours_by_axis(table)
    has_null = bool(table["null"].notna().any())
    layout, panels = stacked_grid(len(stacks), len(quantities))
    for stack, ((ablation, group), own) in zip(panels, stacks, strict=True):
        title = ", ".join(text for text in (str(ablation), str(group)) if text)
        for axes, quantity in zip(stack, quantities, strict=True):
            rows = own[own["quantity"] == quantity]
            for level, curve in rows.groupby("level", sort=False, dropna=False):
                _curve(axes, curve, colours[str(curve["axis"].iloc[0]), level])
            _label(axes, own, title if axes is stack[0] else "", quantity, log_y[quantity])
    layout.legend([*level_handles(colours), *(null_handle() for _ in range(has_null))])
    return layout.figure


def per_epoch(column: str, log_y: bool, meaning: str, paper: tuple[str, ...] = ()) -> FigureKind:
    """The figure of one column of the steps table along training."""
    return courses(column, {column: log_y}, meaning, paper)


def courses(
    name: str,
    log_y: Mapping[str, bool],
    meaning: str,
    paper: tuple[str, ...] = (),
    levels: Callable[[Ablation], Ablation] | None = None,
    x: str | None = None,
    in_report: bool = True,
) -> FigureKind:
    """The figure of several columns along training, one above the other.

    `log_y` says for each column whether its axis is logarithmic; `levels` gives the ablations other
    levels than those of the sweep; `x` names the x-axis.
    """

    def table(sweep: Sweep, ablations: Sequence[Ablation]) -> pd.DataFrame:
        own = ablations if levels is None else [levels(ablation) for ablation in ablations]
        return curve_table(list(log_y), sweep, own, x)

    return FigureKind(
        name=name,
        meaning=meaning,
        table=table,
        draw=partial(draw_curves, log_y=log_y),
        paper=paper,
        over=lambda x: courses(name, log_y, meaning, paper, levels, check_x_axis(x), in_report),
        in_report=in_report,
    )


def _ablation_rows(
    column: str, sweep: Sweep, ablation: Ablation, x_name: str | None
) -> pd.DataFrame:
    null = NULLS.get(column, f"null_{column}")
    place = ablation.cells[["run_id", "level", "group", "num_steps", "steps_per_epoch"]]
    parts, x_name = _parts(column, null, sweep, ablation, x_name)
    if place.empty:
        return place
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
    names = {"quantity": column, "ablation": ablation.label, "axis": axis, "x_name": x_name}
    return table.reset_index().assign(**names)


def _parts(
    column: str, null: str, sweep: Sweep, ablation: Ablation, x_name: str | None
) -> tuple[pd.DataFrame, str]:
    """The parts of every run, and the name of their x-axis."""
    if x_name is None:
        cells = ablation.cells
        over_steps = ablation.equal_steps and cells["steps_per_epoch"].nunique() > 1
        x_name = "step" if over_steps else "epoch"
        if not over_steps:
            epochs = _epochs(column, null, sweep, ablation)
            counts = epochs.groupby("run_id").size().reindex(cells["run_id"])
            # a column that the epochs table does not have is reduced from the steps
            if not counts.min() < MIN_EPOCHS and epochs["mean"].notna().any():
                return epochs, x_name
    parts = _equal_parts(column, null, sweep, ablation)
    return placed(sweep, ablation, parts, x_name), x_name


def _epochs(column: str, null: str, sweep: Sweep, ablation: Ablation) -> pd.DataFrame:
    names = {
        "epoch": "part",
        f"{column}_mean": "mean",
        f"{column}_min": "low",
        f"{column}_max": "high",
        f"{null}_mean": "null",
    }
    lengths = run_lengths(ablation.cells)
    epochs = sweep.epoch_columns([name for name in names if name != "epoch"])
    rows = epochs.rename(columns={"num_steps": "size"})
    rows = ablation.cells[["run_id"]].merge(
        rows.reindex(columns=["run_id", "size", *names]), on="run_id"
    )
    ends = {run: ablation.exclusion.num_kept(length) for run, length in lengths.items()}
    last = rows["size"].astype(float).groupby(rows["run_id"]).cumsum()
    kept = rows[last <= rows["run_id"].map(ends).astype(float)].rename(columns=names)
    return kept[["run_id", *names.values()]].assign(x=kept["part"].astype(float))


def _equal_parts(column: str, null: str, sweep: Sweep, ablation: Ablation) -> pd.DataFrame:
    names = {f"{column}_{what}": what for what in ("mean", "low", "high")}
    names |= {f"{null}_mean": "null"}
    parts = parts_of(sweep, ablation, [column, null]).rename(columns=names)
    return parts.reindex(columns=["run_id", "part", "x", *names.values()])


def _curve(axes: Axes, rows: pd.DataFrame, colour: Any) -> None:
    rows = rows.sort_values("part")
    x = rows["x"].to_numpy(float)
    low, high = rows["low"].to_numpy(float), rows["high"].to_numpy(float)
    axes.fill_between(x, low, high, color=colour, alpha=0.13, linewidth=0)
    draw_null(axes, x, rows["null"].to_numpy(float), colour)
    axes.plot(x, rows["mean"].to_numpy(float), color=colour)


def _label(axes: Axes, own: pd.DataFrame, title: str, quantity: str, log_y: bool) -> None:
    x_name, rows = str(own["x_name"].iloc[0]), own[own["quantity"] == quantity]
    name_axes(axes, title, X_AXES[x_name].label, SYMBOLS.get(quantity, quantity))
    dress(axes, x_name)
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
