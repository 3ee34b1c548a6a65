"""P1 appendix D and P2 section 3: parts of a network, its normalisation and skip connections."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd

from analysis.cells import short_name
from analysis.claims import statistics
from analysis.claims.contract import Claim, Evidence, Measured, Measures, Need
from analysis.claims.facts import Facts
from analysis.claims.planting import SEEDS, PlantedRun, jitter, path_steps
from analysis.claims.run import ClaimRun
from analysis.comparison import EQUAL_WITHIN, spread
from analysis.fits import Interval, interval_over_seeds
from analysis.verdicts import Found, Outcome, Word, within

ZIGZAG_APART = 0.1
"""Difference of two shares of zigzag windows that 'matters' [1]; ours, untuned."""
PARTS = {"normalisation": ("norm",), "skips": ("skip", "shortcut", "residual")}
"""Part of a network -> what the name of a config field that switches it contains."""


def shares(run: ClaimRun) -> Measures:
    """Mean gamma over the null's; the share of zigzag windows, NaN where it was not measured."""
    null = statistics.mean(run.kept("null_gamma"))
    return {
        "over_null": statistics.mean(run.kept("gamma")) / null if null else math.nan,
        "zigzag": statistics.mean(run.steps.get("is_zigzag", np.empty(0))),
    }


def switches(facts: Facts) -> list[str]:
    """The axes that switch a part of the network."""
    marks = [mark for names in PARTS.values() for mark in names]
    return [a for a in facts.axes if a.startswith("model") and any(m in a for m in marks)]


def parts_matter(evidence: Evidence) -> list[Found]:
    """Per part: the levels of gamma over null differ, and those of the share of zigzag."""
    axes = dict.fromkeys(axis for run in evidence.runs for axis in switches(run.facts))
    found = []
    for axis in axes:
        runs = [run for run in evidence.runs if axis in run.facts.axes]
        found += [_gamma_matters(runs, axis), *_zigzag_matters(runs, axis)]
    return found


def _gamma_matters(runs: Sequence[Measured], axis: str) -> Found:
    cells = pd.DataFrame(
        {
            "level": [str(run.facts.axes[axis]) for run in runs],
            "group": [run.facts.config_without(axis) for run in runs],
            "over_null": [run["over_null"] for run in runs],
        }
    )
    found = spread(cells, "over_null")
    outcome = Outcome.OPEN if found.ratio is not None else Outcome.UNDEFINED
    if found.low is not None and found.high is not None:
        if found.low > EQUAL_WITHIN:
            outcome = Outcome.PASS
        elif found.high < EQUAL_WITHIN:
            outcome = Outcome.FAIL
    scope = f"gamma / null, {short_name(axis)}"
    return Found(outcome, f"largest level over smallest, {found}.", scope=scope)


def _zigzag_matters(runs: Sequence[Measured], axis: str) -> list[Found]:
    """Some two levels differ in the share of zigzag; nothing where it was not measured."""
    known = [run for run in runs if math.isfinite(run["zigzag"])]
    levels = list(dict.fromkeys(str(run.facts.axes[axis]) for run in known))
    differences = {
        f"{first} less {second}": _difference(known, axis, first, second)
        for first, second in itertools.combinations(levels, 2)
    }
    if not differences:
        return []
    apart = [within(each, -ZIGZAG_APART, ZIGZAG_APART) for each in differences.values()]
    outcome = Outcome.OPEN
    if Outcome.FAIL in apart:
        outcome = Outcome.PASS
    elif set(apart) == {Outcome.PASS}:
        outcome = Outcome.FAIL
    words = "; ".join(f"{names}: {interval}" for names, interval in differences.items())
    scope = f"share of zigzag windows, {short_name(axis)}"
    return [Found(outcome, f"difference of the shares, {words}.", scope=scope)]


def _difference(runs: Sequence[Measured], axis: str, first: str, second: str) -> Interval:
    """Of runs that differ in that part alone, by seed."""
    shares: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for run in runs:
        place = run.facts.seed, run.facts.config_without(axis)
        shares[place][str(run.facts.axes[axis])] = run["zigzag"]
    seeds: dict[str, list[float]] = defaultdict(list)
    for (seed, _), by_level in shares.items():
        if {first, second} <= set(by_level):
            seeds[seed].append(by_level[first] - by_level[second])
    return interval_over_seeds([float(np.mean(each)) for each in seeds.values()])


STEPS, PER_EPOCH = 200, 10


def switched(
    on: float, off: float, seeds: Sequence[int] = SEEDS, zigzag: Sequence[float] = ()
) -> list[PlantedRun]:
    """A network with skip connections and without, with those shares of zigzag windows."""
    found = []
    for (index, (skips, gamma)), seed in itertools.product(
        enumerate(((True, on), (False, off))), seeds
    ):
        steps = path_steps(STEPS, gamma * jitter(seed), 0.02)
        if zigzag:
            share = zigzag[index] + 0.01 * seed
            steps["is_zigzag"] = np.where(np.arange(STEPS) < share * STEPS, 1.0, 0.0)
        found.append(PlantedRun({"model.skips": skips, "seed": seed}, steps, PER_EPOCH))
    return found


CLAIMS = (
    Claim(
        id="C46",
        statement="normalisation and skip connections matter for gamma, and for zigzag geometry",
        source="P1 appendix D; P2 sections 3.1 and 3.2, convolutional against residual",
        metric="per part of the network: largest level over smallest of gamma over null; "
        "differences of the share of zigzag windows (probe correlation)",
        rule=f"gamma: passes if the simultaneous interval lies above {EQUAL_WITHIN}, fails if it "
        f"lies below. Zigzag: passes if two levels' difference lies outside +-{ZIGZAG_APART}, "
        "fails if all lie inside. Compared are runs that differ in that part alone, so networks "
        "with skips and without have equal weights: ResNets keep the projections. The null's own "
        "table has 1, and no zigzag, at every level.",
        threshold="ours, untuned",
        needs=(
            Need(
                "an axis that switches the model's normalisation or skip connections",
                of_sweep=lambda runs: any(switches(facts) for facts in runs),
            ),
        ),
        columns=("steps.gamma", "steps.null_gamma"),
        optional=("steps.is_zigzag",),
        measure=shares,
        decide=parts_matter,
        planted={
            Word.BEYOND: partial(switched, 0.05, 0.02, zigzag=(0.1, 0.6)),
            Word.REFUTED: partial(switched, 0.05, 0.049, zigzag=(0.4, 0.41)),
            Word.INCONCLUSIVE: partial(switched, 0.05, 0.02, seeds=(0,), zigzag=(0.1, 0.6)),
        },
    ),
)
