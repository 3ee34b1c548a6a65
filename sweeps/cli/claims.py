"""The command `claims`: the papers' claims, a sweep's verdicts, what would settle the rest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sweeps.cli.arguments import Scale, Storage, Variant, app, stored
from sweeps.cli.output import console, print_table

if TYPE_CHECKING:
    from analysis.claims.contract import Claim, Need
    from analysis.claims.facts import Facts
    from analysis.verdicts import Verdict
    from sweeps.claims import Offer


@app.command()
def claims(
    sweep: Annotated[
        str | None, typer.Argument(help="A sweep in the storage, to be judged; else: print all.")
    ] = None,
    missing: Annotated[
        bool, typer.Option("--missing", help="What no sweep has settled, and which presets would.")
    ] = False,
    scale: Scale = "full",
    variant: Variant = None,
    storage: Storage = None,
) -> None:
    """Print the papers' claims, or judge a sweep by them.

    --missing says what no sweep has settled yet, which presets would, and what they cost.

    With --missing, --scale is that of the presets, and SWEEP a name in the storage (none: all).
    """
    from sweeps.places import places

    if missing:
        here = places(storage)
        names = (
            here.store.sweep_names() if sweep is None else [stored(sweep, "full", None, storage)[1]]
        )
        _print_missing(here.store.root, here.data_root, names, scale)
    elif sweep is None:
        _print_all()
    else:
        here, name = stored(sweep, scale, variant, storage)
        _print_verdicts(_verdicts(here.store.root, name))


def _print_all() -> None:
    from rich.table import Table

    from analysis.claims.registry import CLAIMS

    table = Table("id", "claim", "source", "rule", "needs", "can be", box=None, pad_edge=False)
    for claim in CLAIMS.values():
        needs = "; ".join(need.words for need in claim.all_needs)
        reach = ", ".join(claim.reach)
        table.add_row(claim.id, claim.statement, claim.source, claim.rule, needs, reach)
    print_table(table)


def _verdicts(root: Path, name: str) -> list[Verdict]:
    from analysis import ablations_of, load_sweep
    from analysis.claims.judging import judge_claims

    sweep = load_sweep(name, root)
    return judge_claims(sweep, ablations_of(sweep))


def _print_verdicts(verdicts: list[Verdict]) -> None:
    from rich.table import Table

    table = Table("id", "claim", "verdict", "why", "numbers", box=None, pad_edge=False)
    judged = [verdict for verdict in verdicts if not verdict.missing]
    for v in judged:
        scope = f" ({v.scope})" if v.scope else ""
        table.add_row(v.id, f"{v.claim}{scope}", v.word, v.why, v.evidence)
    if judged:
        print_table(table)
    out = console()
    out.print(f"{len(judged)} verdicts; not corrected for their number.", soft_wrap=True)
    for v in verdicts:
        if v.missing:
            out.print(f"{v.id} does not apply: needs {v.missing}", soft_wrap=True)


def _print_missing(root: Path, data_root: Path, names: list[str], scale: str) -> None:
    from rich.table import Table

    from analysis.claims.registry import CLAIMS
    from analysis.verdicts import Word
    from sweeps.claims import offers
    from sweeps.progress import counted

    settled = {
        verdict.id
        for name in names
        for verdict in _verdicts(root, name)
        if verdict.word is not Word.INCONCLUSIVE
    }
    open_claims = [claim for claim in CLAIMS.values() if claim.id not in settled]
    found = list(offers(data_root, scale))
    table = Table(
        "id", "claim", f"presets that would settle it ({scale} scale)", box=None, pad_edge=False
    )
    for claim in open_claims:
        table.add_row(claim.id, claim.statement, _settlers(claim, found))
    if open_claims:
        print_table(table)
    sweeps = counted(len(names), "sweep", "sweeps")
    judged = f"{sweeps} in {root}" if names else f"no sweep in {root} yet"
    console().print(f"{len(settled)} of {len(CLAIMS)} claims settled; {judged}.", soft_wrap=True)
    _print_costs([offer for offer in found if any(_serves(offer, c) for c in open_claims)])


def _settlers(claim: Claim, found: list[Offer]) -> str:
    names = [offer.preset for offer in found if _serves(offer, claim)]
    if names:
        return ", ".join(names)
    unmet = [need.words for need in claim.all_needs if not any(_meets(o, need) for o in found)]
    needs = unmet or [need.words for need in claim.all_needs]
    return f"none; needs {'; '.join(needs)}"


def _serves(offer: Offer, claim: Claim) -> bool:
    return claim.missing(_facts(offer)) is None


def _meets(offer: Offer, need: Need) -> bool:
    facts = _facts(offer)
    of_run, of_sweep = need.of_run, need.of_sweep
    return (of_run is None or any(map(of_run, facts))) and (of_sweep is None or of_sweep(facts))


def _facts(offer: Offer) -> list[Facts]:
    from analysis.claims.facts import planned_facts

    return [planned_facts(run, run["columns"]) for run in offer.runs]


def _print_costs(found: list[Offer]) -> None:
    from rich.table import Table

    table = Table("preset", "runs", "trajectories", "steps, both passes", box=None, pad_edge=False)
    for offer in sorted(found, key=lambda each: each.num_steps or float("inf")):
        steps = f"{offer.num_steps:,}" if offer.num_steps is not None else offer.reason
        table.add_row(offer.preset, str(len(offer.runs)), str(offer.num_trajectories), steps)
    if found:
        print_table(table)
