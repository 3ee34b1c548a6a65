"""P1 section 6: the locally optimal step size and the schedule of the learning rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from analysis.claims import needs, statistics
from analysis.claims.contract import Claim, Evidence, Measured, Measures, Need
from analysis.claims.facts import Facts
from analysis.claims.planting import SEEDS, PlantedRun, full, jitter, path_steps
from analysis.claims.rules import each_setting
from analysis.claims.run import Array, ClaimRun
from analysis.verdicts import Found, Outcome, Word

MIRRORS = 0.8
"""Correlation of the two curves that is 'similar' [1]; ours, untuned."""
UNLIKE = 0.5
"""Correlation below which they are not similar [1]; between the two nothing is settled; ours."""
FALLS = 0.8
"""Last third of the kept epochs over the first, below which local_lr 'falls' [1]; ours, untuned."""
FLAT = 0.2
"""Variation of local_lr over the null's below which the null accounts for its course [1]; ours."""


def mirroring(run: ClaimRun) -> Measures:
    """Correlation of local_lr with the schedule; its variation over the null's; its fall."""
    local, rate = run.by_epoch("local_lr"), run.by_epoch("learning_rate")
    over = local / run.by_epoch("null_local_lr")
    third = len(local) // 3
    first, last = statistics.mean(local[:third]), statistics.mean(local[len(local) - third :])
    return {
        "varies": float(np.ptp(rate) > 1e-9 * np.nanmax(rate)) if len(rate) else 0.0,
        "likeness": _correlation(rate, local),
        "variation": statistics.variation(over[np.isfinite(over)]),
        "fall": last / first if first > 0 else math.nan,
    }


def _correlation(x: Array, y: Array) -> float:
    fine = np.isfinite(x) & np.isfinite(y)
    if fine.sum() < statistics.FEWEST or np.ptp(x[fine]) == 0 or np.ptp(y[fine]) == 0:
        return math.nan
    return float(np.corrcoef(x[fine], y[fine])[0, 1])


def mirrors_or_falls(evidence: Evidence) -> list[Found]:
    """Under a schedule local_lr mirrors it; on WikiText-2 under a constant rate it falls.

    A constant learning rate has nothing to be mirrored, so runs of it do not speak for the first.
    """
    scheduled = [run for run in evidence.runs if not needs.is_constant(run.facts)]
    constant = [run for run in evidence.runs if needs.is_constant(run.facts)]
    found = [_mirrors(scheduled)] if scheduled else []
    return [*found, *([_falls(constant)] if constant else [])]


def _mirrors(runs: Sequence[Measured]) -> Found:
    """local_lr follows the schedule; beyond the null if the null's does not account for it."""
    if not any(run["varies"] for run in runs):
        why = "the schedule does not change the learning rate within the kept epochs"
        return Found(Outcome.OPEN, "", scope="under a schedule", why=why)
    name = "correlation with the schedule"
    like = each_setting(runs, lambda run: float(run["likeness"]), MIRRORS, None, name)
    unlike = each_setting(runs, lambda run: float(run["likeness"]), None, UNLIKE, name)
    outcome: Outcome = Outcome.FAIL if unlike.outcome is Outcome.PASS else Outcome.OPEN
    outcome = Outcome.PASS if like.outcome is Outcome.PASS else outcome
    varies = each_setting(
        runs,
        lambda run: float(run["variation"]),
        FLAT,
        None,
        "variation of local_lr over the null's",
    )
    numbers = f"{like.numbers} {varies.numbers}"
    return Found(outcome, numbers, varies.outcome, "under a schedule")


def _falls(runs: Sequence[Measured]) -> Found:
    name = "last third of the kept epochs over the first"
    found = each_setting(runs, lambda run: float(run["fall"]), None, FALLS, name)
    return replace(found, scope="WikiText-2 at a constant learning rate")


def speaks(facts: Facts) -> bool:
    """True if there is a schedule to be mirrored, or the paper says that local_lr falls."""
    return not needs.is_constant(facts) or needs.is_of(facts, "data", ["wikitext2"])


STEPS, PER_EPOCH = 400, 20
TIME = np.arange(STEPS) / STEPS
COSINE = 0.05 * (1 + np.cos(np.pi * TIME)) + 1e-4


def planted(
    local: ArrayLike,
    rate: ArrayLike,
    null: ArrayLike,
    seeds: Sequence[int] = SEEDS,
    schedule: str = "warmup_cosine",
) -> list[PlantedRun]:
    """Runs on WikiText-2 with that local_lr, learning rate and null local_lr."""
    config = {"data": {"name": "wikitext2"}, "schedule": {"name": schedule}}
    found = []
    for seed in seeds:
        steps = path_steps(STEPS, 0.05, learning_rate=rate)
        wave = 1 + 0.01 * np.sin(40 * TIME + seed)
        steps |= {
            "local_lr": full(STEPS, local) * jitter(seed) * wave,
            "null_local_lr": full(STEPS, null),
        }
        found.append(PlantedRun({"seed": seed}, steps, PER_EPOCH, config=config))
    return found


CLAIMS = (
    Claim(
        id="C26",
        statement="the locally optimal step size mirrors the schedule (ImageNet); under a constant "
        "learning rate it falls (WikiText-2)",
        source="P1 section 6, figure 3",
        metric="under a schedule the correlation of the epoch means of local_lr and learning rate, "
        "and the variation of local_lr over the null's, which is the effective learning rate; at a "
        "constant one the mean of local_lr over the last third of the kept epochs over the first",
        rule=f"under a schedule: passes if the correlation's interval lies above {MIRRORS} in "
        f"every setting, fails if below {UNLIKE} in every one; beyond the null if the variation "
        f"lies above {FLAT}, explained by it if below. At a constant learning rate, which nothing "
        f"can mirror, on WikiText-2 alone: passes if the ratio lies below {FALLS}, fails if above.",
        threshold="ours, untuned",
        needs=(
            Need("runs under a schedule, or on WikiText-2", speaks),
            needs.epochs(6),
        ),
        columns=("steps.local_lr", "steps.learning_rate", "steps.null_local_lr"),
        measure=mirroring,
        decide=mirrors_or_falls,
        planted={
            Word.BEYOND: partial(planted, COSINE**2, COSINE, COSINE),
            Word.EXPLAINED: partial(planted, 2 * COSINE, COSINE, COSINE),
            Word.REFUTED: partial(planted, TIME + 0.1, COSINE, COSINE),
            Word.INCONCLUSIVE: partial(planted, COSINE, COSINE, COSINE, (0,)),
        },
    ),
)
