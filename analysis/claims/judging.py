"""From a sweep to a verdict on every claim: each run is read once, then every rule decides."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.cells import Ablation
from analysis.claims.axes import judge_axes
from analysis.claims.contract import Claim, Evidence, Measured, Measures, Null
from analysis.claims.facts import Facts, facts_of
from analysis.claims.registry import CLAIMS
from analysis.claims.run import NULL_COLUMNS, ClaimRun
from analysis.exclusion import Exclusion
from analysis.runs import Sweep, read_ahead
from analysis.verdicts import Found, Outcome, Verdict, Word, exact_word, outcomes_in_words, word_of

ALWAYS_READ = {"probe_batches", "held_out"}
"""Tables that claims take into account where a run has them, and do not need."""


@dataclass
class Study:
    """A sweep, reduced to what its claims measured: in the data and in the null's own table."""

    facts: list[Facts] = field(default_factory=list)
    data: dict[str, list[Measured]] = field(default_factory=dict)
    null: dict[str, list[Measured]] = field(default_factory=dict)
    ablations: Sequence[Ablation] = ()

    def add(self, run: ClaimRun, claims: Sequence[Claim]) -> None:
        """Measure what those claims want of the run, and of the same run under the null model."""
        _add(self.data, run, claims)
        walks = [claim for claim in claims if claim.null is Null.WALK]
        if walks:
            _add(self.null, run.null(), walks)


def _add(found: dict[str, list[Measured]], run: ClaimRun, claims: Iterable[Claim]) -> None:
    # Claims of one family measure the same.
    values: dict[Callable[[ClaimRun], Measures], Measures] = {}
    for claim in claims:
        if claim.measure not in values:
            # Over a mean of zero a ratio is not finite, and counts as undefined.
            with np.errstate(divide="ignore", invalid="ignore"):
                values[claim.measure] = claim.measure(run)
        found.setdefault(claim.id, []).append(Measured(run.facts, values[claim.measure]))


def judge(sweep: Sweep, ablations: Sequence[Ablation]) -> list[Verdict]:
    """The verdicts of a report: on what the sweep varies, then on its runs by themselves.

    Claims that do not apply to the sweep are left out.
    """
    about = [verdict for verdict in judge_claims(sweep, ablations) if not verdict.missing]
    own = [verdict for verdict in about if verdict.compares]
    return [*own, *judge_axes(sweep, ablations), *(v for v in about if not v.compares)]


def judge_claims(
    sweep: Sweep, ablations: Sequence[Ablation], claims: Iterable[Claim] | None = None
) -> list[Verdict]:
    """A verdict on every claim, one per scope, whether it applies to the sweep or not."""
    chosen = list(CLAIMS.values() if claims is None else claims)
    study = study_of(sweep, ablations, chosen)
    return [verdict for claim in chosen for verdict in verdicts_of(claim, study)]


def study_of(sweep: Sweep, ablations: Sequence[Ablation], claims: Sequence[Claim]) -> Study:
    """Read the sweep's runs one by one and measure what the claims that apply want of them."""
    planned = {run["run_id"]: run for run in sweep.plan["runs"]}
    facts = {run_id: run_facts(sweep, run, claims) for run_id, run in planned.items()}
    study = Study(facts=list(facts.values()), ablations=ablations)
    apply = [claim for claim in claims if claim.missing(study.facts) is None]
    served = {run_id: [c for c in apply if c.serves(own)] for run_id, own in facts.items()}
    exclusions = {ablation.label: ablation.exclusion for ablation in ablations}

    def read(run_id: str) -> ClaimRun:
        exclusion = exclusions.get(planned[run_id]["ablations"][0], Exclusion())
        return _read(sweep, facts[run_id], exclusion, served[run_id])

    for run_id, run in read_ahead(read, [run_id for run_id, own in served.items() if own]):
        study.add(run, served[run_id])
    return study


def verdicts_of(claim: Claim, study: Study) -> Iterator[Verdict]:
    """The verdicts on one claim."""
    need = claim.missing(study.facts)
    if need is not None:
        why = f"needs {need.words}, which the sweep does not have"
        missing = "" if need.replicates else need.words
        yield _verdict(claim, Found(Outcome.OPEN, ""), Word.INCONCLUSIVE, why, missing)
        return
    on_data = _listed(claim.decide(Evidence(study.data[claim.id], study.ablations)))
    on_data = on_data or [Found(Outcome.UNDEFINED, "")]
    if claim.null is Null.EXACT:
        for data in on_data:
            yield _verdict(
                claim, data, exact_word(data), data.why or f"the measurement {_does(data)}"
            )
        return
    on_null = _on_null(claim, study)
    for data in on_data:
        null = on_null.get(data.scope, Found(Outcome.UNDEFINED, ""))
        yield _verdict(claim, data, word_of(data, null), data.why or _why(claim, data, null))


def _on_null(claim: Claim, study: Study) -> dict[str, Found]:
    if claim.null is Null.SILENT:
        return {}
    ablations = [null_ablation(ablation) for ablation in study.ablations]
    found = _listed(claim.decide(Evidence(study.null[claim.id], ablations)))
    return {each.scope: each for each in found}


def null_ablation(ablation: Ablation) -> Ablation:
    """The ablation with the null model's values in the place of gamma's."""
    cells, slices = ablation.cells, ablation.slices
    if "null_gamma" in cells.columns:
        over = {name: 1.0 for name in cells.columns if name.startswith("gamma_over_null")}
        cells = cells.assign(gamma=cells["null_gamma"], **over)
        slices = slices.assign(gamma=slices["null_gamma"])
    return replace(ablation, cells=cells, slices=slices)


def read_run(
    sweep: Sweep, planned: Mapping[str, Any], exclusion: Exclusion, claims: Sequence[Claim]
) -> ClaimRun:
    """One run with the columns that some claim wants; a run that is not done has none."""
    return _read(sweep, run_facts(sweep, planned, claims), exclusion, claims)


def run_facts(sweep: Sweep, planned: Mapping[str, Any], claims: Iterable[Claim]) -> Facts:
    """What is known of a run without reading a row: which columns its tables have, too."""
    run_id = planned["run_id"]
    manifest = sweep.manifests.get(run_id)
    blank = facts_of(planned, manifest, ())
    if manifest is None or not blank.usable:
        return blank
    present = {name.removesuffix(".parquet") for name in manifest.get("files", {})}
    tables = {name.split(".", 1)[0] for claim in claims for name in claim.columns} | ALWAYS_READ
    columns = [
        f"{table}.{column}"
        for table in ("steps", *sorted(tables & present - {"steps"}))
        for column in sweep.source.column_names(run_id, table)
    ]
    return replace(blank, columns=frozenset(columns))


def _read(sweep: Sweep, facts: Facts, exclusion: Exclusion, claims: Sequence[Claim]) -> ClaimRun:
    """The run with what those claims read of it; its facts say which tables it has."""
    has = {name.split(".", 1)[0] for name in facts.columns}
    if not has:
        return ClaimRun(facts, {}, {}, np.zeros(0, dtype=bool))
    named = (name for claim in claims for name in (*claim.columns, *claim.optional))
    wanted = [name.split(".", 1) for name in named]
    others = ({table for table, _ in wanted} | ALWAYS_READ) & has - {"steps"}
    found = {name: sweep.source.table(facts.run_id, name, None) for name in sorted(others)}
    own = [column for table, column in wanted if table == "steps"]
    nulls = [NULL_COLUMNS[column] for column in own if column in NULL_COLUMNS]
    columns = dict.fromkeys(["step", "distance", "null_gamma", *own, *nulls])
    steps = sweep.source.table(facts.run_id, "steps", list(columns))
    steps = pd.DataFrame() if steps is None else steps
    return ClaimRun(
        facts,
        {str(name): steps[name].to_numpy(float) for name in steps.columns},
        {name: table for name, table in found.items() if table is not None},
        _kept(exclusion, steps, facts),
    )


def _kept(exclusion: Exclusion, steps: pd.DataFrame, facts: Facts) -> NDArray[np.bool_]:
    if steps.empty:
        return np.zeros(0, dtype=bool)
    blank = np.full(len(steps), np.nan)
    distance = steps["distance"].to_numpy(float) if "distance" in steps.columns else blank
    return exclusion.kept_of_run(steps["step"].to_numpy(), distance, facts.length)


def _listed(found: Sequence[Found] | Found) -> Sequence[Found]:
    return [found] if isinstance(found, Found) else found


def _why(claim: Claim, data: Found, null: Found) -> str:
    if claim.null is Null.SILENT:
        return f"the measurement {_does(data)}; {claim.null.value}"
    words = outcomes_in_words(data.outcome, null.outcome)
    if data.strict is None or data.outcome is not Outcome.PASS:
        return words
    return f"{words}; {_STRICT[data.strict]}"


_STRICT = {
    Outcome.PASS: "it exceeds the null",
    Outcome.FAIL: "it does not exceed the null",
    Outcome.OPEN: "whether it exceeds the null is not settled",
    Outcome.UNDEFINED: "what would tell whether it exceeds the null was not measured",
}


def _does(data: Found) -> str:
    return f"{data.outcome.value} the rule".replace("no value for the rule", "no value")


def _verdict(claim: Claim, data: Found, word: Word, why: str, missing: str = "") -> Verdict:
    return Verdict(
        claim=claim.statement,
        source=claim.source,
        scope=data.scope,
        word=word,
        why=why,
        evidence=data.numbers,
        id=claim.id,
        missing=missing,
        compares=claim.compares,
    )
