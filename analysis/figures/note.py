"""A note on a figure: what stands in for the data that its sweep is named after."""

from __future__ import annotations

import textwrap

from matplotlib.figure import Figure

from analysis.figures.style import grow

SIZE, LETTERS, LINE, GAP, LEFT = 7.0, 16, 0.13, 0.06, 0.1
"""Points; letters per inch; inches per line, above the first line, and from the left."""


def note_above(figure: Figure, text: str) -> None:
    """Write a text above all panels: the figure grows by its room, the panels keep their size."""
    width, height = figure.get_size_inches()
    lines = textwrap.wrap(text, int(width * LETTERS))
    room = LINE * len(lines) + GAP
    grow(figure, above=room)
    top = 1 - GAP / (height + room)
    figure.text(LEFT / width, top, "\n".join(lines), va="top", fontsize=SIZE)
