"""gamma, its null and their ratio per level of an axis, with intervals over seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.cells import MEASURES, Ablation, short_name
from analysis.comparison import level_table
from analysis.figures.contract import FigureKind
from analysis.figures.style import CATEGORIES, NULL_GREY, level_text, name_axes, paired_grid
from analysis.runs import Sweep

LETTERS_ABREAST = 48
"""Letters that a panel's width holds, each level having the room of the longest."""


def levels_of(sweep: Sweep, ablations: Sequence[Ablation]) -> pd.DataFrame:
    """`level_table` of every ablation that does not compare batch sizes, with the axis's name."""
    tables = [
        level_table(ablation).assign(axis=short_name(ablation.compared or "setting"))
        for ablation in ablations
        if ablation.compared != "batch_size" and ablation.cells["gamma"].notna().any()
    ]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def draw_levels(table: pd.DataFrame) -> Figure:
    """Per ablation and group: gamma and null side by side above, gamma over null below."""
    panels = list(table.groupby(["ablation", "group"], sort=False))
    layout, pairs = paired_grid(len(panels))
    for (upper, lower), ((ablation, group), rows) in zip(pairs, panels, strict=True):
        _markers(upper, rows, "null_gamma", NULL_GREY, offset=0.1)
        _markers(upper, rows, "gamma", CATEGORIES[0], offset=-0.1)
        _markers(lower, rows, "gamma_over_null", CATEGORIES[1], offset=0.0)
        lower.axhline(1.0, color=NULL_GREY, linewidth=0.9, linestyle="--")
        title = ", ".join(text for text in (str(ablation), str(group)) if text)
        _label(upper, rows, title, "mean over kept steps")
        _label(lower, rows, "", "gamma / null")
    layout.legend(_handles())
    return layout.figure


LEVELS = FigureKind(
    name="gamma_levels",
    meaning="gamma per level of the axis, mean and 95 % interval over seeds, beside its null model "
    "in grey; gamma over null below (the null is 1)",
    table=levels_of,
    draw=draw_levels,
)


def _markers(axes: Axes, rows: pd.DataFrame, measure: str, colour: str, offset: float) -> None:
    x = np.arange(len(rows)) + offset
    mean = rows[measure].to_numpy(float)
    low, high = rows[f"{measure}_low"].to_numpy(float), rows[f"{measure}_high"].to_numpy(float)
    errors = np.nan_to_num(np.stack([mean - low, high - mean]))
    axes.errorbar(x, mean, errors, fmt="o", color=colour, markersize=4, capsize=2, linewidth=1)


def _label(axes: Axes, rows: pd.DataFrame, title: str, y_name: str) -> None:
    names = [level_text(level) for level in rows["level"]]
    tilt = 30 if len(names) * max(map(len, names)) > LETTERS_ABREAST else 0
    axes.set_xticks(range(len(names)), names, rotation=tilt, ha="right" if tilt else "center")
    axes.set_xlim(-0.5, len(names) - 0.5)
    name_axes(axes, title, "" if tilt else str(rows["axis"].iloc[0]), y_name)


def _handles() -> list[Line2D]:
    colours = {"gamma": CATEGORIES[0], "null_gamma": NULL_GREY, "gamma_over_null": CATEGORIES[1]}
    return [
        Line2D([], [], color=colour, marker="o", linestyle="", markersize=4, label=MEASURES[name])
        for name, colour in colours.items()
    ]
