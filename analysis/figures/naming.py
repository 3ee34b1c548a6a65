"""A figure by the name that a user types: its own, or paper and number."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pandas as pd

from analysis.cells import ablations_of
from analysis.figures.compared import compared_by
from analysis.figures.contract import FigureKind
from analysis.figures.registry import FIGURES
from analysis.runs import Sweep
from trainables.store import UserError


@dataclass(frozen=True)
class Drawing:
    """A figure of one sweep, ready to be drawn: its kind, the name of its files, its table."""

    kind: FigureKind
    table: pd.DataFrame


def chosen(sweep: Sweep, name: str, *, by: str | None = None, x: str | None = None) -> Drawing:
    """The figure of that name from that sweep, compared by another axis, over another x-axis.

    Raises:
        UserError: no such figure, axis or x-axis; the figure has no choice of x-axis; the sweep has
            nothing for it.
    """
    kind = figure_named(name)
    if x is not None:
        if kind.over is None:
            raise UserError(f"figure '{kind.name}' has no choice of x-axis; leave out x")
        kind = kind.over(x)
    ablations = ablations_of(sweep)
    if by is not None:
        ablations = compared_by(sweep, ablations, by)
    table = kind.table(sweep, ablations)
    words = [f"by {by}"] * (by is not None) + [f"over {x}"] * (x is not None)
    if table.empty:
        shown = " ".join([f"figure '{kind.name}' shows", *words])
        raise UserError(f"{sweep.name}: no finished run has what {shown}")
    own_name = "-".join([kind.name, *(word.replace(" ", "-") for word in words)])
    return Drawing(replace(kind, name=own_name), table)


def figure_named(name: str) -> FigureKind:
    """The kind of that name, or that draws that figure of a paper: `4-left`, `P1-4-left`.

    Case and spaces do not count. The paper may be left out where one paper alone has the number.

    Raises:
        UserError: no such figure (lists those that exist), or one in each paper.
    """
    wanted = _plain(name)
    for kind in FIGURES.values():
        if wanted == _plain(kind.name):
            return kind
    found = [(text, kind) for text, kind in papers() if wanted in _spellings(text)]
    if len({text for text, _ in found}) > 1:
        raise UserError(f"figure '{name}': which? {' or '.join(_typed(text) for text, _ in found)}")
    if not found:
        raise UserError(f"no figure '{name}'; there are: {listed()}")
    return found[0][1]


def papers() -> Iterator[tuple[str, FigureKind]]:
    """Every figure of a paper with the kind that draws it."""
    return ((text, kind) for kind in FIGURES.values() for text in kind.paper)


def listed() -> str:
    """All figures in one line, each with the papers' figures that it draws."""
    return ", ".join(
        f"{kind.name} ({', '.join(map(_typed, kind.paper))})" if kind.paper else kind.name
        for kind in FIGURES.values()
    )


def _spellings(text: str) -> tuple[str, str]:
    whole = _plain(text)
    return whole, whole.split("-", 1)[1]


def _typed(text: str) -> str:
    return text.replace(" ", "-")


def _plain(text: str) -> str:
    return "-".join(text.lower().split())
