"""What a rule must not take for evidence: other settings, undefined values, runs too short."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from analysis.cells import ablations_of
from analysis.claims import performance
from analysis.claims.batch_size import runs as batch_runs
from analysis.claims.facts import facts_of
from analysis.claims.judging import judge_claims, read_run
from analysis.claims.planting import SEEDS, PlantedRun, jitter, labelled, path_steps, planted_sweep
from analysis.claims.registry import CLAIMS
from analysis.verdicts import Verdict, Word
from geometry import gram

STEPS = 400


def verdict(claim_id: str, runs: Sequence[PlantedRun]) -> Verdict:
    sweep = planted_sweep(runs)
    (found,) = judge_claims(sweep, ablations_of(sweep), [CLAIMS[claim_id]])
    return found


def of_ablation(label: str, gamma: float, **config: object) -> list[PlantedRun]:
    """Three seeds along one learning rate; what the ablation fixes is not an axis."""
    return [
        PlantedRun(
            {"learning_rate": 0.01, "seed": seed},
            path_steps(STEPS, gamma * jitter(seed)),
            config=config,
            ablation=label,
        )
        for seed in SEEDS
    ]


def test_runs_of_ablations_that_share_axes_but_not_the_task_are_no_seeds_of_each_other() -> None:
    runs = [
        *of_ablation("linear", 0.05, data={"name": "asymmetric_linear"}),
        *of_ablation("mixture", 0.005, data={"name": "sinusoidal_mixture"}),
    ]
    found = verdict("C19", runs)
    assert found.word is Word.EXPLAINED, found
    assert "0.01 at linear, learning rate 0.01, 400 steps" in found.evidence
    assert "0.01 at mixture, learning rate 0.01, 400 steps" in found.evidence


def test_a_run_of_two_ablations_stays_with_its_other_seeds() -> None:
    config = {"model": {"name": "mlp"}}
    one = facts_of({"run_id": "a", "config": config, "axes": {}, "num_steps": 1}, None, ())
    axes = {"batch_size": 64}
    two = facts_of({"run_id": "b", "config": config, "axes": axes, "num_steps": 1}, None, ())
    assert one.replicate == two.replicate
    assert one.setting != two.setting


def test_a_run_of_two_ablations_is_compared_within_each() -> None:
    """Its axes are those of both ablations, at their defaults; the others have one of them."""
    shared = {"config": {"model": "resnet18"}, "axes": {"model.norm": "batch", "model.skips": True}}
    other = {
        "config": {"model": "resnet18", "model.norm": "group"},
        "axes": {"model.norm": "group"},
    }
    wider = {**other, "config": {**other["config"], "batch_size": 64}}
    one, two, three = (
        facts_of({"run_id": "r", "num_steps": 1, **each}, None, ())
        for each in (shared, other, wider)
    )
    assert one.config_without("model.norm") == two.config_without("model.norm")
    assert one.config_without("model.norm") != three.config_without("model.norm")


def test_a_band_around_a_negative_mean_is_not_narrow() -> None:
    signs = (-1.0) ** np.arange(STEPS)
    runs = [
        PlantedRun({"seed": seed}, path_steps(STEPS, -0.001 + 0.05 * signs * jitter(seed)))
        for seed in SEEDS
    ]
    found = verdict("C05", runs)
    assert found.word is Word.REFUTED, found


def test_undefined_held_out_gradients_are_not_positive() -> None:
    runs = CLAIMS["C01"].planted[Word.BEYOND]()
    undefined = labelled({"gamma": {"batch 0": np.nan}}, STEPS)
    blank = [replace(run, tables={"held_out": undefined}) for run in runs]
    assert verdict("C01", blank).word is Word.EXPLAINED


def test_the_default_mlp_is_not_the_papers() -> None:
    entry = {"run_id": "a", "axes": {}, "num_steps": 29_640}
    mlp = {
        "data": {"name": "cifar10"},
        "model": {"name": "mlp"},
        "batch_size": 256,
        "optimizer": {"name": "momentum"},
        "learning_rate": {"base": 0.01},
    }
    assert performance.reported(facts_of({**entry, "config": mlp}, None, ())) is None
    medium = {**mlp, "model": {"name": "mlp", "hidden": [4096, 4096, 4096]}}
    cell = performance.reported(facts_of({**entry, "config": medium}, None, ()))
    assert cell is not None
    assert cell.value == pytest.approx(59.42)


def test_zigzag_that_never_comes_at_the_large_rate_did_not_come_earlier_there() -> None:
    later = CLAIMS["C35"].planted[Word.BEYOND]()
    smooth = np.full(200, 0.9)
    runs = [
        replace(run, steps={**run.steps, "mean_correlation": smooth})
        if run.axes["learning_rate"] == 0.1
        else run
        for run in later
    ]
    assert verdict("C35", runs).word is Word.REFUTED


def cut(run: PlantedRun, num_steps: int) -> PlantedRun:
    """The first steps of a run."""
    tables = {name: table[table["step"] < num_steps] for name, table in run.tables.items()}
    steps = {name: values[:num_steps] for name, values in run.steps.items()}
    return replace(run, steps=steps, tables=tables)


@pytest.mark.parametrize(("claim_id", "num_steps"), [("C31", 38), ("C34", 40)])
def test_a_run_that_ends_before_the_turn_refutes_no_turn(claim_id: str, num_steps: int) -> None:
    runs = CLAIMS[claim_id].planted[Word.BEYOND]()
    assert verdict(claim_id, runs).word is Word.BEYOND
    found = verdict(claim_id, [cut(run, num_steps) for run in runs])
    assert found.word is Word.INCONCLUSIVE, found


def test_change_points_that_are_still_to_be_run_are_not_compared() -> None:
    runs = CLAIMS["C41"].planted[Word.BEYOND]()
    first = [
        run if run.axes["schedule"].get("change_point") in (None, 12) else replace(run, status="?")
        for run in runs
    ]
    first = [replace(run, metrics={}) if run.status == "?" else run for run in first]
    found = verdict("C41", first)
    assert found.word is Word.INCONCLUSIVE, found


@pytest.mark.parametrize("rate", [0.001, 0.1])
def test_small_rates_without_warm_up_say_nothing_of_a_large_one(rate: float) -> None:
    runs = CLAIMS["C51"].planted[Word.BEYOND]()
    small = [
        replace(run, config={**run.config, "learning_rate": rate}, status="done")
        for run in runs
        if run.status == "diverged"
    ]
    assert verdict("C51", [*runs, *small]).word is Word.BEYOND
    assert verdict("C51", [*small, *(r for r in runs if r.status == "done")]).word is (
        Word.INCONCLUSIVE
    )


def test_labels_that_are_all_noisy_are_not_real_data() -> None:
    runs = CLAIMS["C47"].planted[Word.BEYOND]()
    noisy = [
        replace(run, axes={**run.axes, "data.label_noise": run.axes["data.label_noise"] or 0.4})
        for run in runs
    ]
    assert verdict("C47", noisy).word is Word.INCONCLUSIVE


NUM_BATCHES, NOISE_OVER_B, NUM_MEASURED = 10, 200.0, 100


def noisy_batches(seed: int, batch_size: int) -> pd.DataFrame:
    """Gram matrices of batches of that noise scale, whose noise has few dimensions, as a table."""
    draw = torch.Generator().manual_seed(seed)
    spread = torch.exp(-torch.arange(400, dtype=torch.float64) / 8)
    shape = (NUM_MEASURED, NUM_BATCHES, 400)
    noise = torch.randn(shape, generator=draw, dtype=torch.float64) * (spread / spread.sum()).sqrt()
    mean = torch.nn.functional.normalize(
        torch.randn(400, generator=draw, dtype=torch.float64), dim=0
    )
    batches = noise + mean / NOISE_OVER_B**0.5
    matrices = batches @ batches.transpose(1, 2)
    together = gram.averaged_squared(matrices)
    squared = torch.cat([matrices.diagonal(dim1=1, dim2=2), together], dim=1)
    names = [f"batch {i}" for i in range(NUM_BATCHES)]
    names += [f"{i + 1} x b" for i in range(NUM_BATCHES)]
    scale = gram.noise_scale(matrices, batch_size).repeat_interleave(len(names))
    return pd.DataFrame(
        {
            "step": np.repeat(np.arange(NUM_MEASURED), len(names)),
            "label": names * NUM_MEASURED,
            "gradient_norm": squared.clamp(min=0).sqrt().flatten().numpy(),
            "noise_scale": scale.numpy(),
        }
    )


def test_noise_that_hides_the_signal_in_many_measurements_is_not_underestimated() -> None:
    """Gamma of the full gradient is sqrt(1 + B / b) times that of a minibatch, as it should be."""
    full = pd.DataFrame({"step": [0, 10], "gamma": 0.01 * (1 + NOISE_OVER_B) ** 0.5})
    runs = [
        PlantedRun(
            {"batch_size": 64, "seed": seed},
            path_steps(STEPS, 0.01 * jitter(seed)),
            tables={"full_batch": full, "probe_batches": noisy_batches(seed, 64)},
        )
        for seed in range(5)
    ]
    found = verdict("C44", runs)
    assert found.word is not Word.REFUTED, found
    ratio = float(found.evidence.split("b): ")[1].split(" ")[0])
    assert ratio == pytest.approx(1, rel=0.3)


def test_a_gamma_that_is_undefined_at_most_steps_is_not_almost_always_positive() -> None:
    gamma = np.full(STEPS, np.nan)
    gamma[:5] = 0.05
    runs = [PlantedRun({"seed": seed}, path_steps(STEPS, gamma)) for seed in SEEDS]
    assert verdict("C01", runs).word is Word.INCONCLUSIVE


def test_the_batch_law_of_one_network_says_nothing_of_another() -> None:
    """A ResNet's gamma does not grow with the batch size; that of an MLP at equal steps does."""
    resnet, mlp = ({"model": {"name": name}} for name in ("resnet18", "mlp"))
    runs = [replace(run, config=resnet) for run in batch_runs("of resnets", 0.0, 0.0)]
    runs += [replace(run, config=mlp) for run in batch_runs("of mlps", 0.5, 0.0, steps=60)]
    sweep = planted_sweep(runs)
    found = judge_claims(sweep, ablations_of(sweep), [CLAIMS["C13"]])
    assert {verdict.scope: verdict.word for verdict in found} == {
        "of resnets": Word.REFUTED,
        "of mlps": Word.BEYOND,
    }


def test_the_epochs_of_growing_batches_are_theirs_and_not_the_first_one_s() -> None:
    """Gamma is the number of the epoch: any other epochs would mix two of them."""
    sizes = [8, 8, 4, 4, 4, 2, 2, 2]
    gamma = np.repeat(np.arange(8.0), sizes)
    growth = {"batch_growth": {"epochs": [2, 5], "factor": 2}}
    planted = PlantedRun({"seed": 0}, path_steps(34, gamma), 8, config=growth)
    sweep = planted_sweep([planted])
    (ablation,) = ablations_of(sweep)
    run = read_run(sweep, sweep.plan["runs"][0], ablation.exclusion, [CLAIMS["C04"]])
    assert run.kept_epochs.tolist() == list(range(7))
    np.testing.assert_array_equal(run.by_epoch("gamma"), np.arange(7.0))
    np.testing.assert_array_equal(run.by_epoch("gamma", "std"), np.zeros(7))
    assert run.epoch_middles.tolist() == [4, 12, 18, 22, 26, 29, 31]
