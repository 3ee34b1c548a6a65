"""What a rule must not take for evidence: other settings, undefined values, runs too short."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.cells import ablations_of
from analysis.claims.facts import facts_of
from analysis.claims.judging import judge_claims
from analysis.claims.planting import SEEDS, PlantedRun, jitter, path_steps, planted_sweep
from analysis.claims.registry import CLAIMS
from analysis.verdicts import Verdict, Word

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
