"""One look for every figure, set locally: nothing global changes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

NULL_GREY = "#8c8c8c"
PANEL_WIDTH, PANEL_HEIGHT = 3.3, 2.3
"""Inches; one panel fills a column of a two-column paper."""
MAX_COLUMNS = 3
LEGEND_ROW, TOP, BOTTOM, LEFT, RIGHT, GAP = 0.2, 0.3, 0.5, 0.7, 0.12, 0.8
"""Inches: a legend row, and the room around and between the panels."""
CATEGORIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Okabe and Ito's colours, told apart with any kind of colour vision; yellow is left out."""
STYLE: dict[Any, Any] = {
    "font.size": 8.0,
    "axes.titlesize": 8.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.2,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "optpath",
}


@contextmanager
def style() -> Iterator[None]:
    """The house style, for the figures built and saved inside."""
    with mpl.rc_context(STYLE):
        yield


@dataclass(frozen=True)
class Grid:
    """A figure with its panels in reading order; `legend_rows` are kept free below them."""

    figure: Figure
    panels: list[Axes]

    def legend(self, handles: Sequence[Line2D], columns: int) -> None:
        """One legend below all panels, where it covers no data."""
        self.figure.legend(handles=handles, loc="lower center", ncols=columns, borderaxespad=0.2)


def grid(num_panels: int, legend_rows: int, rows: int | None = None) -> Grid:
    """Panels of fixed size, at most MAX_COLUMNS abreast unless the number of rows is given."""
    columns = math.ceil(num_panels / rows) if rows else min(num_panels, MAX_COLUMNS)
    rows = rows or math.ceil(num_panels / columns)
    legend = LEGEND_ROW * legend_rows
    width = LEFT + columns * PANEL_WIDTH + (columns - 1) * GAP + RIGHT
    height = TOP + rows * PANEL_HEIGHT + (rows - 1) * GAP + BOTTOM + legend
    figure = Figure(figsize=(width, height))
    panels = []
    for index in range(num_panels):
        row, column = divmod(index, columns)
        x = LEFT + column * (PANEL_WIDTH + GAP)
        y = height - TOP - PANEL_HEIGHT - row * (PANEL_HEIGHT + GAP)
        box = (x / width, y / height, PANEL_WIDTH / width, PANEL_HEIGHT / height)
        panels.append(figure.add_axes(box))
    return Grid(figure, panels)


def name_axes(axes: Axes, title: str, x_name: str, y_name: str) -> None:
    """Title and axis names at fixed places: finding free ones took two thirds of the drawing."""
    axes.set_title(title, loc="left", y=1.02)
    axes.set_xlabel(x_name)
    axes.set_ylabel(y_name)
    axes.xaxis.set_label_coords(0.5, -0.13)
    axes.yaxis.set_label_coords(-0.15, 0.5)


def log_axis(axes: Axes) -> None:
    """A logarithmic y axis with ticks in plain numbers, at powers of ten or between them."""
    axes.set_yscale("log", nonpositive="clip")
    low, high = axes.get_ylim()
    if high / low < 20:
        # Less than that may show no power of ten at all.
        ticks = [tick for tick in MaxNLocator(5).tick_values(low, high) if low <= tick <= high]
        axes.set_yticks(ticks)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def level_colours(levels: Sequence[Any]) -> dict[Any, Any]:
    """A colour per level: a dark-to-light scale for numbers, distinct colours for names."""
    numeric = all(isinstance(level, int | float) for level in levels)
    if numeric or len(levels) > len(CATEGORIES):
        scale = mpl.colormaps["viridis"]
        top = max(len(levels) - 1, 1)
        # Beyond .85 the scale turns into a yellow that white paper swallows.
        return {level: scale(0.85 * i / top) for i, level in enumerate(levels)}
    return dict(zip(levels, CATEGORIES, strict=False))


def ordered(levels: Sequence[Any]) -> list[Any]:
    """Levels once each: numbers ascending, names in the plan's order."""
    once = list(dict.fromkeys(levels))
    numeric = all(isinstance(level, int | float) for level in once)
    return sorted(once) if numeric else once


def level_text(level: Any) -> str:
    """A level as a legend shows it; a setting that does not have the option is a dash."""
    if level is None or level != level:
        return "-"
    return f"{level:g}" if isinstance(level, float) else str(level)
