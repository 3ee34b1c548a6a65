"""What settles a claim, and what does not: lengths, schedules, sizes and settings it is about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from analysis.cells import ablations_of
from analysis.claims import correlations, descent, fixed_weights, identities, parts, performance
from analysis.claims.facts import facts_of
from analysis.claims.judging import judge_claims
from analysis.claims.planting import SEEDS, PlantedRun, jitter, path_steps, planted_sweep
from analysis.claims.registry import CLAIMS
from analysis.verdicts import Verdict, Word

STEPS = 400


def verdicts(claim_id: str, runs: Sequence[PlantedRun]) -> list[Verdict]:
    sweep = planted_sweep(runs)
    return judge_claims(sweep, ablations_of(sweep), [CLAIMS[claim_id]])


def verdict(claim_id: str, runs: Sequence[PlantedRun]) -> Verdict:
    (found,) = verdicts(claim_id, runs)
    return found


@pytest.mark.parametrize("num_steps", [2, 12, 900])
@pytest.mark.parametrize("claim_id", ["C01", "C02"])
def test_a_few_positive_steps_are_not_almost_always(claim_id: str, num_steps: int) -> None:
    config = {"data": {"name": "cifar10"}}
    runs = [PlantedRun({"seed": s}, path_steps(num_steps, 0.05), 2, config=config) for s in SEEDS]
    found = verdict(claim_id, runs)
    assert found.word is Word.INCONCLUSIVE, found
    assert "3 of 3 runs have too few kept steps" in found.why


def test_more_than_two_negative_steps_refute_a_short_run_too() -> None:
    gamma = np.where(np.arange(STEPS) < 3, -0.01, 0.05)
    runs = [PlantedRun({"seed": seed}, path_steps(STEPS, gamma)) for seed in SEEDS]
    assert verdict("C01", runs).word is Word.REFUTED
    gamma[2] = 0.05
    runs = [PlantedRun({"seed": seed}, path_steps(STEPS, gamma)) for seed in SEEDS]
    assert verdict("C01", runs).word is Word.INCONCLUSIVE


def test_one_bad_run_among_many_that_are_too_short_does_not_refute() -> None:
    gamma = np.where(np.arange(STEPS) < 3, -0.01, 0.05)
    bad = PlantedRun({"seed": 0}, path_steps(STEPS, gamma))
    fine = [PlantedRun({"seed": seed}, path_steps(STEPS, 0.05)) for seed in (1, 2)]
    found = verdict("C01", [bad, *fine])
    assert found.word is Word.INCONCLUSIVE, found
    assert "2 of 3 runs have too few kept steps" in found.why


def test_one_step_per_epoch_has_no_band() -> None:
    runs = [PlantedRun({"seed": seed}, path_steps(STEPS, 0.05), 1) for seed in SEEDS]
    assert "10 steps per epoch" in verdict("C05", runs).missing


def test_kept_steps_that_end_before_the_null_rises_do_not_refute_the_rise() -> None:
    """Two epochs, the second left out: the null rises by 1.3 in the first."""
    runs = [
        PlantedRun({"seed": seed}, path_steps(STEPS, 0.05 * jitter(seed)), STEPS // 2)
        for seed in SEEDS
    ]
    found = verdict("C21", runs)
    assert found.word is Word.INCONCLUSIVE, found
    assert "before the null model itself rises" in found.why


def step_sizes(local: np.ndarray, schedule: str, data: str) -> list[PlantedRun]:
    config = {"data": {"name": data}, "schedule": {"name": schedule}}
    runs = []
    for seed in SEEDS:
        steps = path_steps(STEPS, 0.05) | {"local_lr": local * jitter(seed)}
        steps["null_local_lr"] = 0.1 - 1e-9 * np.arange(STEPS)
        runs.append(PlantedRun({"seed": seed}, steps, 20, config=config))
    return runs


def test_a_constant_learning_rate_is_mirrored_by_nothing() -> None:
    falling = np.linspace(0.4, 0.1, STEPS)
    assert "under a schedule" in verdict("C26", step_sizes(falling, "constant", "cifar10")).missing
    found = verdict("C26", step_sizes(falling, "constant", "wikitext2"))
    assert found.word is Word.BEYOND, found
    assert found.scope == "WikiText-2 at a constant learning rate"
    flat = step_sizes(0.4 - 1e-6 * np.arange(STEPS), "constant", "wikitext2")
    assert verdict("C26", flat).word is Word.REFUTED


@pytest.mark.parametrize(
    ("dimension", "factor", "word"),
    [
        (20_000, 1.005, Word.PASSES),
        (20_000, 1.015, Word.FAILS),
        (2_000, 1.015, Word.PASSES),
        (100, 1.0, Word.INCONCLUSIVE),
        (None, 1.0, Word.INCONCLUSIVE),
    ],
)
def test_the_closed_form_is_given_what_walks_in_that_many_dimensions_scatter(
    dimension: int | None, factor: float, word: Word
) -> None:
    assert verdict("C22", identities.walks(factor, dimension)).word is word


@pytest.mark.parametrize(("dimension", "num_steps"), [(400, 30), (100, 200)])
def test_the_mean_over_a_walk_scatters_by_half_the_root_of_the_dimension(
    dimension: int, num_steps: int
) -> None:
    draws = np.random.default_rng(5)
    means = []
    for _ in range(200):
        walk = draws.standard_normal((num_steps, dimension))
        walk /= np.linalg.norm(walk, axis=1, keepdims=True)
        away = np.cumsum(walk[::-1], axis=0)[::-1]
        gamma = (walk * away).sum(axis=1) / np.linalg.norm(away, axis=1)
        means.append(float((gamma * np.sqrt(np.arange(num_steps, 0, -1.0))).mean()))
    assert np.std(means) == pytest.approx(0.5 / dimension**0.5, rel=0.15)


def test_any_weight_decay_at_all_is_not_plain_sgd() -> None:
    (run,) = identities.descents()
    assert verdict("C24", [run]).word is Word.PASSES
    decayed = replace(run, config={"optimizer": {"name": "sgd", "weight_decay": 1e-12}})
    assert "weight decay of exactly 0" in verdict("C24", [decayed]).missing


@pytest.mark.parametrize(
    ("exponent", "word"), [(0.5, Word.BEYOND), (0.2, Word.REFUTED), (0.0, Word.REFUTED)]
)
def test_the_square_root_is_judged_at_fixed_weights_without_a_batch_axis(
    exponent: float, word: Word
) -> None:
    found = verdict("C13", fixed_weights.fixed_weights(exponent))
    assert (found.word, found.scope) == (word, "at fixed weights, over probe batches"), found
    assert verdict("C13", fixed_weights.fixed_weights(exponent, (0,))).word is Word.INCONCLUSIVE
    assert verdict("C12", fixed_weights.fixed_weights(exponent)).missing


def test_probe_batches_whose_gamma_is_negative_have_no_law() -> None:
    found = verdict("C13", fixed_weights.fixed_weights(0.5, sign=-1.0))
    assert found.word is Word.INCONCLUSIVE, found


def test_the_law_over_runs_and_that_at_fixed_weights_are_judged_apart() -> None:
    probed = fixed_weights.fixed_weights(0.5)[0].tables
    runs = CLAIMS["C13"].planted[Word.EXPLAINED]()
    runs = [replace(run, tables=probed) if run.length >= 60 else run for run in runs]
    found = verdicts("C13", runs)
    assert found[0].word is Word.EXPLAINED
    assert found[-1].scope == "at fixed weights, over probe batches"


def large_batches(per_epoch: int, growth: float) -> list[PlantedRun]:
    runs = CLAIMS["C39"].planted[Word.BEYOND]()
    return [
        replace(
            run,
            steps_per_epoch=per_epoch,
            steps=run.steps | {"learning_rate": np.full(200, growth ** (seen["batch_size"] > 512))},
        )
        for run in runs
        for seen in [run.axes]
    ]


def test_batches_of_less_than_a_tenth_of_the_data_are_not_large() -> None:
    assert verdict("C39", large_batches(10, 2.0)).word is Word.BEYOND
    assert "at most 10 steps per epoch" in verdict("C39", large_batches(11, 2.0)).missing


def test_a_learning_rate_that_is_not_linear_in_the_batch_size_settles_nothing() -> None:
    found = verdict("C39", large_batches(10, 2.0**0.5))
    assert found.word is Word.INCONCLUSIVE, found
    assert "does not grow linearly" in found.why


def test_a_table_s_cell_is_judged_at_its_own_setting() -> None:
    """A grid of learning rates, of which the paper's alone reaches the reported accuracy."""
    grid = [
        *performance.planted(0.902, rate=1e-2),
        *performance.planted(0.60, rate=1e-4),
        *performance.planted(0.95, rate=1e-3),
    ]
    found = verdict("C43", grid)
    assert found.word is Word.BEYOND, found
    assert "learning rate 0.01" in found.evidence
    assert verdict("C43", performance.planted(0.902, rate=1e-3)).missing


def test_of_settings_that_a_table_does_not_tell_apart_the_best_is_judged_and_named() -> None:
    grid = [
        *performance.planted(0.85, weight_decay=1e-4),
        *performance.planted(0.902, weight_decay=1e-6),
    ]
    found = verdict("C43", grid)
    assert found.word is Word.BEYOND, found
    assert "weight_decay=1e-06" in found.evidence
    assert "the best of its 2 settings" in found.evidence


def test_a_perplexity_of_attention_along_tokens_is_not_the_table_s() -> None:
    config = {
        "data": {"name": "wikitext2"},
        "model": {"name": "transformer"},
        "optimizer": {"name": "adam"},
        "learning_rate": {"base": 1e-4, "rule": "sqrt", "reference_batch_size": 32},
        "batch_size": 64,
    }
    entry = {"run_id": "a", "axes": {}, "num_steps": 11_460}
    assert performance.reported(facts_of({**entry, "config": config}, None, ())) is None
    for name, value in performance.AUTHORS_LM:
        group, key = name.split(".")
        config[group] = {**config.get(group, {}), key: value}
    cell = performance.reported(facts_of({**entry, "config": config}, None, ()))
    assert cell is not None
    assert cell.value == pytest.approx(60.72)


def test_each_part_of_a_network_has_a_verdict_on_gamma_and_on_zigzag() -> None:
    runs = parts.switched(0.05, 0.049, zigzag=(0.1, 0.6))
    found = verdicts("C46", runs)
    assert {verdict.scope: verdict.word for verdict in found} == {
        "gamma / null, model skips": Word.REFUTED,
        "share of zigzag windows, model skips": Word.BEYOND,
    }


def test_networks_of_other_width_are_not_compared_by_their_skips() -> None:
    runs = [
        replace(run, config={"model": {"width": 1.0 if run.axes["model.skips"] else 2.0}})
        for run in parts.switched(0.05, 0.02, zigzag=(0.1, 0.6))
    ]
    found = verdicts("C46", runs)
    assert {verdict.word for verdict in found} == {Word.INCONCLUSIVE}


def test_a_schedule_that_the_kept_epochs_do_not_reach_is_not_mirrored() -> None:
    """Vaihingen's learning rate falls in its last epoch, which is left out."""
    found = verdict("C26", step_sizes(np.linspace(0.4, 0.1, STEPS), "milestones", "vaihingen"))
    assert found.word is Word.INCONCLUSIVE
    assert "does not change the learning rate within the kept epochs" in found.why


def test_a_schedule_that_is_followed_loosely_is_neither_mirrored_nor_refuted() -> None:
    runs = CLAIMS["C26"].planted[Word.BEYOND]()
    draws = np.random.default_rng(3).normal(size=20).repeat(20)
    loose = []
    for run in runs:
        rate = run.steps["learning_rate"]
        local = rate + 0.8 * rate.std() * (draws - draws.mean()) / draws.std()
        loose.append(replace(run, steps=run.steps | {"local_lr": local}))
    found = verdict("C26", loose)
    assert 0.5 < float(found.evidence.split("schedule: ")[1].split(" ")[0]) < 0.8
    assert found.word is Word.INCONCLUSIVE, found


@pytest.mark.parametrize(
    ("early", "late", "word"),
    [
        (-0.9, 0.9, Word.BEYOND),
        (-0.33, 0.61, Word.INCONCLUSIVE),
        (0.2, 0.9, Word.REFUTED),
        (-0.9, -0.1, Word.REFUTED),
    ],
)
def test_correlations_of_the_right_signs_are_not_refuted(
    early: float, late: float, word: Word
) -> None:
    mean = np.where(np.arange(correlations.STEPS) < 50, early, late)
    runs = correlations.descent(mean, model="resnet18")
    long = [
        replace(run, steps={name: np.repeat(own, 3) for name, own in run.steps.items()})
        for run in runs
    ]
    assert verdict("C34", long).word is word


def test_each_network_has_its_own_verdict_on_small_learning_rates() -> None:
    later = CLAIMS["C35"].planted[Word.BEYOND]()
    never = [
        replace(run, config={"model": {"name": "resnet18"}, "batch_size": "full"})
        for run in CLAIMS["C35"].planted[Word.REFUTED]()
    ]
    found = verdicts("C35", [*later, *never])
    assert {verdict.scope: verdict.word for verdict in found} == {
        "cnn": Word.BEYOND,
        "resnet18": Word.REFUTED,
    }


def test_one_run_that_turns_among_many_that_may_yet_does_not_support_a_turn() -> None:
    turned = CLAIMS["C31"].planted[Word.BEYOND]()[:1]
    smooth = CLAIMS["C31"].planted[Word.INCONCLUSIVE]()[1:]
    found = verdict("C31", [*turned, *smooth])
    assert found.word is Word.INCONCLUSIVE, found
    assert "2 of 3 runs settle nothing" in found.why


def test_a_short_run_that_is_never_opposed_earns_nothing_to_be_refuted() -> None:
    smooth = descent.planted(np.full(200, 0.9))
    assert verdict("C37", smooth).word is Word.INCONCLUSIVE


def test_a_descent_that_is_never_opposed_has_no_zigzag_to_look_at() -> None:
    found = verdict("C32", correlations.descent(correlations.TURN, lags=(0.9, 0.9, 0.9, 0.9)))
    assert found.word is Word.INCONCLUSIVE
