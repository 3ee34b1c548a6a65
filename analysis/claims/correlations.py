"""P2 sections 2 and 3: smooth, zigzag and random geometry of gradients along a descent."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from analysis.claims import needs, statistics
from analysis.claims.contract import Claim, Evidence, Measured, Measures, Need
from analysis.claims.facts import Facts
from analysis.claims.planting import SEEDS, PlantedRun, full, labelled
from analysis.claims.rules import each_run
from analysis.claims.run import Array, ClaimRun
from analysis.verdicts import Found, Outcome, Word

ZIGZAG, SMOOTH = -0.5, 0.5
"""Mean correlations that count as clearly opposed and clearly alike [1]; ours, untuned."""
STAYS, OF = 20, 25
"""Windows that stay opposed once they are, of how many; ours, untuned."""
PATTERN = (-0.8, 0.8, -0.7)
"""o_1 below, o_2 above, o_3 below; figure 1 has -.91, .85 and 'highly negative'."""
WINDOW = 5
"""P2 section 2."""
RANDOM = 0.2
"""abs(o_l) of a 'random' window; figure 1's is near 0. Ours."""
SOLVED = 1e-2
"""Loss that is 'near zero'; ours."""
LAST = 0.01
"""Share of the run that is its end; ours."""
EARLY, LATER = 0.24, 0.30
"""P2 figure 3: the first 120 and after 150 of 500 epochs."""
LONG = 1000
"""Steps of P2's shortest run that goes from smooth to zigzag (figure 6); the others have 1500."""
LONG_RESIDUAL = 500
"""Steps of P2's ResNets at learning rate .1 (figures 3 and 4)."""
PAPER_RATE = 0.1
"""P2 section 3.1 and 3.2."""


def onset(mean: Array) -> int | None:
    """The first window from which on most are opposed, after windows that were not; else None."""
    opposed = mean < ZIGZAG
    for start in np.flatnonzero(opposed[: max(0, len(mean) - OF + 1)]):
        if opposed[start : start + OF].sum() >= STAYS:
            return int(start)
    return None


def off_diagonals(run: ClaimRun) -> list[Array]:
    """o_l of the window from each step on, l = 1..h-1: the means over the window's pairs."""
    count = run.facts.num_steps - WINDOW + 1
    means = []
    for lag in range(1, WINDOW):
        values = run.lagged(lag)[lag:]
        means.append(sliding_window_view(values, WINDOW - lag).mean(axis=1)[: max(count, 0)])
    return means


def course(run: ClaimRun) -> Measures:
    """Onset of zigzag and what is before; early and late means; the most opposed window."""
    mean = run.whole("mean_correlation")
    begin, length = onset(mean), len(mean)
    before = mean[:begin] if begin else np.empty(0)
    lowest = int(np.nanargmin(mean)) if np.isfinite(mean).any() else None
    variation = run.steps.get("entry_variation")
    return {
        "known": bool(np.isfinite(mean).sum() >= OF),
        "num_steps": run.facts.num_steps,
        "onset": math.nan if begin is None else float(begin),
        "before": float(np.nanmedian(before)) if np.isfinite(before).any() else math.nan,
        "early": statistics.mean(mean[: int(EARLY * length)]),
        "late": statistics.mean(mean[int(LATER * length) :]),
        "lowest": float(mean[lowest]) if lowest is not None else math.nan,
        "variation": math.nan if variation is None or lowest is None else float(variation[lowest]),
    }


def smooth_then_zigzag(run: Measured) -> bool | None:
    """Zigzag sets in after the first step, and what was before is smooth."""
    if not run["known"] or not_yet(run):
        return None
    return bool(run["onset"] > 1 and run["before"] > SMOOTH)


def not_yet(run: Measured) -> bool:
    """True of a run that is smooth to its end, and too short to say that it stays so."""
    smooth = math.isnan(run["onset"]) and run["late"] > 0
    return bool(smooth and run["num_steps"] < LONG)


def negative_then_positive(run: Measured) -> bool | None:
    """Opposed at first, alike later; False if the signs are not so."""
    if not run["known"]:
        return None
    if run["early"] < ZIGZAG and run["late"] > SMOOTH:
        return True
    if run["early"] < 0 and (run["late"] > 0 or run["num_steps"] < LONG_RESIDUAL):
        return None  # of the right signs, or it may turn later
    return False


def matrices(run: ClaimRun) -> Measures:
    """The off-diagonal means at the most opposed window; the largest at the end; the last loss."""
    means = off_diagonals(run)
    loss = run.whole("loss")
    if not len(means[0]) or not np.isfinite(means[0]).any():
        return {"window": None, "end": math.nan, "loss": math.nan}
    lowest = int(np.nanargmin(means[0]))
    last = max(1, round(LAST * len(means[0])))
    end = np.abs(np.stack([values[-last:] for values in means]).mean(axis=1))
    return {
        "window": tuple(float(values[lowest]) for values in means),
        "end": float(end.max()),
        "loss": float(loss[-1]),
    }


def is_zigzag(run: Measured) -> bool | None:
    """The most opposed window alternates as figure 1's does; None where none is opposed at all."""
    if run["window"] is None or not np.isfinite(run["window"]).all():
        return None
    first, second, third = run["window"][:3]
    if first >= 0:
        return None
    return bool(first < PATTERN[0] and second > PATTERN[1] and third < PATTERN[2])


def ends_random(run: Measured) -> bool | None:
    """At near-zero loss the correlations are near zero; None where the loss is not."""
    if not run["loss"] < SOLVED or math.isnan(run["end"]):
        return None
    return bool(run["end"] < RANDOM)


def rate(facts: Facts) -> float:
    """The learning rate of a run's config; NaN where it is the default."""
    own = facts.number("learning_rate", math.nan)
    return facts.number("learning_rate.base", own)


STEPS = 200


def descent(
    mean: Array,
    *,
    model: str = "cnn",
    rate: float = PAPER_RATE,
    lags: Sequence[float] = (),
    loss: float = 0.5,
    variation: float = 0.1,
) -> list[PlantedRun]:
    """Full-batch descents with that mean correlation, and lagged correlations in every window."""
    found = []
    for seed in SEEDS:
        steps = {
            "loss": full(STEPS, loss),
            "learning_rate": full(STEPS, rate),
            "gradient_norm": full(STEPS, 1.0),
            "mean_correlation": mean + 0.001 * seed,
            "entry_variation": full(STEPS, variation * (1 + 0.01 * seed)),
        }
        by_lag = {"0": full(STEPS, 1.0)}
        by_lag |= {str(lag): full(STEPS, value) for lag, value in enumerate(lags, start=1)}
        axes = {"learning_rate": rate, "seed": seed}
        tables = {"correlation": labelled({"correlation": by_lag}, STEPS)}
        config = {"model": {"name": model}, "batch_size": "full"}
        found.append(PlantedRun(axes, steps, 1, config=config, tables=tables))
    return found


def switch(at: int, first: float, then: float) -> Array:
    """A mean correlation that changes once."""
    return np.where(np.arange(STEPS) < at, first, then)


def mixed(good: list[PlantedRun], bad: list[PlantedRun]) -> list[PlantedRun]:
    """Runs that disagree."""
    return [good[0], bad[1], good[2]]


ZIG, TURN, BACK = (-0.91, 0.85, -0.8, 0.8), switch(40, 0.9, -0.9), switch(50, -0.9, 0.9)
SMOOTH_RUN, OPPOSED = full(STEPS, 0.9), full(STEPS, -0.9)
GD = needs.full_batch()
CONVOLUTIONAL = needs.model("a convolutional network without skips", "cnn", "simplecnn", "vgg")
RESIDUAL = needs.model("a ResNet", "resnet")
AT_PAPER_RATE = Need(
    f"runs at learning rate {PAPER_RATE}", lambda f: abs(rate(f) - PAPER_RATE) < 1e-9
)
MEAN = ("steps.mean_correlation",)
LAGS = ("correlation.correlation", "steps.loss")
RATES = needs.levels("two learning rates on an axis", lambda f: rate(f) if rate(f) > 0 else None)

CLAIMS = (
    Claim(
        id="C31",
        statement=f"convolutional networks at learning rate {PAPER_RATE} go from smooth to zigzag",
        source="P2 section 3.1, figures 1 and 2",
        metric="mean gradient correlation: first window from which on it stays opposed; median "
        "before",
        rule=f"passes if in every run it falls below {ZIGZAG} after the first steps, is so in "
        f"{STAYS} of the next {OF} windows, and has a median above {SMOOTH} before; fails if in no "
        f"run. A run of fewer than {LONG} steps that stays smooth settles nothing; half of the "
        "runs must settle it.",
        threshold="ours, untuned",
        needs=(GD, CONVOLUTIONAL, AT_PAPER_RATE),
        columns=MEAN,
        measure=course,
        decide=lambda evidence: by_most(evidence, smooth_then_zigzag, _onsets(evidence)),
        planted={
            Word.BEYOND: partial(descent, TURN),
            Word.REFUTED: partial(descent, OPPOSED),
            Word.INCONCLUSIVE: partial(descent, SMOOTH_RUN),
        },
    ),
    Claim(
        id="C32",
        statement="zigzag: neighbouring gradients opposed, those two apart alike, three apart "
        "opposed",
        source="P2 section 3.1, figure 1",
        metric="off-diagonal means o_1, o_2, o_3 of the most opposed window",
        rule=f"passes if o_1 < {PATTERN[0]}, o_2 > {PATTERN[1]} and o_3 < {PATTERN[2]} in every "
        "run, fails if in none; a run whose o_1 is never negative has no such window.",
        threshold="the figure: -.91, .85, 'highly negative'; the margins are ours",
        needs=(GD, CONVOLUTIONAL, AT_PAPER_RATE),
        columns=LAGS,
        measure=matrices,
        decide=lambda evidence: each_run(evidence.runs, is_zigzag, _windows(evidence)),
        planted={
            Word.BEYOND: partial(descent, TURN, lags=ZIG),
            Word.REFUTED: partial(descent, TURN, lags=(-0.3, 0.1, -0.1, 0.1)),
            Word.INCONCLUSIVE: lambda: mixed(
                descent(TURN, lags=ZIG), descent(TURN, lags=(-0.3, 0.1, -0.1, 0.1))
            ),
        },
    ),
    Claim(
        id="C33",
        statement="at near-zero loss gradient correlations are near zero",
        source="P2 section 3.1, figure 1",
        metric=f"largest off-diagonal mean over the last {LAST:.0%} of the windows",
        rule=f"passes if it is below {RANDOM} in every run that ends with a loss below "
        f"{SOLVED:g}, fails if in none. Unrelated gradients pass, so the null explains it.",
        threshold="ours, untuned",
        needs=(GD,),
        columns=LAGS,
        measure=matrices,
        decide=lambda evidence: each_run(evidence.runs, ends_random, _ends(evidence)),
        planted={
            Word.EXPLAINED: partial(descent, TURN, lags=(0.05, 0.02, 0.0, 0.0), loss=1e-3),
            Word.REFUTED: partial(descent, TURN, lags=ZIG, loss=1e-3),
            Word.INCONCLUSIVE: partial(descent, TURN, lags=ZIG, loss=0.5),
        },
    ),
    Claim(
        id="C34",
        statement=f"ResNets at learning rate {PAPER_RATE} are negative first and positive after",
        source="P2 section 3.2, figures 3 and 4",
        metric="mean gradient correlation over the first 24 % and after 30 % of the run",
        rule=f"passes if the first is below {ZIGZAG} and the second above {SMOOTH} in every run, "
        "fails if in every run the first is not negative or the second not positive. Smaller "
        f"values of these signs, and a run of fewer than {LONG_RESIDUAL} steps that stays "
        "negative, settle nothing; half of the runs must settle it.",
        threshold="the shares: figure 3's epochs 120 and 150 of 500; the levels are ours",
        needs=(GD, RESIDUAL, AT_PAPER_RATE),
        columns=MEAN,
        measure=course,
        decide=lambda evidence: by_most(evidence, negative_then_positive, _halves(evidence)),
        planted={
            Word.BEYOND: partial(descent, BACK, model="resnet18"),
            Word.REFUTED: partial(descent, TURN, model="resnet18"),
            Word.INCONCLUSIVE: lambda: mixed(
                descent(BACK, model="resnet18"), descent(TURN, model="resnet18")
            ),
        },
    ),
)


def by_most(evidence: Evidence, passes: Callable[[Measured], bool | None], numbers: str) -> Found:
    """`each_run`, and not settled where fewer than half of the runs settle it.

    A run that is too short to turn speaks against 'every run' as little as for it.
    """
    found = each_run(evidence.runs, passes, numbers)
    silent = sum(passes(run) is None for run in evidence.runs)
    if 2 * silent <= len(evidence.runs):
        # The null's mean correlation is near 0, which fails to pass but need not fail the rule.
        passed = found.outcome is Outcome.PASS
        return replace(found, strict=Outcome.PASS) if passed else found
    why = f"{silent} of {len(evidence.runs)} runs settle nothing: too short, or too near to zero"
    return Found(Outcome.OPEN, found.numbers, why=why)


SHOWN = 4
"""Runs whose numbers a verdict names; ours."""


def begins(run: Measured) -> str:
    """The window from which on it is zigzag, in words."""
    return "never" if math.isnan(run["onset"]) else f"{run['onset']:g}"


def _onsets(evidence: Evidence) -> str:
    values = ", ".join(begins(run) for run in evidence.runs[:SHOWN])
    return f"zigzag sets in at window (from 0) {values}{_more(evidence)}"


def _windows(evidence: Evidence) -> str:
    known = [run["window"][:3] for run in evidence.runs[:SHOWN] if run["window"] is not None]
    values = "; ".join(", ".join(f"{value:.2f}" for value in window) for window in known)
    return f"o_1, o_2, o_3 of the most opposed window: {values}{_more(evidence)}"


def _ends(evidence: Evidence) -> str:
    values = ", ".join(
        f"{run['end']:.2f} at loss {run['loss']:.2g}" for run in evidence.runs[:SHOWN]
    )
    return f"largest correlation at the end: {values}{_more(evidence)}"


def _halves(evidence: Evidence) -> str:
    values = ", ".join(
        f"{run['early']:.2f} then {run['late']:.2f}" for run in evidence.runs[:SHOWN]
    )
    return f"mean correlation early, then late: {values}{_more(evidence)}"


def _more(evidence: Evidence) -> str:
    more = len(evidence.runs) - SHOWN
    return f", and of {more} more" if more > 0 else ""
