"""A sweep's conclusions in one call each: verdicts as a table, a figure by its name."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import TYPE_CHECKING

import pandas as pd

from analysis.cache import cached, digest_of
from analysis.cells import ablations_of
from analysis.runs import Sweep
from analysis.verdicts import Verdict, Word

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VERDICT_COLUMNS = ("id", "claim", "source", "scope", "verdict", "why", "evidence")


def verdicts(sweep: Sweep) -> pd.DataFrame:
    """One row per claim that applies to the sweep, and scope.

    Columns, all text: id (in the registry of claims; empty for a comparison along an axis), claim,
    source (paper and section), scope (the part of the sweep judged), verdict (see
    `analysis.verdicts.Word`), why, evidence (the numbers).
    """
    found = judged(sweep)
    rows = [(v.id, v.claim, v.source, v.scope, str(v.word), v.why, v.evidence) for v in found]
    return pd.DataFrame(rows, columns=list(VERDICT_COLUMNS), dtype=object)


def judged(sweep: Sweep) -> list[Verdict]:
    """The verdicts of a report, in its order; kept beside the sweep, as every run is read."""
    return sweep.remember("verdicts", lambda: _judged(sweep))


def _judged(sweep: Sweep) -> list[Verdict]:
    folder = sweep.cache_folder
    key = digest_of([sweep.plan, sweep.manifests, sweep.runs["status"].tolist()])
    table = cached(folder and folder / "verdicts.parquet", key, lambda: _judge(sweep))
    # A table holds texts, which are equal to the words but are not they.
    words = [Word(word) for word in table.pop("word")]
    rows = ({str(k): v for k, v in row.items()} for row in table.to_dict("records"))
    return [Verdict(**row, word=word) for row, word in zip(rows, words, strict=True)]


def _judge(sweep: Sweep) -> pd.DataFrame:
    # A second of imports, which those who find the verdicts kept need not wait for.
    from analysis.claims.judging import judge

    rows = [asdict(verdict) for verdict in judge(sweep, ablations_of(sweep))]
    return pd.DataFrame(rows, columns=[field.name for field in fields(Verdict)], dtype=object)


def figure(sweep: Sweep, name: str, *, by: str | None = None, x: str | None = None) -> Figure:
    """A figure, drawn from the sweep's own tables, ready for `savefig`.

    `name` is its own, or paper and number (`P1 4-left`); `by` the field whose values its curves
    compare (`seed` for one curve per seed), instead of the sweep's own; `x` another x-axis, one of
    `analysis.figures.x_axes.X_AXES`.

    Raises:
        UserError: no such figure, field or x-axis (lists those that are); the sweep has nothing
            for it.
    """
    # A second of imports, which those who only want the tables need not wait for.
    from analysis.figures.contract import drawn
    from analysis.figures.naming import chosen
    from analysis.figures.style import style

    drawing = chosen(sweep, name, by=by, x=x)
    with style():
        return drawn(drawing.kind, sweep, drawing.table)
