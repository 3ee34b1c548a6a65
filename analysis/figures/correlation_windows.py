"""Loss and mean correlation of a trajectory, and the matrices of chosen windows (P2 figs. 1-6)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.cells import Ablation
from analysis.figures.contract import FigureKind
from analysis.figures.heat_map import chosen_starts, draw_matrix, lagged_values, matrix_rows
from analysis.figures.style import CATEGORIES, NULL_GREY
from analysis.figures.trajectories import (
    MAX_RUNS,
    Shown,
    course_of,
    first_tables,
    matrix_epochs,
    stacked,
)
from analysis.runs import Sweep

COLUMNS = ("run_id", "title", "part", "epoch", "row", "column", "value")
PARTS = {"loss": "training loss", "mean_correlation": "mean correlation"}
ABREAST = 2
"""Trajectories abreast."""
BLOCK_WIDTH, BLOCK_HEIGHT = 7.0, 5.0
"""Inches of a trajectory's block: two curves above, matrices below."""
CURVE, CURVE_TOP = (2.75, 1.6), 0.5
MATRIX, MATRIX_TOP = 1.75, 2.9
LEFT, NEXT_CURVE = 0.6, 3.5


def windows_of(sweep: Sweep, ablations: Sequence[Ablation]) -> pd.DataFrame:
    """Curves and matrices of the first MAX_RUNS trajectories that measured correlations, COLUMNS.

    part `loss` or `mean_correlation`: the value at a (fractional) epoch; part `matrix`: an entry
    of the window that begins at that epoch. Epochs count from 0, the paper's from 1.
    """
    found = first_tables(ablations, partial(_trajectory, sweep))
    own = [table.assign(run_id=run.run_id, title=run.full_title) for run, table in found]
    return stacked(own, COLUMNS)


def draw_windows(table: pd.DataFrame) -> Figure:
    """A block per trajectory, in the layout of P2's figures 1 to 6."""
    blocks = list(table.groupby("run_id", sort=False))
    columns = min(len(blocks), ABREAST)
    height = BLOCK_HEIGHT * -(-len(blocks) // columns)
    figure = Figure(figsize=(BLOCK_WIDTH * columns, height))
    for index, (_, rows) in enumerate(blocks):
        x, y = BLOCK_WIDTH * (index % columns), height - BLOCK_HEIGHT * (index // columns)
        _draw_block(figure, rows, x, y)
    return figure


CORRELATION_WINDOWS = FigureKind(
    name="correlation_windows",
    meaning="training loss and mean gradient correlation over the epochs, and the correlations of "
    "the gradients of the windows that begin at the marked epochs (from 0; first seed of each "
    f"setting, the first {MAX_RUNS} settings)",
    table=windows_of,
    draw=draw_windows,
    paper=("P2 1", "P2 2", "P2 3", "P2 4", "P2 5", "P2 6"),
)


def _trajectory(sweep: Sweep, run: Shown) -> pd.DataFrame | None:
    course = course_of(sweep, run, list(PARTS))
    if course is None:
        return None
    curves = course.rename(columns={"x": "epoch"}).melt("epoch", var_name="part").dropna()
    steps, lagged = lagged_values(sweep, run, "correlation", "correlation")
    starts = chosen_starts(steps, lagged, run, matrix_epochs(sweep, run.ablation))
    if not starts:
        return curves.reindex(columns=list(COLUMNS))
    return pd.concat([curves, matrix_rows(lagged, starts, part="matrix")], ignore_index=True)


def _draw_block(figure: Figure, rows: pd.DataFrame, x: float, y: float) -> None:
    matrices = rows[rows["part"] == "matrix"]
    epochs = list(dict.fromkeys(matrices["epoch"]))
    for index, (part, name) in enumerate(PARTS.items()):
        axes = _panel(figure, x + LEFT + NEXT_CURVE * index, y - CURVE_TOP, *CURVE)
        curve = rows[rows["part"] == part]
        axes.plot(curve["epoch"], curve["value"], color=CATEGORIES[index])
        _mark(axes, curve, epochs)
        axes.set_title(str(rows["title"].iloc[0]) if index == 0 else "", loc="left")
        axes.set_xlabel("epoch (from 0)")
        axes.set_ylabel(name)
    axes.set_ylim(-1.05, 1.05)
    axes.axhline(0.0, color=NULL_GREY, linewidth=0.9, linestyle="--")
    for index, epoch in enumerate(epochs):
        next_one = (BLOCK_WIDTH - LEFT) / max(3, len(epochs))
        side = min(MATRIX, next_one - 0.2)
        axes = _panel(figure, x + LEFT + next_one * index, y - MATRIX_TOP, side, side)
        draw_matrix(axes, matrices[matrices["epoch"] == epoch], f"epoch {epoch:g}", -1, 1)


def _mark(axes: Axes, curve: pd.DataFrame, epochs: Sequence[float]) -> None:
    """A dot where a window begins, at the curve's nearest point before it."""
    for epoch in epochs:
        before = curve[curve["epoch"] <= epoch].tail(1)
        axes.plot(before["epoch"], before["value"], "o", color="#d62728", markersize=4)


def _panel(figure: Figure, x: float, top: float, width: float, height: float) -> Axes:
    """Axes at inches from the left and from the bottom to their top edge."""
    full_width, full_height = figure.get_size_inches()
    box = (x / full_width, (top - height) / full_height, width / full_width, height / full_height)
    return figure.add_axes(box)
