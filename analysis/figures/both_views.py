"""One trajectory as both papers see it: gamma, its null, mean correlation and sharpness."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.cells import Ablation
from analysis.figures.contract import FigureKind
from analysis.figures.style import CATEGORIES, NULL_GREY, name_axes, stacked_grid
from analysis.figures.trajectories import MAX_RUNS, Shown, course_of, first_tables, stacked
from analysis.runs import Sweep

COLUMNS = ("run_id", "title", "quantity", "x", "value")
SHARPNESS = ("sharpness", "stability_limit")
PANELS = {
    "gamma": ("gamma", "null_gamma"),
    "mean correlation": ("mean_correlation",),
    "sharpness [loss / weight^2]": SHARPNESS,
}
"""Name of a panel -> what it shows."""
LINES: dict[str, tuple[str, str, str]] = {
    "gamma": (CATEGORIES[0], "-", "gamma"),
    "null_gamma": (NULL_GREY, "--", "null model of gamma"),
    "mean_correlation": (CATEGORIES[1], "-", "mean gradient correlation"),
    "sharpness": (CATEGORIES[2], "-", "sharpness"),
    "stability_limit": (CATEGORIES[6], ":", "2 / learning rate"),
}
"""Colour, line and name of each quantity."""


def views_of(sweep: Sweep, ablations: Sequence[Ablation]) -> pd.DataFrame:
    """Courses of the first MAX_RUNS trajectories with gamma and mean correlation, COLUMNS.

    x is the (fractional) epoch. Sharpness and its limit where they were measured.
    """
    found = first_tables(ablations, partial(_trajectory, sweep))
    own = [table.assign(run_id=run.run_id, title=run.full_title) for run, table in found]
    return stacked(own, COLUMNS)


def draw_views(table: pd.DataFrame) -> Figure:
    """A stack of panels on one time axis per trajectory."""
    stacks = list(table.groupby("run_id", sort=False))
    shown = {n: q for n, q in PANELS.items() if table["quantity"].isin(q).any()}
    layout, panels = stacked_grid(len(stacks), len(shown))
    for stack, (_, rows) in zip(panels, stacks, strict=True):
        for axes, (name, quantities) in zip(stack, shown.items(), strict=True):
            for quantity in quantities:
                colour, line, _ = LINES[quantity]
                course = rows[rows["quantity"] == quantity]
                axes.plot(course["x"], course["value"], line, color=colour)
            title = str(rows["title"].iloc[0]) if axes is stack[0] else ""
            name_axes(axes, title, "epoch (from 0)", name)
            axes.set_xlim(0, rows["x"].max())
    drawn = [quantity for quantities in shown.values() for quantity in quantities]
    layout.legend([_handle(*LINES[quantity]) for quantity in drawn])
    return layout.figure


BOTH_VIEWS = FigureKind(
    name="both_views",
    meaning="gamma with its null model, mean gradient correlation, and sharpness beside 2 / "
    "learning rate, of one trajectory on one time axis (first seed of each setting, the first "
    f"{MAX_RUNS} settings)",
    table=views_of,
    draw=draw_views,
)


def _trajectory(sweep: Sweep, run: Shown) -> pd.DataFrame | None:
    course = course_of(sweep, run, ["gamma", "null_gamma", "mean_correlation"])
    if course is None:
        return None
    parts = [course.melt("x", var_name="quantity").dropna()]
    sharpness = sweep.source.table(run.run_id, "sharpness", ["step", *SHARPNESS])
    if sharpness is not None:
        own = sharpness[list(SHARPNESS)].assign(x=run.length.place(sharpness["step"]))
        parts.append(own.melt("x", var_name="quantity").dropna())
    return pd.concat(parts, ignore_index=True)


def _handle(colour: str, line: Any, name: str) -> Line2D:
    return Line2D([], [], color=colour, linestyle=line, label=name)
