"""The report of a sweep: verdicts in words first, then what they rest on; one offline HTML file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis.cells import Ablation, ablations_of
from analysis.comparison import level_table
from analysis.conclusions import judged
from analysis.report_page import NO_VERDICT, besides, by_scope, named, plain, render
from analysis.report_tables import records, runs_table, verdicts_table
from analysis.runs import Sweep
from analysis.trend_report import Trends, trends_of
from analysis.verdicts import Verdict
from trainables.store import write_bytes, write_json

if TYPE_CHECKING:
    from analysis.figures.contract import SavedFigure

NAMED_PROBLEMS = 3
"""Runs that the headline names one by one; the report names all."""


@dataclass(frozen=True)
class Report:
    """What `write_report` wrote.

    `headline` is the verdict paragraph in Markdown, `abstract` the same below the sweep's title and
    question; `tags` are the words on the claims: verdict_C12 -> refuted.
    """

    html: Path
    markdown: Path
    summary: Path
    figures: list[SavedFigure]
    verdicts: list[Verdict]
    headline: str
    abstract: str
    tags: dict[str, str]


def write_report(
    sweep: Sweep, out_dir: Path | str, addresses: Mapping[str, str] | None = None
) -> Report:
    """Judge the sweep; write report.html, report.md, summary.json, figures/, tables/ to `out_dir`.

    `addresses` are those of the runs' pages on an MLflow server, by run_id, for the table of runs.
    A sweep without a single finished run gets a report too: it says so.

    Raises:
        UserError: the spec's analysis options are wrong.
    """
    # Seconds of imports, which those who only want the tables need not wait for.
    from analysis.figures.contract import save_figure
    from analysis.figures.registry import FIGURES

    folder = Path(out_dir)
    ablations = ablations_of(sweep)
    verdicts = judged(sweep)
    trends = trends_of(ablations)
    shown = [kind for kind in FIGURES.values() if kind.in_report]
    saved = {kind.name: save_figure(kind, sweep, ablations, folder / "figures") for kind in shown}
    figures = [figure for figure in saved.values() if figure is not None]
    _remove(folder / "figures", [name for name, figure in saved.items() if figure is None])
    headline = headline_of(sweep, ablations, verdicts)
    summary = _summary(sweep, ablations, verdicts, trends, headline)
    counted = basis(sweep)
    pages = render(sweep, ablations, verdicts, trends, figures, counted, addresses or {})
    _write_tables(sweep, ablations, verdicts, trends, folder / "tables")
    write_json(folder / "summary.json", summary)
    write_bytes(folder / "report.html", pages.html.encode())
    write_bytes(folder / "report.md", pages.markdown.encode())
    return Report(
        html=folder / "report.html",
        markdown=folder / "report.md",
        summary=folder / "summary.json",
        figures=figures,
        verdicts=verdicts,
        headline=headline,
        abstract=abstract_of(sweep, ablations, verdicts),
        tags=_verdict_tags(verdicts),
    )


def headline_of(
    sweep: Sweep,
    ablations: Sequence[Ablation],
    verdicts: Sequence[Verdict],
    quote: Callable[[str], str] = str,
) -> str:
    """The verdicts, their numbers, and what they rest on, as Markdown paragraphs.

    `quote` protects text that Markdown would read as its own; as it is, people read it best.
    """
    own = [verdict for verdict in verdicts if verdict.compares]
    lines = [line for key, group in by_scope(own).items() for line in _claims(key, group, quote)]
    others = "; ".join(f"{quote(words)}: **{word}**" for words, word in besides(verdicts))
    lines += [f"Of the runs by themselves: {others}."] if others else []
    more = f"; and {len(sweep.problems) - NAMED_PROBLEMS} more, see the report"
    if sweep.problems:
        problems = quote("; ".join(sweep.problems[:NAMED_PROBLEMS]))
        lines.append(f"Not counted: {problems}{more * (len(sweep.problems) > NAMED_PROBLEMS)}.")
    rests_on = quote(f"{basis(sweep)} {exclusions_text(ablations)}".strip())
    return "\n\n".join([*(lines if verdicts else [NO_VERDICT, *lines]), rests_on])


def abstract_of(sweep: Sweep, ablations: Sequence[Ablation], verdicts: Sequence[Verdict]) -> str:
    """The sweep's title, question and method, and the headline as the answer."""
    plan = sweep.plan
    asked = [f"*{plain(plan['question'])}*"] if plan.get("question") else []
    done = [plain(plan["description"])] if plan.get("description") else []
    done += [f"**Stand-in: {plain(sweep.stand_in)}.**"] if sweep.stand_in else []
    answer = headline_of(sweep, ablations, verdicts, plain)
    return "\n\n".join([f"### {plain(plan.get('title') or sweep.name)}", *asked, *done, answer])


def basis(sweep: Sweep) -> str:
    """How many runs count, and how many replays were exact, in words."""
    planned, usable = len(sweep.runs), len(sweep.usable)
    replays = sweep.runs["replay_exact"].dropna()
    exact = f"{int(replays.sum())} of {len(replays)} replays ended bitwise at w*."
    return f"{usable} of {planned} planned runs count; {exact}"


def exclusions_text(ablations: Sequence[Ablation]) -> str:
    """What each ablation leaves out, in words."""
    return " ".join(f"{a.label}, {a.exclusion.describe()}." for a in ablations if not a.cells.empty)


def _claims(
    key: tuple[str, str], verdicts: Sequence[Verdict], quote: Callable[[str], str]
) -> list[str]:
    scope, evidence = (quote(text) for text in key)
    words = " ".join(f"{quote(named(v))}: **{v.word}** ({quote(v.why)})." for v in verdicts)
    return [f"{scope}: {words}" if scope else words, *([evidence] if evidence else [])]


def _summary(
    sweep: Sweep,
    ablations: Sequence[Ablation],
    verdicts: Sequence[Verdict],
    trends: Trends,
    headline: str,
) -> dict[str, Any]:
    return {
        "sweep": sweep.name,
        "headline": headline,
        "verdicts": [asdict(verdict) for verdict in verdicts],
        **{name: records(table) for name, table in trends.tables.items()},
        "levels": [row for a in ablations for row in records(level_table(a))],
        "exclusions": {a.label: a.exclusion.describe() for a in ablations},
        "runs": {str(k): int(n) for k, n in sweep.runs["status"].value_counts().items()},
        "problems": sweep.problems,
    }


def _write_tables(
    sweep: Sweep,
    ablations: Sequence[Ablation],
    verdicts: Sequence[Verdict],
    trends: Trends,
    folder: Path,
) -> None:
    """The tables as CSV, which MLflow's UI shows as tables."""
    tables = {
        "runs": runs_table(sweep, ablations),
        "verdicts": verdicts_table(verdicts),
        "levels": pd.concat([level_table(a) for a in ablations]) if ablations else pd.DataFrame(),
        **trends.tables,
    }
    for name, table in tables.items():
        if len(table):
            write_bytes(folder / f"{name}.csv", table.to_csv(index=False).encode())
    _remove(folder, [name for name, table in tables.items() if not len(table)])


def _remove(folder: Path, names: Sequence[str]) -> None:
    """Remove what an earlier report wrote under names of which there is nothing now."""
    for path in (path for name in names for path in folder.glob(f"{name}.*")):
        path.unlink()


def _verdict_tags(verdicts: Sequence[Verdict]) -> dict[str, str]:
    """Tag verdict_<claim> -> the word on it, or the words where scopes differ."""
    words: dict[str, dict[str, None]] = {}
    for verdict in verdicts:
        if verdict.id:
            words.setdefault(f"verdict_{verdict.id}", {})[str(verdict.word)] = None
    return {name: "; ".join(found) for name, found in words.items()}
