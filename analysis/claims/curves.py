"""P2 sections 2 and 5.1: what the batch size and the window change in the mean correlation."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from analysis.claims import needs, statistics
from analysis.claims.contract import Claim, Evidence, Measured, Measures, Need
from analysis.claims.correlations import onset
from analysis.claims.descent import MEAN, TIME, WAVE, planted
from analysis.claims.facts import Facts
from analysis.claims.rules import each_run, over_pairs, pairs, undefined
from analysis.claims.run import Array, ClaimRun
from analysis.verdicts import Found, Outcome, Word, all_of, within

MOST_APART, LIKE_SIGNED = 0.25, 0.85
"""Largest difference of two curves, and share of equal signs, of 'insensitive' [1]; ours."""
MOST_STEPS = 10
"""Steps of an epoch of 'large' batches: P2 section 5.2 has 5,000 of 50,000 images."""
LINEAR = 0.01
"""Relative difference of the learning rates' ratio to the batch sizes' that is 'linear'; ours."""
PARTS = 20
"""Equal parts of a run that smooth a curve; ours."""
WINDOWS = (2, 3, 5, 10)
"""Values of h that are compared; ours, around P2's 5."""
ALIKE = 0.9
"""Correlation of the curves of two h [1]; ours, untuned."""
FLICKER: Array = np.asarray(0.9 * (-1.0) ** TIME * np.sin(TIME / 20), dtype=np.float64)


def curve(run: ClaimRun) -> Measures:
    """The mean correlation in PARTS equal parts of the run; the largest learning rate."""
    mean = run.whole("mean_correlation")
    parts = PARTS * np.arange(len(mean)) // max(1, len(mean))
    return {
        "curve": np.array([statistics.mean(mean[parts == part]) for part in range(PARTS)]),
        "rate": float(np.nanmax(run.whole("learning_rate"))),
    }


def batch_size(facts: Facts) -> float | None:
    """The batch size of a run that has one in numbers on an axis."""
    value = facts.axes.get("batch_size")
    return float(value) if isinstance(value, int | float) else None


def is_large(facts: Facts) -> bool:
    """True if a minibatch is at least a tenth of the training examples: ten steps per epoch."""
    return facts.steps_per_epoch <= MOST_STEPS


def insensitive(evidence: Evidence) -> Found:
    """The curves of the smallest and the largest of the large batch sizes are near each other."""
    sizes = sorted({size for run in evidence.runs if (size := batch_size(run.facts)) is not None})
    found = pairs(evidence.runs, batch_size, sizes[0], sizes[-1], "batch_size")
    numbers = f"Batch sizes {sizes[0]:g} and {sizes[-1]:g}"
    growth = sizes[-1] / sizes[0]
    if not found:
        return undefined(f"{numbers}: no two runs differ in the batch size alone.")
    if not all(_is_linear(*pair, growth) for pair in found):
        rates = ", ".join(f"{run['rate']:g}" for run in found[0])
        why = "the learning rate does not grow linearly with the batch size, as the paper's does"
        return Found(Outcome.OPEN, f"{numbers}, learning rates {rates}.", why=why)
    apart = over_pairs(found, lambda a, b: float(np.nanmax(np.abs(a["curve"] - b["curve"]))))
    signs = over_pairs(found, lambda a, b: _equal_signs(a["curve"], b["curve"]))
    outcome = all_of([within(apart, None, MOST_APART), within(signs, LIKE_SIGNED, None)])
    return Found(outcome, f"{numbers}: largest difference {apart}, share of equal signs {signs}.")


def _is_linear(small: Measured, large: Measured, growth: float) -> bool:
    return bool(abs(large["rate"] / small["rate"] / growth - 1) < LINEAR)


def _equal_signs(first: Array, second: Array) -> float:
    fine = np.isfinite(first) & np.isfinite(second)
    return float((np.sign(first) == np.sign(second))[fine].mean()) if fine.any() else math.nan


def windows(run: ClaimRun) -> Measures:
    """Least correlation of the curves of other h with that of h = 5; moves of the onset."""
    lag = run.lagged(1)[1:]
    known = lag[np.isfinite(lag)]
    if len(known) < 4 * max(WINDOWS):
        return {"likeness": math.nan, "moved": math.nan}
    curves = {h: _smoothed(known, h) for h in WINDOWS}
    own = curves[5]
    others = [curves[h] for h in WINDOWS if h != 5]
    likeness = [_correlation(own, other) for other in others]
    onsets = [onset(_window_means(known, h)) for h in WINDOWS]
    there = [begin for begin in onsets if begin is not None]
    moved = float(max(there) - min(there)) if len(there) == len(onsets) else math.nan
    return {"likeness": min(likeness), "moved": 0.0 if not there else moved}


def _window_means(lag: Array, window: int) -> Array:
    return np.asarray(sliding_window_view(lag, window - 1).mean(axis=1), dtype=float)


def _smoothed(lag: Array, window: int) -> Array:
    """The window's means, centred, under a moving average that all windows share."""
    means = _window_means(lag, window)
    span = max(WINDOWS)
    smooth = sliding_window_view(means, span).mean(axis=1)
    cut = (span - window) // 2
    length = len(lag) - 2 * span
    return np.asarray(smooth[cut : cut + length], dtype=float)


def _correlation(first: Array, second: Array) -> float:
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return math.nan
    return float(np.corrcoef(first, second)[0, 1])


def same_for_any_window(run: Measured) -> bool | None:
    """The curves are alike and the onset moves by the window at most."""
    if math.isnan(run["likeness"]):
        return None
    return bool(run["likeness"] > ALIKE and run["moved"] <= max(WINDOWS))


def _least_alike(evidence: Evidence) -> str:
    known = [run for run in evidence.runs if math.isfinite(run["likeness"])]
    if not known:
        return ""
    moves = [run["moved"] for run in known if math.isfinite(run["moved"])]
    moved = f", onset moves by at most {max(moves):g}" if moves else ""
    return f"least correlation {min(run['likeness'] for run in known):.3g}{moved}"


CLAIMS = (
    Claim(
        id="C39",
        statement="the mean correlation hardly depends on the size of large batches",
        source="P2 section 5.1, figure 9",
        metric=f"curves of {PARTS} equal parts of the run, smallest against largest of the large "
        "batch sizes: largest difference, share of equal signs",
        rule=f"passes if the first's interval lies below {MOST_APART} and the second's above "
        f"{LIKE_SIGNED}, fails if one lies on the other side. Large is a tenth of the training "
        "examples or more; the learning rate must grow linearly with the batch size, else nothing "
        "is settled.",
        threshold="large: P2 section 5.2's 5,000 of 50,000; the rest is ours, untuned",
        needs=(
            Need(f"runs of at most {MOST_STEPS} steps per epoch (large batches)", is_large),
            needs.levels("two large batch sizes in numbers on an axis", batch_size),
        ),
        columns=(*MEAN, "steps.learning_rate"),
        measure=curve,
        decide=insensitive,
        planted={
            Word.BEYOND: partial(planted, WAVE, batches=(0.0, 0.05)),
            Word.REFUTED: partial(planted, WAVE, batches=(0.0, 0.5)),
            Word.INCONCLUSIVE: partial(planted, WAVE, batches=(0.0, 0.05), seeds=(0,)),
        },
    ),
    Claim(
        id="C40",
        statement="the size h of the window is not essential",
        source="P2 section 2",
        metric="correlation of the mean-correlation curves of h = 2, 3, 10 with that of 5, centred "
        "and equally smoothed; by how much the onset of zigzag moves",
        rule=f"passes if in every run the least correlation is above {ALIKE} and the onset moves "
        f"by at most {max(WINDOWS)}, fails if in none. Windows share their pairs, so the curves of "
        "unrelated gradients are alike too, and the null explains a pass.",
        threshold="ours; unsmoothed curves cannot pass, .79 for h = 2 against 5 on a clean switch",
        needs=(Need("runs of at least 50 steps", lambda f: f.num_steps >= 50),),
        columns=("correlation.correlation",),
        measure=windows,
        decide=lambda evidence: each_run(
            evidence.runs, same_for_any_window, _least_alike(evidence)
        ),
        planted={
            Word.EXPLAINED: partial(planted, WAVE),
            Word.REFUTED: partial(planted, FLICKER),
            Word.INCONCLUSIVE: lambda: [*planted(WAVE)[:2], planted(FLICKER)[2]],
        },
    ),
)
