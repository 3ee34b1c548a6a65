"""P1 section 6: the locally optimal step size and the schedule of the learning rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from analysis.claims import needs, statistics
from analysis.claims.contract import Claim, Evidence, Measures
from analysis.claims.planting import SEEDS, PlantedRun, full, jitter, path_steps
from analysis.claims.rules import each_setting
from analysis.claims.run import Array, ClaimRun
from analysis.verdicts import Found, Word

MIRRORS = 0.8
"""Correlation of the two curves, or rank correlation with time, that is 'similar' [1]; ours."""
FLAT = 0.2
"""Variation of local_lr over the null's below which the null accounts for its course [1]; ours."""


def mirroring(run: ClaimRun) -> Measures:
    """Correlation of local_lr with the schedule, or its fall; variation over the null's."""
    local, rate = run.by_epoch("local_lr"), run.by_epoch("learning_rate")
    over = local / run.by_epoch("null_local_lr")
    varies = len(rate) > 0 and float(np.nanmax(rate) - np.nanmin(rate)) > 1e-9 * np.nanmax(rate)
    falls = -statistics.rank_correlation(run.kept_epochs.astype(float), local)
    return {
        "likeness": _correlation(rate, local) if varies else falls,
        "variation": statistics.variation(over[np.isfinite(over)]),
    }


def _correlation(x: Array, y: Array) -> float:
    fine = np.isfinite(x) & np.isfinite(y)
    if fine.sum() < statistics.FEWEST or np.ptp(x[fine]) == 0 or np.ptp(y[fine]) == 0:
        return math.nan
    return float(np.corrcoef(x[fine], y[fine])[0, 1])


def mirrors(evidence: Evidence) -> Found:
    """local_lr follows the schedule, or falls; beyond the null if it does more than the null's."""
    like = each_setting(
        evidence.runs,
        lambda run: float(run["likeness"]),
        MIRRORS,
        None,
        "correlation with the schedule (with time, reversed, where it is constant)",
    )
    varies = each_setting(
        evidence.runs,
        lambda run: float(run["variation"]),
        FLAT,
        None,
        "variation of local_lr over the null's",
    )
    return Found(like.outcome, f"{like.numbers} {varies.numbers}", varies.outcome)


STEPS, PER_EPOCH = 400, 20
TIME = np.arange(STEPS) / STEPS
COSINE = 0.05 * (1 + np.cos(np.pi * TIME)) + 1e-4


def planted(
    local: ArrayLike, rate: ArrayLike, null: ArrayLike, seeds: Sequence[int] = SEEDS
) -> list[PlantedRun]:
    """Runs with that local_lr, learning rate and null local_lr."""
    found = []
    for seed in seeds:
        steps = path_steps(STEPS, 0.05, learning_rate=rate)
        wave = 1 + 0.01 * np.sin(40 * TIME + seed)
        steps |= {
            "local_lr": full(STEPS, local) * jitter(seed) * wave,
            "null_local_lr": full(STEPS, null),
        }
        found.append(PlantedRun({"seed": seed}, steps, PER_EPOCH))
    return found


CLAIMS = (
    Claim(
        id="C26",
        statement="the locally optimal step size mirrors the schedule (ImageNet), or falls under a "
        "constant one (WikiText-2)",
        source="P1 section 6, figure 3",
        metric="correlation of the epoch means of local_lr and learning rate; under a constant "
        "learning rate the rank correlation with time, reversed; variation of local_lr over the "
        "null's, which is the effective learning rate",
        rule=f"passes if the first's interval lies above {MIRRORS} in every setting, fails if it "
        f"lies below in every one. Beyond the null if the variation lies above {FLAT}, explained "
        "by it if below.",
        threshold="ours, untuned",
        needs=(needs.epochs(6),),
        columns=("steps.local_lr", "steps.learning_rate", "steps.null_local_lr"),
        measure=mirroring,
        decide=mirrors,
        planted={
            Word.BEYOND: partial(planted, COSINE**2, COSINE, COSINE),
            Word.EXPLAINED: partial(planted, 2 * COSINE, COSINE, COSINE),
            Word.REFUTED: partial(planted, TIME + 0.1, COSINE, COSINE),
            Word.INCONCLUSIVE: partial(planted, COSINE, COSINE, COSINE, (0,)),
        },
    ),
)
