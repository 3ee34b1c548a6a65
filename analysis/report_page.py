"""The report's pages from one content: an HTML file that needs no network, and Markdown."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.cells import Ablation
from analysis.report_tables import best_shown, levels_shown, runs_shown
from analysis.runs import Sweep
from analysis.trend_report import Trends
from analysis.verdicts import Verdict

if TYPE_CHECKING:
    import jinja2

    from analysis.figures.contract import SavedFigure

TEMPLATES = Path(__file__).parent / "templates"
SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#])")
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
        "scopes": by_scope(verdicts),
        "problems": sweep.problems,
        "ablations": ablations,
        "rules": _rules(verdicts),
        "trends": trends.sections,
        "levels": [t for a in ablations if (t := levels_shown(a)).rows],
        "best": [t for a in ablations if (t := best_shown(sweep, a)).rows],
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
    environment.filters |= {"inlined": _inlined, "plain": _plain}
    return environment


def _rules(verdicts: Sequence[Verdict]) -> list[tuple[str, str]]:
    from analysis.claims.registry import CLAIMS

    claims = [CLAIMS[name] for name in dict.fromkeys(v.id for v in verdicts) if name]
    return [(f"{claim.id}, {claim.statement}", claim.rule) for claim in claims]


def _inlined(svg: Path) -> str:
    # An image of its own: ids of several inlined SVG elements would collide in one page.
    return "data:image/svg+xml;base64," + base64.b64encode(svg.read_bytes()).decode()


def _plain(text: Any) -> str:
    """Text that Markdown shows as it is, on one line."""
    return SPECIAL.sub(r"\\\1", " ".join(str(text).split()))
