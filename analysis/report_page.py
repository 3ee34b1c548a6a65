"""The report's pages from one content: an HTML file that needs no network, and Markdown."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.cells import Ablation
from analysis.report_tables import best_shown, levels_shown, runs_shown, singles_shown
from analysis.runs import Sweep
from analysis.trend_report import Table, Trends
from analysis.verdicts import Verdict, Word

if TYPE_CHECKING:
    import jinja2

    from analysis.figures.contract import SavedFigure

TEMPLATES = Path(__file__).parent / "templates"
NO_VERDICT = "No verdict: the sweep has no finished run on which an axis could be judged."
SPECIAL = re.compile(r"([\\`*_{}\[\]>|#])")
"""What Markdown would read as its own."""


@dataclass(frozen=True)
class Pages:
    """The report twice."""

    html: str
    markdown: str


def render(
    sweep: Sweep,
    ablations: Sequence[Ablation],
    verdicts: Sequence[Verdict],
    trends: Trends,
    figures: Sequence[SavedFigure],
    basis: str,
    addresses: Mapping[str, str],
) -> Pages:
    """The pages; `addresses` links runs, by run_id, to where more is to be seen of them."""
    content: dict[str, Any] = {
        "plan": sweep.plan,
        "regime_rules": sorted({m["regime_rule"] for m in sweep.manifests.values()}),
        "basis": basis,
        "scopes": by_scope([verdict for verdict in verdicts if verdict.compares]),
        "besides": besides(verdicts),
        "singles": singles_shown(verdicts),
        "no_verdict": NO_VERDICT,
        "problems": sweep.problems,
        "ablations": ablations,
        "rules": _rules(verdicts),
        "trends": trends.sections,
        "levels": [t for a in ablations if (t := levels_shown(a)).rows],
        "best": [s for a in ablations if (s := best_shown(sweep, a)) is not None],
        "figures": figures,
        "runs": runs_shown(sweep, ablations),
        "addresses": addresses,
        "environment": sweep.environment,
        "spec": sweep.spec,
    }
    return Pages(
        _templates(escape=True).get_template("report.html.j2").render(content),
        _templates(escape=False).get_template("report.md.j2").render(content),
    )


def by_scope(verdicts: Sequence[Verdict]) -> dict[tuple[str, str], list[Verdict]]:
    """Verdicts by scope and evidence, which they share."""
    groups: dict[tuple[str, str], list[Verdict]] = {}
    for verdict in verdicts:
        groups.setdefault((verdict.scope, verdict.evidence), []).append(verdict)
    return groups


def besides(verdicts: Sequence[Verdict]) -> list[tuple[str, str]]:
    """The claims on the runs by themselves, in words, each with the word on it.

    Those that are settled by statement, then all that are not together, by their ids.
    """
    singles = [verdict for verdict in verdicts if not verdict.compares]
    settled = [v for v in singles if v.word is not Word.INCONCLUSIVE]
    left_open = dict.fromkeys(v.id for v in singles if v.word is Word.INCONCLUSIVE)
    words = list(dict.fromkeys((named(verdict), str(verdict.word)) for verdict in settled))
    return words + ([(", ".join(left_open), str(Word.INCONCLUSIVE))] if left_open else [])


def named(verdict: Verdict) -> str:
    """The claim by its id and its statement."""
    return f"{verdict.id} {verdict.claim}".strip()


def _templates(*, escape: bool) -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=escape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"inlined": _inlined, "plain": plain, "filled": _filled}
    return environment


def _rules(verdicts: Sequence[Verdict]) -> list[tuple[str, str]]:
    from analysis.claims.registry import CLAIMS

    claims = [CLAIMS[name] for name in dict.fromkeys(v.id for v in verdicts) if name]
    return [(f"{claim.id}, {claim.statement}", claim.rule) for claim in claims]


def _inlined(svg: Path) -> str:
    # An image of its own: ids of several inlined SVG elements would collide in one page.
    return "data:image/svg+xml;base64," + base64.b64encode(svg.read_bytes()).decode()


def _filled(table: Table) -> Table:
    """The table without columns that are empty in every row."""
    kept = [n for n in range(len(table.columns)) if any(row[n] for row in table.rows)]
    if not table.rows:
        return table
    rows = [[row[n] for n in kept] for row in table.rows]
    return Table([table.columns[n] for n in kept], rows)


def plain(text: Any) -> str:
    """Text that Markdown shows as it is, on one line."""
    escaped = SPECIAL.sub(r"\\\1", " ".join(str(text).split()))
    return escaped.replace("<", "&lt;")  # MLflow's Markdown shows \< with its backslash
