"""P1 section 4 and appendix: language models."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from analysis.claims import needs, statistics
from analysis.claims.contract import Claim, Evidence, Measured, Measures
from analysis.claims.planting import SEEDS, PlantedRun, jitter, path_steps
from analysis.claims.positivity import FEWEST_KEPT
from analysis.claims.rules import each_run, listed, over_seeds
from analysis.claims.run import ClaimRun
from analysis.verdicts import Found, Outcome, Word, agreed, within

LEVEL = 0.05
"""P1 section 4: gamma exceeds 0.05 after the second epoch."""
BEYOND_NULL = 2.0
"""Ratio to the null above which the level is not the null's [1]; ours, untuned."""
AFTER = 2
"""'After the second epoch': the first epoch that counts, from 0."""
SMALLEST = 2_860
"""Steps of P1's shortest WikiText-2 runs: 20 epochs of 143 at batch size 256."""


def level(run: ClaimRun) -> Measures:
    """The least gamma; the least epoch mean after the second epoch; mean gamma over the null."""
    gamma = run.kept("gamma")
    known = gamma[np.isfinite(gamma)]
    later = run.by_epoch("gamma")[run.kept_epochs >= AFTER]
    later = later if len(later) else run.middle(run.by_epoch("gamma"))
    null = statistics.mean(run.kept("null_gamma"))
    return {
        "least": float(known.min()) if len(known) else np.nan,
        "later": float(np.nanmin(later)) if np.isfinite(later).any() else np.nan,
        "over_null": statistics.mean(gamma) / null if null else np.nan,
    }


def high(evidence: Evidence) -> Found:
    """Always positive, above LEVEL from the third epoch on; beyond the null if far above it."""
    found = each_run(evidence.runs, partial(_positive, level=LEVEL), _least(evidence))
    ratios = over_seeds(evidence.runs, lambda run: float(run["over_null"]))
    above = agreed(within(each, BEYOND_NULL, None) for each in ratios.values())
    return Found(found.outcome, f"{found.numbers} Mean gamma / null: {listed(ratios)}.", above)


def high_over_null(evidence: Evidence) -> Found:
    """Always positive, and far above the null."""
    found = each_run(evidence.runs, partial(_positive, level=0.0), _least(evidence))
    ratios = over_seeds(evidence.runs, lambda run: float(run["over_null"]))
    above = agreed(within(each, BEYOND_NULL, None) for each in ratios.values())
    outcomes = {found.outcome, above}
    worst = (Outcome.FAIL, Outcome.UNDEFINED, Outcome.OPEN, Outcome.PASS)
    outcome = next(each for each in worst if each in outcomes)
    return Found(outcome, f"{found.numbers} Mean gamma / null: {listed(ratios)}.")


def _positive(run: Measured, level: float) -> bool | None:
    if np.isnan(run["least"]):
        return None
    return bool(run["least"] > 0 and not run["later"] <= level)


def _least(evidence: Evidence) -> str:
    least = [run["least"] for run in evidence.runs if np.isfinite(run["least"])]
    return f"least gamma {min(least):.3g}" if least else ""


STEPS, PER_EPOCH = 3_000, 150


def planted(
    gamma: ArrayLike,
    null: float | None = None,
    data: str = "wikitext2",
    seeds: Sequence[int] = SEEDS,
) -> list[PlantedRun]:
    """Runs with that gamma and null."""
    return [
        PlantedRun(
            {"seed": seed},
            path_steps(STEPS, np.asarray(gamma) * jitter(seed), null),
            PER_EPOCH,
            config={"data": {"name": data}},
        )
        for seed in seeds
    ]


DIPPING = np.where(np.arange(STEPS) == STEPS // 2, -0.01, 0.08)
COLUMNS = ("steps.gamma", "steps.null_gamma")

CLAIMS = (
    Claim(
        id="C09",
        statement=f"on WikiText-2 gamma is always positive and above {LEVEL} after the second "
        "epoch",
        source="P1 section 4, figure 2 right",
        metric="least kept gamma; least epoch mean from the third epoch on; gamma over the null",
        rule=f"passes if in every run the first is positive and the second above {LEVEL}, fails "
        f"if in no run. Beyond the null if mean gamma / null is above {BEYOND_NULL:g} in every "
        "setting.",
        threshold=f"{LEVEL}: the paper's text; the ratio is ours",
        needs=(
            needs.data("wikitext2"),
            needs.steps(SMALLEST, "20 epochs at batch size 256: the null's level is (T-t)^-1/2"),
            needs.epochs(4),
        ),
        columns=COLUMNS,
        measure=level,
        decide=high,
        planted={
            Word.BEYOND: partial(planted, 0.08),
            Word.EXPLAINED: partial(planted, 0.08, 0.07),
            Word.REFUTED: partial(planted, 0.03),
            Word.INCONCLUSIVE: lambda: planted(0.08)[:2] + planted(0.03)[2:],
        },
    ),
    Claim(
        id="C30",
        statement="on Penn Treebank and WikiText-103 gamma is as on WikiText-2: always positive, "
        "far above the null",
        source="P1 appendix, figures 21 and 23",
        metric="least kept gamma; mean gamma over the null",
        rule=f"passes if every run's gamma is positive and the ratio's interval lies above "
        f"{BEYOND_NULL:g} in every setting, fails if one fails.",
        threshold="ours; relative, since the level depends on the number of steps",
        needs=(
            needs.data("ptb", "wikitext103"),
            needs.steps(FEWEST_KEPT, "fewer without a negative gamma do not make it always so"),
        ),
        columns=COLUMNS,
        measure=level,
        decide=high_over_null,
        planted={
            Word.BEYOND: partial(planted, 0.08, data="ptb"),
            Word.REFUTED: partial(planted, DIPPING, data="wikitext103"),
            Word.INCONCLUSIVE: partial(planted, 0.08, data="ptb", seeds=(0,)),
        },
    ),
)
