"""The contract of a figure: a pure table, a thin drawing, and what both are about."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from analysis.cells import Ablation
from analysis.figures.note import note_above
from analysis.figures.style import style
from analysis.runs import Sweep
from trainables.store import write_bytes

DOTS_PER_INCH = 150


@dataclass(frozen=True)
class FigureKind:
    """One kind of figure.

    `table` decides what is drawn, and about missing and undefined values; an empty table means
    that the sweep has nothing for this figure. `draw` adds no knowledge: it gets that table only.
    `paper` names the papers' figures that this kind draws, as paper and number: P1 4-left.
    `over` gives the same figure over another x-axis; None where the figure has no choice of one.
    `in_report` is False for one that shows what others in the report do, in another way.
    """

    name: str
    meaning: str
    table: Callable[[Sweep, Sequence[Ablation]], pd.DataFrame]
    draw: Callable[[pd.DataFrame], Figure]
    paper: tuple[str, ...] = ()
    over: Callable[[str], FigureKind] | None = None
    in_report: bool = True


@dataclass(frozen=True)
class SavedFigure:
    """A figure's files."""

    name: str
    meaning: str
    png: Path
    svg: Path
    csv: Path


def save_figure(
    kind: FigureKind, sweep: Sweep, ablations: Sequence[Ablation], folder: Path
) -> SavedFigure | None:
    """Write NAME.png, NAME.svg and NAME.csv (the table); None if there is nothing to draw."""
    table = kind.table(sweep, ablations)
    return None if table.empty else save_table(kind, sweep, table, folder)


def drawn(kind: FigureKind, sweep: Sweep, table: pd.DataFrame) -> Figure:
    """The figure of a table that is not empty; above it what stands in for other data."""
    figure = kind.draw(table)
    if sweep.stand_in:
        note_above(figure, f"Stand-in: {sweep.stand_in}")
    return figure


def save_table(kind: FigureKind, sweep: Sweep, table: pd.DataFrame, folder: Path) -> SavedFigure:
    """Draw a table that is not empty and write NAME.png, NAME.svg and NAME.csv."""
    paths = {ending: folder / f"{kind.name}.{ending}" for ending in ("png", "svg", "csv")}
    with style():
        figure = drawn(kind, sweep, table)
        write_bytes(paths["png"], _rendered(figure, "png"))
        write_bytes(paths["svg"], _rendered(figure, "svg"))
    write_bytes(paths["csv"], table.to_csv(index=False).encode())
    return SavedFigure(kind.name, kind.meaning, **paths)


def _rendered(figure: Figure, ending: str) -> bytes:
    buffer = io.BytesIO()
    # Without a date the same table gives the same bytes.
    metadata = {"Date": None} if ending == "svg" else {}
    # Compressing a PNG harder takes a third of its drawing time and saves a tenth of its size.
    options: dict[str, Any] = {"pil_kwargs": {"compress_level": 1}} if ending == "png" else {}
    figure.savefig(buffer, format=ending, dpi=DOTS_PER_INCH, metadata=metadata, **options)
    return buffer.getvalue()
