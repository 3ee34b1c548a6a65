"""Every claim on planted data: it reaches each word that it declares, none by the null alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from analysis.cells import ablations_of
from analysis.claims import statistics
from analysis.claims.contract import Claim, Null
from analysis.claims.facts import Facts, facts_of, planned_facts
from analysis.claims.judging import (
    Study,
    judge_claims,
    null_ablation,
    read_run,
    study_of,
    verdicts_of,
)
from analysis.claims.planting import PlantedRun, planted_sweep
from analysis.claims.registry import CLAIMS
from analysis.claims.run import ClaimRun
from analysis.exclusion import Exclusion
from analysis.reductions import values_of
from analysis.runs import Sweep
from analysis.verdicts import Verdict, Word

REACHED = [(claim.id, word) for claim in CLAIMS.values() for word in claim.planted]


def verdicts(claim: Claim, runs: Sequence[PlantedRun]) -> list[Verdict]:
    sweep = planted_sweep(runs)
    return judge_claims(sweep, ablations_of(sweep), [claim])


@pytest.mark.parametrize(("claim_id", "word"), REACHED)
def test_planted_data_get_their_word_and_the_null_s_own_table_is_never_beyond_it(
    claim_id: str, word: Word
) -> None:
    claim = CLAIMS[claim_id]
    sweep = planted_sweep(claim.planted[word]())
    study = study_of(sweep, ablations_of(sweep), [claim])
    found = list(verdicts_of(claim, study))
    assert found
    assert [verdict.word for verdict in found] == [word] * len(found), found
    assert not found[0].missing
    if claim.null is Null.WALK:
        study.data = study.null
        study.ablations = [null_ablation(ablation) for ablation in study.ablations]
        of_the_null = {verdict.word for verdict in verdicts_of(claim, study)}
        assert Word.BEYOND not in of_the_null


@pytest.mark.parametrize("claim_id", CLAIMS)
def test_judged_together_a_claim_gets_the_verdict_that_every_column_alone_gives_it(
    claim_id: str,
) -> None:
    claim = CLAIMS[claim_id]
    sweep = planted_sweep(next(iter(claim.planted.values()))())
    ablations = ablations_of(sweep)
    study = study_of(sweep, ablations, list(CLAIMS.values()))
    alone = Study(facts=study.facts, ablations=ablations)
    for facts in filter(claim.serves, study.facts):
        alone.add(whole_run(sweep, facts, ablations[0].exclusion), [claim])
    assert alone.data
    assert list(verdicts_of(claim, study)) == list(verdicts_of(claim, alone))


def whole_run(sweep: Sweep, facts: Facts, exclusion: Exclusion) -> ClaimRun:
    """The run with all that its tables hold, read for one claim."""
    steps = sweep.source.table(facts.run_id, "steps", None)
    if steps is None or not facts.usable:
        return ClaimRun(facts, {}, {}, np.zeros(0, dtype=bool))
    names = [name.removesuffix(".parquet") for name in sweep.manifests[facts.run_id]["files"]]
    found = {name: sweep.source.table(facts.run_id, name, None) for name in names}
    tables = {name: table for name, table in found.items() if table is not None and name != "steps"}
    distance = values_of(steps, "distance")
    kept = exclusion.kept_of_run(steps["step"].to_numpy(), distance, facts.length)
    columns = {str(name): steps[name].to_numpy(float) for name in steps if name != "run_id"}
    return ClaimRun(facts, columns, tables, kept)


def test_every_claim_of_the_list_is_there() -> None:
    assert list(CLAIMS) == [f"C{number:02d}" for number in range(1, 52)]


@pytest.mark.parametrize("claim_id", [claim.id for claim in CLAIMS.values() if claim.columns])
def test_a_column_that_no_run_has_is_named(claim_id: str) -> None:
    claim = CLAIMS[claim_id]
    sweep = planted_sweep(next(iter(claim.planted.values()))())
    bare = [facts_of(run, sweep.manifests[run["run_id"]], ()) for run in sweep.plan["runs"]]
    (verdict,) = verdicts_of(claim, Study(facts=bare))
    table, column = claim.columns[0].split(".")
    assert verdict.word is Word.INCONCLUSIVE
    assert verdict.missing.startswith(f"column {column} of the {table} table")
    assert verdict.missing in verdict.why


@pytest.mark.parametrize("claim_id", CLAIMS)
def test_without_a_finished_run_nothing_is_settled(claim_id: str) -> None:
    (verdict,) = verdicts_of(CLAIMS[claim_id], Study())
    assert verdict.word is Word.INCONCLUSIVE
    assert verdict.missing == "a finished run"


@pytest.mark.parametrize("claim_id", CLAIMS)
def test_exact_claims_pass_or_fail_and_others_do_not(claim_id: str) -> None:
    claim = CLAIMS[claim_id]
    exact = {Word.PASSES, Word.FAILS}
    assert (set(claim.planted) == exact) is (claim.null is Null.EXACT)
    assert Word.REFUTED in claim.planted or claim.null is Null.EXACT
    assert claim.rule
    assert claim.threshold
    assert claim.source.startswith("P")


def test_a_positive_gamma_on_held_out_gradients_needs_them_to_be_positive() -> None:
    runs = CLAIMS["C01"].planted[Word.BEYOND]()
    spoilt = [replace(run, tables={"held_out": negated(run.tables["held_out"])}) for run in runs]
    (verdict,) = verdicts(CLAIMS["C01"], spoilt)
    assert verdict.word is Word.EXPLAINED


def negated(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(gamma=-table["gamma"])


def test_the_null_is_as_noisy_as_the_gradients_were_measured_to_be() -> None:
    (run, *_) = CLAIMS["C05"].planted[Word.BEYOND]()
    sweep = planted_sweep([run])
    read = read_run(sweep, sweep.plan["runs"][0], Exclusion(), [CLAIMS["C05"]])
    noise = read.null().whole("gamma") - read.whole("null_gamma")
    assert noise.std() == pytest.approx(0.1, rel=0.1)
    assert noise.mean() == pytest.approx(0, abs=0.02)
    assert read.null().noise_dimension() > read.facts.num_steps


def test_a_run_outside_the_kept_steps_changes_nothing() -> None:
    runs = CLAIMS["C04"].planted[Word.BEYOND]()
    for run in runs:
        run.steps["gamma"][-10:] = 1.0  # the last epoch, which is left out
    (verdict,) = verdicts(CLAIMS["C04"], runs)
    assert verdict.word is Word.BEYOND


def test_a_planned_run_is_asked_for_what_it_will_measure() -> None:
    entry = {"run_id": "r", "config": {}, "axes": {"batch_size": 16}, "num_steps": 100}
    facts = planned_facts(entry, CLAIMS["C12"].columns)
    assert CLAIMS["C12"].missing([facts]) is None
    need = CLAIMS["C31"].missing([facts])
    assert need is not None
    assert "mean_correlation" in need.words


def test_the_rank_correlation_is_scipy_s_bit_for_bit() -> None:
    generator = np.random.default_rng(2)
    x, y = generator.integers(0, 9, 40).astype(float), generator.normal(size=40)
    y[[3, 7]] = np.nan
    fine = np.isfinite(y)
    assert statistics.rank_correlation(x, y) == spearmanr(x[fine], y[fine]).statistic


@pytest.mark.parametrize("hole", [None, slice(3, 5), slice(10, 20)])
@pytest.mark.parametrize("how", ["mean", "std", "min", "max"])
def test_epochs_are_those_of_a_group_by_with_and_without_undefined_steps(
    how: Any, hole: slice | None
) -> None:
    gamma = np.random.default_rng(1).normal(size=57)
    if hole is not None:
        gamma[hole] = np.nan
    facts = Facts("r", {}, {}, num_steps=57, steps_per_epoch=10)
    run = ClaimRun(facts, {"gamma": gamma}, {}, np.arange(57) < 50)
    groups = pd.Series(gamma[:50]).groupby(np.arange(50) // 10)
    expected = groups.std(ddof=0) if how == "std" else getattr(groups, how)()
    np.testing.assert_allclose(run.by_epoch("gamma", how), expected, rtol=1e-12)
    assert run.kept_epochs.tolist() == [0, 1, 2, 3, 4]
