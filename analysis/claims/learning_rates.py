"""P2 section 3.3: what a small learning rate changes in smooth and zigzag geometry."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from analysis.claims.contract import Claim, Evidence, Measured
from analysis.claims.correlations import (
    GD,
    LONG,
    MEAN,
    OPPOSED,
    RATES,
    SMOOTH,
    SMOOTH_RUN,
    TURN,
    ZIGZAG,
    begins,
    course,
    descent,
    not_yet,
    rate,
    switch,
)
from analysis.claims.planting import PlantedRun
from analysis.claims.rules import pairs, ratio, undefined
from analysis.claims.run import Array
from analysis.verdicts import Found, Word, agreed, exactly, within

VARIES = 2.0
"""Ratio of the entries' variation, small over large learning rate, that is 'much larger'; ours."""


def by_network(rule: Callable[[Sequence[Measured]], Found], evidence: Evidence) -> list[Found]:
    """The rule on the runs of every network by itself, where there are several."""
    networks = list(dict.fromkeys(run.facts.member("model") for run in evidence.runs))
    found = []
    for network in networks:
        own = [run for run in evidence.runs if run.facts.member("model") == network]
        if len(networks) == 1 or len({rate(run.facts) for run in own}) > 1:
            found.append(replace(rule(own), scope=network if len(networks) > 1 else ""))
    return found


def later_at_small_rates(runs: Sequence[Measured]) -> Found:
    """Zigzag sets in at the smallest learning rate, after smooth windows, and later."""
    found = _extreme_rates(runs)
    known = [_is_later(*pair) for pair in found if all(run["known"] for run in pair)]
    outcomes = [exactly(is_later) for is_later in known if is_later is not None]
    onsets = [f"{begins(small)} against {begins(large)}" for small, large in found]
    numbers = f"Zigzag from window (from 0), smallest against largest rate: {'; '.join(onsets)}."
    return Found(agreed(outcomes), numbers)


def _is_later(small: Measured, large: Measured) -> bool | None:
    """None where zigzag may have come after the end of the shorter run."""
    if not_yet(small):
        return None
    smooth = small["onset"] > 1 and small["before"] > SMOOTH
    return bool(smooth and small["onset"] > large["onset"])


def varies_more(runs: Sequence[Measured]) -> Found:
    """The most opposed window's entries vary more at the smallest learning rate."""
    found = [pair for pair in _extreme_rates(runs) if all(r["lowest"] < ZIGZAG for r in pair)]
    if not found:
        return undefined("no pair of runs with an opposed window at both rates.")
    spread = ratio(found, lambda run: float(run["variation"]))
    numbers = f"Variation of abs(mu), smallest over largest rate: {spread}."
    return Found(within(spread, VARIES, None), numbers)


def _extreme_rates(runs: Sequence[Measured]) -> list[tuple[Measured, Measured]]:
    rates = sorted({rate(run.facts) for run in runs} - {math.nan})
    rates = [value for value in rates if math.isfinite(value)]
    if len(rates) < 2:
        return []
    return pairs(runs, rate, rates[0], rates[-1], "learning_rate")


def two_rates(
    small: Array, large: Array, variation: tuple[float, float] = (0.1, 0.1)
) -> list[PlantedRun]:
    """Descents at .001 and .1 with those mean correlations and variations of the entries."""
    return [
        *descent(small, rate=0.001, variation=variation[0]),
        *descent(large, rate=0.1, variation=variation[1]),
    ]


CLAIMS = (
    Claim(
        id="C35",
        statement="at a small learning rate it is smooth first and zigzag later",
        source="P2 section 3.3, figures 5 and 6",
        metric="first window from which on the mean correlation stays opposed, smallest against "
        "largest learning rate",
        rule="passes if it exists at the smallest rate, after smooth windows, and later than at "
        f"the largest rate, in every pair of runs; fails if in none. A run of fewer than {LONG} "
        "steps that stays smooth settles nothing: its zigzag may come later.",
        threshold="as C31",
        needs=(GD, RATES),
        columns=MEAN,
        measure=course,
        decide=partial(by_network, later_at_small_rates),
        planted={
            Word.BEYOND: partial(two_rates, switch(120, 0.9, -0.9), TURN),
            Word.REFUTED: partial(two_rates, OPPOSED, TURN),
            Word.INCONCLUSIVE: partial(two_rates, SMOOTH_RUN, TURN),
        },
    ),
    Claim(
        id="C36",
        statement="the entries of zigzag windows vary more at a small learning rate",
        source="P2 section 3.3, figures 5 and 6 against 2 and 3",
        metric="standard deviation of abs(mu) within the most opposed window, smallest over "
        "largest learning rate",
        rule=f"passes if the ratio's interval lies above {VARIES:g}, fails if it lies below.",
        threshold="ours; the paper names no statistic",
        needs=(GD, RATES),
        columns=(*MEAN, "steps.entry_variation"),
        measure=course,
        decide=partial(by_network, varies_more),
        planted={
            Word.BEYOND: partial(two_rates, TURN, TURN, (0.3, 0.1)),
            Word.REFUTED: partial(two_rates, TURN, TURN, (0.1, 0.1)),
            Word.INCONCLUSIVE: lambda: [
                r for r in two_rates(TURN, TURN, (0.3, 0.1)) if r.axes["seed"] == 0
            ],
        },
    ),
)
