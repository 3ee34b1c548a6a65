"""From a sweep to a verdict on every claim: each run is read once, then every rule decides."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.cells import Ablation
from analysis.claims.axes import judge_axes
from analysis.claims.contract import Claim, Evidence, Measured, Null
from analysis.claims.facts import Facts, facts_of
from analysis.claims.registry import CLAIMS
from analysis.claims.run import NULL_COLUMNS, ClaimRun
from analysis.exclusion import Exclusion
from analysis.runs import Sweep
from analysis.verdicts import Found, Outcome, Verdict, Word, exact_word, outcomes_in_words, word_of

OWN_NULL = ("null_gamma", *NULL_COLUMNS.values())


@dataclass
class Study:
    """A sweep, reduced to what its claims measured: in the data and in the null's own table."""

    facts: list[Facts] = field(default_factory=list)
    data: dict[str, list[Measured]] = field(default_factory=dict)
    null: dict[str, list[Measured]] = field(default_factory=dict)
    ablations: Sequence[Ablation] = ()

    def add(self, run: ClaimRun, claims: Iterable[Claim]) -> None:
        """Measure what every claim that the run can serve wants of it."""
        self.facts.append(run.facts)
        under_null = run.null()
        for claim in claims:
            if claim.serves(run.facts):
                measured = Measured(run.facts, claim.measure(run))
                self.data.setdefault(claim.id, []).append(measured)
                if claim.null is Null.WALK:
                    measured = Measured(run.facts, claim.measure(under_null))
                    self.null.setdefault(claim.id, []).append(measured)


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
    """Read the sweep's runs one by one and measure what the claims want of them."""
    study = Study(ablations=ablations)
    exclusions = {ablation.label: ablation.exclusion for ablation in ablations}
    for planned in sweep.plan["runs"]:
        exclusion = exclusions.get(planned["ablations"][0], Exclusion())
        study.add(read_run(sweep, planned, exclusion, claims), claims)
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
    manifest = sweep.manifests.get(planned["run_id"])
    blank = facts_of(planned, manifest, ())
    if manifest is None or not blank.usable:
        return ClaimRun(blank, {}, {}, np.zeros(0, dtype=bool))
    tables = _tables(sweep, planned["run_id"], manifest, claims)
    steps = tables.pop("steps", pd.DataFrame())
    columns = [f"steps.{name}" for name in steps.columns]
    columns += [f"{name}.{column}" for name, table in tables.items() for column in table.columns]
    return ClaimRun(
        facts_of(planned, manifest, columns),
        {str(name): steps[name].to_numpy(float) for name in steps.columns if name != "run_id"},
        tables,
        _kept(exclusion, steps, blank),
    )


def _tables(
    sweep: Sweep, run_id: str, manifest: Mapping[str, Any], claims: Sequence[Claim]
) -> dict[str, pd.DataFrame]:
    wanted = [name.split(".", 1) for claim in claims for name in claim.columns]
    steps = [column for table, column in wanted if table == "steps"]
    others = {table for table, _ in wanted} | {"probe_batches", "held_out"}
    present = {name.removesuffix(".parquet") for name in manifest.get("files", {})}
    columns = dict.fromkeys(["run_id", "step", "distance", *steps, *OWN_NULL])
    tables = {name: sweep.source.table(run_id, name, None) for name in sorted(others & present)}
    tables |= {"steps": sweep.source.table(run_id, "steps", list(columns))}
    return {name: table for name, table in tables.items() if table is not None}


def _kept(exclusion: Exclusion, steps: pd.DataFrame, facts: Facts) -> NDArray[np.bool_]:
    if steps.empty:
        return np.zeros(0, dtype=bool)
    blank = np.full(len(steps), np.nan)
    distance = steps["distance"].to_numpy(float) if "distance" in steps.columns else blank
    length = facts.num_steps, facts.steps_per_epoch
    return exclusion.kept_of_run(steps["step"].to_numpy(), distance, *length)


def _listed(found: Sequence[Found] | Found) -> Sequence[Found]:
    return [found] if isinstance(found, Found) else found


def _why(claim: Claim, data: Found, null: Found) -> str:
    if claim.null is Null.SILENT:
        return f"the measurement {_does(data)}; {claim.null.value}"
    words = outcomes_in_words(data.outcome, null.outcome)
    if data.strict is None or data.outcome is not Outcome.PASS:
        return words
    return f"{words}; the test of what exceeds the null it {_STRICT[data.strict]}"


_STRICT = {
    Outcome.PASS: "passes",
    Outcome.FAIL: "fails",
    Outcome.OPEN: "does not settle",
    Outcome.UNDEFINED: "cannot be put to, for want of what it needs",
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
