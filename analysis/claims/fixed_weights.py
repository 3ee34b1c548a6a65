"""P1 section 5: gamma and the batch size at the same weights, from a Gram matrix of gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from analysis.claims.contract import Measured, Measures
from analysis.claims.planting import SEEDS, PlantedRun, jitter, labelled, path_steps
from analysis.claims.rules import listed, over_seeds
from analysis.claims.run import ClaimRun
from analysis.fits import Interval
from analysis.verdicts import Found, Outcome, agreed

CLAIMED_EXPONENT = 0.5
"""gamma ~ b^(1/2): P1 section 5."""
MAX_WIDTH = 0.25
"""A wider interval of an exponent settles nothing [1]; ours, untuned."""
GRAM = "probe_batches.gamma"
"""The column that holds gamma of k probe batches together."""
FIXED = "at fixed weights, over probe batches"
FEWEST_NUMBERS = 4
"""Numbers k of probe batches through which an exponent is fitted; ours."""


def root_rule(bounds: tuple[float, float] | None) -> Outcome:
    """`is_square_root` of an interval's ends; None where there is no interval."""
    if bounds is None:
        return Outcome.OPEN
    low, high = bounds
    if not low <= CLAIMED_EXPONENT <= high:
        return Outcome.FAIL
    return Outcome.PASS if low > 0 and high - low < MAX_WIDTH else Outcome.OPEN


def at_fixed_weights(run: ClaimRun) -> Measures:
    """The exponent of gamma in the batch size at fixed weights, from b to K b, over K batches.

    The least-squares slope in log k of the log of the mean over kept steps of gamma at k b, which
    follows from the Gram matrix of K probe gradients at one w. NaN where they were not measured, or
    a mean is not positive.
    """
    table = run.tables.get("probe_batches")
    if table is None or "gamma" not in table.columns:
        return {"exponent": math.nan}
    label = table["label"].astype(str)
    rows = table[label.str.endswith(" x b") & run.mask[table["step"].to_numpy(int)]]
    means = rows.groupby(label[rows.index])["gamma"].mean()
    number = np.array([int(name.split(" ")[0]) for name in means.index], dtype=float)
    values = means.to_numpy(float)
    if len(values) < FEWEST_NUMBERS or not (values > 0).all():
        return {"exponent": math.nan}
    return {"exponent": float(np.polyfit(np.log(number), np.log(values), 1)[0])}


def root_at_fixed_weights(runs: Sequence[Measured]) -> list[Found]:
    """The rule of 'square root' on the exponents at fixed weights, in every setting."""
    measured = [run for run in runs if GRAM in run.facts.columns]
    if not measured:
        return []
    exponents = over_seeds(measured, lambda run: float(run["exponent"]))
    outcome = agreed(_is_root(each) for each in exponents.values())
    numbers = f"gamma at k b for k = 1 to K probe batches at the same w: b^ {listed(exponents)}."
    return [Found(outcome, numbers, scope=FIXED)]


def _is_root(exponent: Interval) -> Outcome:
    if exponent.mean is None:
        return Outcome.UNDEFINED
    return root_rule(exponent.bounds)


def fixed_weights(
    exponent: float, seeds: Sequence[int] = SEEDS, sign: float = 1.0
) -> list[PlantedRun]:
    """Runs at one batch size whose gamma at k probe batches is .01 k^exponent."""
    found = []
    for seed in seeds:
        counts = range(1, 11)
        gammas = {f"{k} x b": sign * 0.01 * k ** (exponent * jitter(seed)) for k in counts}
        tables = {"probe_batches": labelled({"gamma": gammas | {"batch 0": 0.01}}, 60)}
        found.append(PlantedRun({"seed": seed}, path_steps(60, 0.05), tables=tables))
    return found
