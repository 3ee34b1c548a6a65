"""P1 section 4: how steady gamma, RSI and the error bound are within and between epochs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from analysis.claims import needs, statistics
from analysis.claims.contract import Claim, Evidence, Measured, Measures
from analysis.claims.planting import SEEDS, PlantedRun, jitter, labelled, path_steps
from analysis.claims.rules import each_run, each_setting, listed, over_seeds
from analysis.claims.run import Array, ClaimRun
from analysis.verdicts import Found, Outcome, Word, agreed, all_of, within

RANGE = (0.0075, 0.02)
"""P1 section 4.1: 'consistently within the range [0.0075, 0.02]'."""
INSIDE = 0.9
"""Share of epoch means that 'mostly' asks for [1]; ours."""
LIKE_THE_NULL = (0.8, 1.25)
"""Ratios to the null that count as the null's own [1]; ours, untuned."""
MAX_SLOPE = 0.25
"""Half of the null's own slope, -.5 in log(T - t)."""
MAX_VARIATION = 0.3
"""Standard deviation over mean of 'stable' epoch means [1]; ours, untuned."""
MAX_BAND = 1.0
"""(max - min) / mean within an epoch that is 'stable' [1]; ours, untuned."""
FEWEST_IN_EPOCH = 10
"""Steps of an epoch without which its band is narrow whatever the noise: of n normal values it is
1.1 standard deviations at n = 2, 3.1 at 10, 5.2 at P1's 156; ours."""
SMALLEST_CIFAR = 15_600
"""Steps of P1's shortest CIFAR-10 runs: 100 epochs of 156."""


def level(run: ClaimRun) -> Measures:
    """Share of epoch means in RANGE; the median over epochs of gamma over the null."""
    gamma, null = run.by_epoch("gamma"), run.by_epoch("null_gamma")
    known = gamma[np.isfinite(gamma)]
    return {
        "inside": statistics.mean(((known > RANGE[0]) & (known < RANGE[1])).astype(float)),
        "over_null": statistics.median(gamma / null),
    }


def in_range(evidence: Evidence) -> Found:
    """Most epoch means are in RANGE; it exceeds the null where gamma over the null is not 1."""
    shares = [run["inside"] for run in evidence.runs]
    found = each_run(evidence.runs, _mostly_inside, f"smallest share {min(shares):.0%}")
    ratios = over_seeds(evidence.runs, lambda run: float(run["over_null"]))
    inverse = {Outcome.PASS: Outcome.FAIL, Outcome.FAIL: Outcome.PASS}
    alike = agreed(within(each, *LIKE_THE_NULL) for each in ratios.values())
    numbers = f"{found.numbers} Median gamma / null: {listed(ratios)}."
    return Found(found.outcome, numbers, inverse.get(alike, alike))


def _mostly_inside(run: Measured) -> bool | None:
    return None if np.isnan(run["inside"]) else bool(run["inside"] >= INSIDE)


def between_epochs(run: ClaimRun) -> Measures:
    """Variation of the epoch means of the middle of the run; their slope in T - t."""
    gamma = run.middle(run.by_epoch("gamma"))
    left = run.middle(statistics.to_come(run))
    return {
        "variation": statistics.variation(gamma),
        "slope": statistics.log_slope(left, gamma),
    }


def steady(evidence: Evidence) -> Found:
    """Flat in log(T - t), and of small variation."""
    slope = each_setting(
        evidence.runs,
        lambda run: float(run["slope"]),
        -MAX_SLOPE,
        MAX_SLOPE,
        "slope of log gamma in log(T - t)",
    )
    small = each_setting(
        evidence.runs,
        lambda run: float(run["variation"]),
        None,
        MAX_VARIATION,
        "variation of epoch means",
    )
    return Found(all_of([slope.outcome, small.outcome]), f"{slope.numbers} {small.numbers}")


def within_epochs(run: ClaimRun) -> Measures:
    """Median over kept epochs of (max - min) / abs(mean) of gamma."""
    band = run.by_epoch("gamma", "max") - run.by_epoch("gamma", "min")
    # by its size: over a negative mean the widest band would be the narrowest
    return {"band": statistics.median(band / np.abs(run.by_epoch("gamma")))}


def narrow(evidence: Evidence) -> Found:
    """The band within an epoch is narrower than its mean."""
    name = "median (max - min) / mean of gamma within an epoch"
    return each_setting(evidence.runs, lambda run: float(run["band"]), None, MAX_BAND, name)


STEPS = 400
PlantedCases = dict[Word, Callable[[], Sequence[PlantedRun]]]


def planted(
    gamma: Callable[[Array], Array],
    *,
    num_steps: int = STEPS,
    null: Callable[[Array], Array] | None = None,
    spread: float = 1.0,
    **config: object,
) -> Sequence[PlantedRun]:
    """Runs with gamma a function of T - t, times a factor near 1 that differs by seed."""
    left = np.arange(num_steps, 0, -1.0)
    return [
        PlantedRun(
            {"seed": seed},
            path_steps(
                num_steps,
                gamma(left) * jitter(spread * (seed - 1) + 1),
                None if null is None else null(left),
            ),
            num_steps // 20,
            config=config,
        )
        for seed in SEEDS
    ]


def constant(value: float) -> Callable[[Array], Array]:
    """A gamma that does not change."""
    return lambda left: np.full(len(left), value)


def sawtooth(left: Array, amplitude: float) -> Array:
    """A gamma of mean .02 that goes up and down from step to step."""
    signs: Array = np.where(np.arange(len(left)) % 2 == 0, 1.0, -1.0)
    return 0.02 * (1 + amplitude * signs)


def power(level: float, exponent: float) -> Callable[[Array], Array]:
    """A gamma ~ (T - t)^exponent."""
    return lambda left: level * (left / len(left)) ** exponent


def noisy(amplitude: float, dimension: float) -> Sequence[PlantedRun]:
    """Runs whose band within an epoch has that amplitude, and noise of that dimension."""
    table = {"effective_dimension": {"batch 0": dimension}}
    runs = planted(partial(sawtooth, amplitude=amplitude))
    return [replace(run, tables={"probe_batches": labelled(table, STEPS)}) for run in runs]


COLUMNS = ("steps.gamma", "steps.null_gamma")
CIFAR: dict[str, Any] = {"data": {"name": "cifar10"}}

CLAIMS = (
    Claim(
        id="C03",
        statement=f"on CIFAR-10 gamma is mostly in [{RANGE[0]}, {RANGE[1]}]",
        source="P1 section 4.1",
        metric="share of epoch means inside; median over epochs of gamma over the null",
        rule=f"passes if at least {INSIDE:.0%} of the epoch means of every run are inside, fails "
        f"if no run's are. Beyond the null if the median ratio lies outside {LIKE_THE_NULL}.",
        threshold="the range: the paper's text; the rest is ours",
        needs=(
            needs.data("cifar10"),
            needs.steps(
                SMALLEST_CIFAR, "P1's shortest, 100 epochs: the null's level is (T-t)^-1/2"
            ),
        ),
        columns=COLUMNS,
        measure=level,
        decide=in_range,
        planted={
            Word.BEYOND: partial(planted, constant(0.015), num_steps=16_000, **CIFAR),
            Word.EXPLAINED: partial(
                planted, constant(0.01), null=constant(0.01), num_steps=16_000, **CIFAR
            ),
            Word.REFUTED: partial(planted, constant(0.05), num_steps=16_000, **CIFAR),
        },
    ),
    Claim(
        id="C04",
        statement="gamma is stable over the epochs",
        source="P1 section 4.1",
        metric="standard deviation over mean of the epoch means between 5 % and 90 % of the run; "
        "slope of log gamma in log(T - t), -.5 for the null",
        rule=f"passes if in every setting the slope's interval lies within -+{MAX_SLOPE} and that "
        f"of the variation below {MAX_VARIATION}, fails if one of them lies outside in every "
        "setting.",
        threshold="half of the null's own slope; the variation is ours",
        needs=(needs.epochs(6),),
        columns=COLUMNS,
        measure=between_epochs,
        decide=steady,
        planted={
            Word.BEYOND: partial(planted, constant(0.05)),
            Word.EXPLAINED: partial(planted, constant(0.05), null=constant(0.04)),
            Word.REFUTED: partial(planted, power(0.05, -0.5)),
            Word.INCONCLUSIVE: lambda: planted(constant(0.05))[:1],
        },
    ),
    Claim(
        id="C05",
        statement="gamma is stable within an epoch",
        source="P1 section 4.1",
        metric="median over the kept epochs of (max - min) / abs(mean)",
        rule=f"passes if its interval over the seeds lies below {MAX_BAND} in every setting, fails "
        "if it lies above in every setting. The null has noise of its own only where the effective "
        "dimension of the gradient noise was measured (probe probe_batches).",
        threshold="ours, untuned",
        needs=(needs.steps_per_epoch(FEWEST_IN_EPOCH, "the band of fewer is narrow by itself"),),
        columns=COLUMNS,
        measure=within_epochs,
        decide=narrow,
        planted={
            Word.BEYOND: partial(noisy, 0.2, 100.0),
            Word.EXPLAINED: partial(planted, constant(0.05)),
            Word.REFUTED: partial(noisy, 0.9, 100.0),
            Word.INCONCLUSIVE: partial(
                planted, partial(sawtooth, amplitude=0.5), null=constant(0.02)
            ),
        },
    ),
)
