"""The report of a sweep: verdicts in words first, then what they rest on; one offline HTML file."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis.cells import Ablation, ablations_of, short_name
from analysis.comparison import level_table, optimizer_axis, select_best
from analysis.runs import Sweep
from analysis.trend_report import Table, Trends, trends_of
from analysis.verdicts import Verdict
from trainables.store import write_bytes, write_json

if TYPE_CHECKING:
    from analysis.figures.contract import SavedFigure

NAMED_PROBLEMS = 3
"""Runs that the headline names one by one; the report names all."""
TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Report:
    """What `write_report` wrote; `headline` is the verdict paragraph, in Markdown."""

    html: Path
    summary: Path
    figures: list[SavedFigure]
    verdicts: list[Verdict]
    headline: str


def write_report(sweep: Sweep, out_dir: Path | str) -> Report:
    """Judge the sweep; write report.html, summary.json and figures/ into `out_dir`.

    A sweep without a single finished run gets a report too: it says so.

    Raises:
        UserError: the spec's analysis options are wrong.
    """
    # Seconds of imports, which those who only want the tables need not wait for.
    from analysis.claims.judging import judge
    from analysis.figures.contract import save_figure
    from analysis.figures.registry import FIGURES

    folder = Path(out_dir)
    ablations = ablations_of(sweep)
    verdicts = judge(sweep, ablations)
    trends = trends_of(ablations)
    shown = [kind for kind in FIGURES.values() if kind.in_report]
    saved = (save_figure(kind, sweep, ablations, folder / "figures") for kind in shown)
    figures = [figure for figure in saved if figure is not None]
    headline = headline_of(sweep, ablations, verdicts)
    summary = _summary(sweep, ablations, verdicts, trends, headline)
    page = _render(sweep, ablations, verdicts, trends, figures)
    write_json(folder / "summary.json", summary)
    write_bytes(folder / "report.html", page.encode())
    return Report(folder / "report.html", folder / "summary.json", figures, verdicts, headline)


def headline_of(sweep: Sweep, ablations: Sequence[Ablation], verdicts: Sequence[Verdict]) -> str:
    """The verdicts, their numbers, and what they rest on, as Markdown paragraphs."""
    own = [verdict for verdict in verdicts if verdict.compares]
    lines = [_claims_text(scope, group) for scope, group in _by_scope(own).items()]
    besides = "; ".join(f"{_named(v)}: **{v.word}**" for v in verdicts if not v.compares)
    lines += [f"Besides: {besides}."] if besides else []
    if not lines:
        lines = ["No verdict: the sweep has no finished run on which an axis could be judged."]
    more = f"; and {len(sweep.problems) - NAMED_PROBLEMS} more, see the report"
    if sweep.problems:
        named = "; ".join(sweep.problems[:NAMED_PROBLEMS])
        lines.append(f"Not counted: {named}{more * (len(sweep.problems) > NAMED_PROBLEMS)}.")
    return "\n\n".join([*lines, f"{basis(sweep)} {exclusions_text(ablations)}"])


def basis(sweep: Sweep) -> str:
    """How many runs count, and how many replays were exact, in words."""
    planned, usable = len(sweep.runs), len(sweep.usable)
    replays = sweep.runs["replay_exact"].dropna()
    exact = f"{int(replays.sum())} of {len(replays)} replays ended bitwise at w*."
    return f"{usable} of {planned} planned runs count; {exact}"


def exclusions_text(ablations: Sequence[Ablation]) -> str:
    """What each ablation leaves out, in words."""
    return " ".join(f"{a.label}, {a.exclusion.describe()}." for a in ablations if not a.cells.empty)


def _by_scope(verdicts: Sequence[Verdict]) -> dict[tuple[str, str], list[Verdict]]:
    groups: dict[tuple[str, str], list[Verdict]] = {}
    for verdict in verdicts:
        groups.setdefault((verdict.scope, verdict.evidence), []).append(verdict)
    return groups


def _claims_text(key: tuple[str, str], verdicts: Sequence[Verdict]) -> str:
    scope, evidence = key
    claims = " ".join(f"{_named(v)}: **{v.word}** ({v.why})." for v in verdicts)
    return f"{scope}: {claims} {evidence}" if scope else f"{claims} {evidence}"


def _named(verdict: Verdict) -> str:
    return f"{verdict.id} {verdict.claim}".strip()


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
        **{name: _records(table) for name, table in trends.tables.items()},
        "levels": [row for a in ablations for row in _records(level_table(a))],
        "exclusions": {a.label: a.exclusion.describe() for a in ablations},
        "runs": {str(k): int(n) for k, n in sweep.runs["status"].value_counts().items()},
        "problems": sweep.problems,
    }


def _render(
    sweep: Sweep,
    ablations: Sequence[Ablation],
    verdicts: Sequence[Verdict],
    trends: Trends,
    figures: Sequence[SavedFigure],
) -> str:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(
        plan=sweep.plan,
        regime_rules=sorted({manifest["regime_rule"] for manifest in sweep.manifests.values()}),
        basis=basis(sweep),
        scopes=_by_scope(verdicts),
        problems=sweep.problems,
        ablations=ablations,
        rules=_rules(verdicts),
        trends=trends.sections,
        levels=[t for a in ablations if (t := _levels_shown(a)).rows],
        best=[t for a in ablations if (t := _best_shown(sweep, a)).rows],
        figures=[(figure, _inlined(figure.svg)) for figure in figures],
        runs=_runs_shown(sweep, ablations),
        environment=sweep.environment,
        spec=sweep.spec,
    )


def _rules(verdicts: Sequence[Verdict]) -> list[tuple[str, str]]:
    from analysis.claims.registry import CLAIMS

    claims = [CLAIMS[name] for name in dict.fromkeys(v.id for v in verdicts) if name]
    return [(f"{claim.id}, {claim.statement}", claim.rule) for claim in claims]


def _inlined(svg: Path) -> str:
    # An image of its own: ids of several inlined SVG elements would collide in one page.
    return "data:image/svg+xml;base64," + base64.b64encode(svg.read_bytes()).decode()


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    # JSON knows no NaN: what is undefined becomes null.
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    return [{str(key): _plain(value) for key, value in row.items()} for row in rows]


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def _levels_shown(ablation: Ablation) -> Table:
    axis = "setting" if ablation.compared is None else short_name(ablation.compared)
    columns = [f"{ablation.label}: {axis}", "other axes", "runs", "gamma", "null", "gamma / null"]
    rows = [
        [
            str(row["level"]),
            row["group"],
            str(row["num_runs"]),
            *(
                f"{_number(row[m])} {_interval(row[f'{m}_low'], row[f'{m}_high'])}".strip()
                for m in ("gamma", "null_gamma", "gamma_over_null")
            ),
        ]
        for row in _records(level_table(ablation))
    ]
    return Table(columns, rows)


def _best_shown(sweep: Sweep, ablation: Ablation) -> Table:
    per = optimizer_axis(ablation)
    if per is None:
        return Table([], [])
    best = select_best(sweep, ablation, per)
    return Table([short_name(str(c)) for c in best.columns], _text_rows(best))


def _runs_shown(sweep: Sweep, ablations: Sequence[Ablation]) -> Table:
    runs = sweep.runs.drop(columns=["trajectory_id"])
    for ablation in ablations:
        means = ablation.cells.set_index("run_id").get("gamma")
        if means is not None:
            runs[f"mean gamma, {ablation.label}"] = runs["run_id"].map(means)
    shown = runs.dropna(axis=1, how="all")
    return Table([short_name(str(c)) for c in shown.columns], _text_rows(shown))


def _text_rows(table: pd.DataFrame) -> list[list[str]]:
    return [[_number(value) for value in row.values()] for row in _records(table)]


def _number(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"[{low:.3g}, {high:.3g}]"
