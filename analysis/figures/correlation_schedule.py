"""Mean gradient correlation with the learning rate drawn over it (P2 figure 7)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.cells import Ablation
from analysis.figures.contract import FigureKind
from analysis.figures.style import NULL_GREY, grid, level_colours, name_axes
from analysis.figures.trajectories import MAX_RUNS, course_of, first_tables, stacked
from analysis.runs import Sweep

COLUMNS = ("ablation", "run_id", "title", "x", "mean_correlation", "learning_rate")
LEGEND_COLUMNS = 2
RIGHT_ROOM = 0.55
"""Inches for the axis of the learning rate."""


def overlaid(sweep: Sweep, ablations: Sequence[Ablation]) -> pd.DataFrame:
    """Both courses of the first MAX_RUNS trajectories of the sweep, over the epoch x, COLUMNS.

    Empty unless some trajectory's learning rate changes: then there is a schedule to draw.
    """
    read = partial(course_of, sweep, columns=["mean_correlation", "learning_rate"])
    found = [
        course.assign(ablation=run.ablation, run_id=run.run_id, title=run.title)
        for run, course in first_tables(ablations, read)
    ]
    changes = any(course["learning_rate"].nunique() > 1 for course in found)
    return stacked(found if changes else [], COLUMNS)


def draw_overlaid(table: pd.DataFrame) -> Figure:
    """A panel per ablation: mean correlations in full lines, learning rates dashed."""
    panels = list(table.groupby("ablation", sort=False))
    colours = level_colours(list(dict.fromkeys(table["title"])))
    layout = grid(len(panels), 1)
    figure = layout.figure
    width = figure.get_figwidth()
    figure.set_figwidth(width + RIGHT_ROOM)
    for axes, (ablation, rows) in zip(layout.panels, panels, strict=True):
        box = axes.get_position()
        shrunk = width / (width + RIGHT_ROOM)
        axes.set_position((box.x0 * shrunk, box.y0, box.width * shrunk, box.height))
        rates = axes.twinx()
        for (_, title), course in rows.groupby(["run_id", "title"], sort=False):
            axes.plot(course["x"], course["mean_correlation"], color=colours[title])
            rates.plot(course["x"], course["learning_rate"], "--", color=colours[title])
        _dress(axes, rates, str(ablation))
    layout.legend(_handles(colours), LEGEND_COLUMNS)
    return figure


CORRELATION_SCHEDULE = FigureKind(
    name="correlation_schedule",
    meaning="mean gradient correlation, and dashed the learning rate, of the first seed of each "
    f"setting (the first {MAX_RUNS} settings)",
    table=overlaid,
    draw=draw_overlaid,
    paper=("P2 7",),
)


def _dress(axes: Axes, rates: Axes, title: str) -> None:
    name_axes(axes, title, "epoch (from 0)", "mean correlation")
    axes.set_ylim(-1.05, 1.05)
    rates.set_ylim(bottom=0)
    rates.set_ylabel("learning rate")
    rates.spines["right"].set_visible(True)
    rates.grid(visible=False)


def _handles(colours: dict[str, str]) -> list[Line2D]:
    names: dict[str, Any] = {"mean correlation": "-", "learning rate": "--"}
    kinds = [Line2D([], [], color=NULL_GREY, linestyle=s, label=n) for n, s in names.items()]
    return kinds + [Line2D([], [], color=colour, label=t) for t, colour in colours.items()]
