"""One look for every figure, set locally: nothing global changes."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from analysis.cells import ordered
from analysis.fits import Values

NULL_GREY, NULL_BEHIND = "#8c8c8c", "#a9a9a9"
"""Of a null model's marks and lines, and of the broad line behind a curve."""
BEHIND: dict[str, Any] = {"color": NULL_BEHIND, "linewidth": 2.2}
PANEL_WIDTH, PANEL_HEIGHT = 3.3, 2.3
"""Inches; one panel fills a column of a two-column paper."""
MAX_COLUMNS = 3
TOP, BOTTOM, LEFT, RIGHT, GAP = 0.3, 0.5, 0.75, 0.12, 0.85
"""Inches: the room around and between the panels."""
LEGEND_COLUMNS = 3
LEGEND_LETTERS = 56
"""Letters of a legend's line that fit below one panel."""
FEW_TICKS = 3
"""Fewer ticks than that do not show the scale of a logarithmic axis."""
WITHIN_DECADE = ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7))
"""Ticks of a decade, about evenly spaced, from few to many."""
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
    """A figure with its panels in reading order."""

    figure: Figure
    panels: list[Axes]

    def legend(self, handles: Sequence[Line2D], columns: int = LEGEND_COLUMNS) -> None:
        """One legend below all panels, in as many columns as fit, for which the figure grows."""
        renderer = FigureCanvasAgg(self.figure).get_renderer()  # type: ignore[no-untyped-call]
        names = [textwrap.fill(str(handle.get_label()), LEGEND_LETTERS) for handle in handles]
        for abreast in range(columns, 0, -1):
            legend = self.figure.legend(
                handles, names, loc="lower center", ncols=abreast, borderaxespad=0.2
            )
            box = legend.get_window_extent(renderer)
            if box.width <= self.figure.bbox.width or abreast == 1:
                grow(self.figure, below=box.height / self.figure.dpi)
                return
            legend.remove()


def grow(figure: Figure, *, above: float = 0.0, below: float = 0.0) -> None:
    """Room in inches above and below all panels, which keep their sizes."""
    width, height = figure.get_size_inches()
    grown = height + above + below
    # All boxes first: axes over one another move together.
    boxes = [axes.get_position() for axes in figure.axes]
    for axes, box in zip(figure.axes, boxes, strict=True):
        bottom = (box.y0 * height + below) / grown
        axes.set_position((box.x0, bottom, box.width, box.height * height / grown))
    figure.set_size_inches(width, grown)


def grid(num_panels: int, columns: int = MAX_COLUMNS) -> Grid:
    """Panels of fixed size in reading order, at most so many abreast."""
    columns = min(num_panels, columns)
    rows = math.ceil(num_panels / columns)
    width = LEFT + columns * PANEL_WIDTH + (columns - 1) * GAP + RIGHT
    height = TOP + rows * PANEL_HEIGHT + (rows - 1) * GAP + BOTTOM
    figure = Figure(figsize=(width, height))
    panels = []
    for index in range(num_panels):
        row, column = divmod(index, columns)
        x = LEFT + column * (PANEL_WIDTH + GAP)
        y = height - TOP - PANEL_HEIGHT - row * (PANEL_HEIGHT + GAP)
        box = (x / width, y / height, PANEL_WIDTH / width, PANEL_HEIGHT / height)
        panels.append(figure.add_axes(box))
    return Grid(figure, panels)


def stacked_grid(num_stacks: int, height: int) -> tuple[Grid, list[tuple[Axes, ...]]]:
    """Stacks of `height` panels, one above the other, at most MAX_COLUMNS stacks abreast."""
    columns = min(num_stacks, MAX_COLUMNS)
    bands = math.ceil(num_stacks / columns)
    layout = grid(height * bands * columns, columns)
    tops = [height * columns * (stack // columns) + stack % columns for stack in range(num_stacks)]
    stacks = [tuple(layout.panels[top + columns * i] for i in range(height)) for top in tops]
    used = {id(panel) for stack in stacks for panel in stack}
    for panel in layout.panels:
        if id(panel) not in used:
            panel.remove()
    return layout, stacks


def paired_grid(num_pairs: int) -> tuple[Grid, list[tuple[Axes, Axes]]]:
    """Pairs of panels, one above the other, at most MAX_COLUMNS pairs abreast."""
    layout, stacks = stacked_grid(num_pairs, 2)
    return layout, [(upper, lower) for upper, lower in stacks]


def name_axes(axes: Axes, title: str, x_name: str, y_name: str) -> None:
    """Title and axis names at fixed places: finding free ones took two thirds of the drawing."""
    axes.set_title(title, loc="left", y=1.02)
    axes.set_xlabel(x_name)
    axes.set_ylabel(y_name)
    axes.xaxis.set_label_coords(0.5, -0.13)
    axes.yaxis.set_label_coords(-0.16, 0.5)


def log_axis(axes: Axes) -> None:
    """A logarithmic y axis with ticks in plain numbers, at powers of ten or between them."""
    axes.set_yscale("log", nonpositive="clip")
    plain_ticks(axes.yaxis, *axes.get_ylim())


def plain_ticks(axis: Axis, low: float, high: float) -> None:
    """Ticks of a logarithmic axis in plain numbers, at powers of ten or between them."""
    powers, *finer = (_ticks(low, high, within) for within in WITHIN_DECADE)
    if len(powers) < FEW_TICKS:
        evenly = MaxNLocator(4).tick_values(low, high)[1:-1]
        axis.set_ticks(next((ticks for ticks in finer if len(ticks) >= FEW_TICKS), evenly))
    axis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    axis.set_minor_locator(NullLocator())


def _ticks(low: float, high: float, within_decade: Sequence[float]) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    named = [n * 10.0**k for k in decades for n in within_decade]
    return [tick for tick in named if low <= tick <= high]


def _short(value: float) -> str:
    if 0.001 <= abs(value) < 10_000:
        return f"{value:g}"
    mantissa, exponent = f"{value:e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def draw_null(axes: Axes, x: Values, null: Values, colour: Any) -> None:
    """A null model: a grey line behind all curves, with dots in the colour of its own."""
    axes.plot(x, null, **BEHIND, zorder=1.1)
    axes.plot(x, null, ":", color=colour, linewidth=0.9, zorder=1.2)


def null_handle() -> Line2D:
    """What `draw_null` draws, in a legend."""
    return Line2D([], [], **BEHIND, label="null model (same colours)")


def colours_by_axis(table: pd.DataFrame) -> dict[tuple[str, Any], Any]:
    """The colour of every axis and level of a table with those columns."""
    return {
        (str(axis), level): colour
        for axis, rows in table.groupby("axis", sort=False)
        for level, colour in level_colours(ordered(rows["level"].tolist())).items()
    }


def level_handles(colours: Mapping[tuple[str, Any], Any]) -> list[Line2D]:
    """A line of a legend for each of `colours_by_axis`."""
    return [
        Line2D([], [], color=colour, label=f"{axis} {level_text(level)}".strip())
        for (axis, level), colour in colours.items()
    ]


def level_colours(levels: Sequence[Any]) -> dict[Any, Any]:
    """A colour per level: a dark-to-light scale for numbers, distinct colours for names."""
    numeric = all(isinstance(level, int | float) for level in levels)
    if numeric or len(levels) > len(CATEGORIES):
        scale = mpl.colormaps["viridis"]
        top = max(len(levels) - 1, 1)
        # Beyond .85 the scale turns into a yellow that white paper swallows.
        return {level: scale(0.85 * i / top) for i, level in enumerate(levels)}
    return dict(zip(levels, CATEGORIES, strict=False))


def level_text(level: Any) -> str:
    """A level as a legend shows it."""
    return f"{level:g}" if isinstance(level, float) else str(level)
