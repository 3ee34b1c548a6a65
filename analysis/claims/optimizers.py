"""P1 section 5: SGD, momentum and Adam."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial

import numpy as np

from analysis.claims import needs, statistics
from analysis.claims.contract import Claim, Evidence, Measures
from analysis.claims.facts import Facts
from analysis.claims.planting import SEEDS, PlantedRun, jitter, path_steps
from analysis.claims.rules import Pair, over_pairs, pairs, ratio, undefined
from analysis.claims.run import Array, ClaimRun
from analysis.fits import Interval
from analysis.verdicts import Found, Outcome, Word, all_of, within

LOWER = 0.8
"""Ratio below which gamma is 'lower' [1]; ours, untuned."""
EQUAL = (0.8, 1.25)
"""Ratios that count as 'no change' [1]; ours, untuned."""
FARTHER = 1.2
"""Ratio of the distances from w_0 to w* above which one optimizer 'travels farther' [1]; ours."""
REGULAR = 0.9
"""R^2 of a line through d_t above which the pace is 'regular' [1]; ours, untuned."""


def optimizer(facts: Facts) -> str:
    """The run's optimizer, as its axis has it."""
    return str(facts.axes.get("optimizer.name") or facts.axes.get("optimizer") or "").split(" ")[0]


def compared(evidence: Evidence, first: str, second: str) -> list[Pair]:
    """Runs of two optimizers that differ in nothing else (or in what goes with the optimizer)."""
    return pairs(evidence.runs, optimizer, first, second, "optimizer")


def geometry(run: ClaimRun) -> Measures:
    """Mean gamma, gamma over null, variation of its epoch means; the way to w* and its pace."""
    gamma, null = statistics.mean(run.kept("gamma")), statistics.mean(run.kept("null_gamma"))
    distance = run.whole("distance")
    return {
        "gamma": gamma,
        "over_null": gamma / null if null else np.nan,
        "variation": statistics.variation(run.by_epoch("gamma")),
        "start": float(distance[0]) if len(distance) else np.nan,
        "regularity": statistics.linearity(run.kept("distance")),
    }


def adam_is_lower(evidence: Evidence) -> Found:
    """Adam's gamma is lower and steadier than SGD's; beyond the null if gamma over null is too."""
    found = compared(evidence, "adam", "sgd")
    mean = ratio(found, lambda run: float(run["gamma"]))
    variation = ratio(found, lambda run: float(run["variation"]))
    over = ratio(found, lambda run: float(run["over_null"]))
    outcome = all_of([within(mean, None, LOWER), within(variation, None, 1.0)])
    numbers = f"Adam over SGD, gamma: {mean}; variation: {variation}; gamma / null: {over}."
    return Found(outcome, numbers, within(over, None, LOWER))


def momentum_is_alike(evidence: Evidence) -> Found:
    """Momentum's gamma is SGD's; the null says so too, so it is never beyond it."""
    mean = ratio(compared(evidence, "momentum", "sgd"), lambda run: float(run["gamma"]))
    return Found(within(mean, *EQUAL), f"Momentum over SGD, gamma: {mean}.", Outcome.FAIL)


def adam_travels(evidence: Evidence) -> Found:
    """Adam ends farther from where it began, and its distance falls more like a line."""
    found = compared(evidence, "adam", "sgd")
    if not found:
        return undefined("no pair of runs differs in the optimizer alone")
    farther = ratio(found, lambda run: float(run["start"]))
    more = over_pairs(found, lambda adam, sgd: adam["regularity"] - sgd["regularity"])
    line: Interval = over_pairs(found, lambda adam, sgd: float(adam["regularity"]))
    outcomes = [within(farther, FARTHER, None), within(line, REGULAR, None), within(more, 0, None)]
    numbers = (
        f"Adam over SGD, distance from w_0: {farther}; R^2 of a line: {line}; less SGD's: {more}."
    )
    return Found(all_of(outcomes), numbers)


STEPS, PER_EPOCH = 200, 10
TIME = np.arange(STEPS)


def planted(
    first: str,
    factor: float,
    null_factor: float = 1.0,
    *,
    wave: tuple[float, float] = (0.1, 0.3),
    distance: tuple[Array, Array] | None = None,
    null_distance: tuple[Array, Array] | None = None,
    seeds: Sequence[int] = SEEDS,
) -> list[PlantedRun]:
    """An optimizer and SGD: the factor between their gammas, waves in time, distances."""
    found = []
    for (index, name), seed in itertools.product(enumerate((first, "sgd")), seeds):
        slow = 1 + wave[index] * np.sin(TIME / 10)
        gamma = 0.05 * (factor if index == 0 else 1.0) * slow * jitter(seed)
        null = np.full(STEPS, 0.02 * (null_factor if index == 0 else 1.0))
        far = None if distance is None else distance[index] * jitter(seed)
        steps = path_steps(STEPS, gamma, null, distance=far)
        if null_distance is not None:
            steps["null_distance"] = null_distance[index]
        axes = {"optimizer": {"name": name, "weight_decay": 1e-6}, "seed": seed}
        found.append(PlantedRun(axes, steps, PER_EPOCH))
    return found


LINE = 2.0 * (1 - TIME / STEPS) + 0.1
BENT = np.exp(-TIME / 20.0) + 0.1
ROOT = np.sqrt(STEPS - TIME) / 10
BOTH = needs.each_of("both Adam and SGD on an optimizer axis", optimizer, ("adam", "sgd"))
COLUMNS = ("steps.gamma", "steps.null_gamma", "steps.distance", "steps.null_distance")

CLAIMS = (
    Claim(
        id="C15",
        statement="Adam has a lower gamma than SGD, with less variance",
        source="P1 section 5, figure 1 bottom left",
        metric="ratio of mean gamma, and of the variation of its epoch means, Adam over SGD",
        rule=f"passes if the first ratio's interval lies below {LOWER} and the second's below 1, "
        "fails if one lies above. Beyond the null only if gamma over Adam's own null, which knows "
        f"cos(g, Pg), is lower too, by the same {LOWER}.",
        threshold="ours, untuned",
        needs=(BOTH,),
        columns=COLUMNS,
        measure=geometry,
        decide=adam_is_lower,
        planted={
            Word.BEYOND: partial(planted, "adam", 0.5),
            Word.EXPLAINED: partial(planted, "adam", 0.5, 0.5),
            Word.REFUTED: partial(planted, "adam", 1.5),
            Word.INCONCLUSIVE: partial(planted, "adam", 0.5, seeds=(0,)),
        },
    ),
    Claim(
        id="C16",
        statement="momentum does not change gamma",
        source="P1 section 5, figure 1 bottom left",
        metric="ratio of mean gamma, momentum over SGD",
        rule=f"passes if its interval lies within {EQUAL}, fails if it lies outside. The null "
        "model's momentum leaves gamma as it is far from the end, so it explains a pass.",
        threshold="ours, untuned",
        needs=(
            needs.each_of(
                "both momentum and SGD on an optimizer axis", optimizer, ("momentum", "sgd")
            ),
        ),
        columns=COLUMNS,
        measure=geometry,
        decide=momentum_is_alike,
        planted={
            Word.EXPLAINED: partial(planted, "momentum", 1.0),
            Word.REFUTED: partial(planted, "momentum", 2.0),
            Word.INCONCLUSIVE: partial(planted, "momentum", 1.0, seeds=(0,)),
        },
    ),
    Claim(
        id="C17",
        statement="Adam travels farther than SGD, at a more regular pace",
        source="P1 appendix, figure 13",
        metric="ratio of ‖w_0 - w*‖, Adam over SGD; R^2 of a line through d_t over kept steps",
        rule=f"passes if the ratio's interval lies above {FARTHER}, Adam's R^2 above {REGULAR} and "
        "the difference of the R^2 above 0; fails if one lies below.",
        threshold="ours, untuned",
        needs=(BOTH,),
        columns=COLUMNS,
        measure=geometry,
        decide=adam_travels,
        planted={
            Word.BEYOND: partial(
                planted, "adam", 1.0, distance=(LINE, BENT), null_distance=(ROOT, ROOT)
            ),
            Word.EXPLAINED: partial(
                planted, "adam", 1.0, distance=(LINE, BENT), null_distance=(LINE, BENT)
            ),
            Word.REFUTED: partial(planted, "adam", 1.0, distance=(BENT, LINE)),
            Word.INCONCLUSIVE: partial(planted, "adam", 1.0, distance=(LINE, BENT), seeds=(0,)),
        },
    ),
)
