"""P1 sections 4 and 4.1: how RSI and the error bound develop, with and without interpolation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from analysis.claims import needs, statistics
from analysis.claims.contract import Claim, Evidence, Measured, Measures, Need
from analysis.claims.facts import Facts
from analysis.claims.planting import SEEDS, PlantedRun, jitter, labelled, path_steps
from analysis.claims.rules import each_setting
from analysis.claims.run import ClaimRun
from analysis.fits import Interval, interval_over_seeds
from analysis.verdicts import Found, Word, all_of, within

MOST_CHANGE = 2.0
"""Factor from 10 % to 90 % of the run that a 'stable' mean keeps within [1]; ours, untuned."""
GROWS = 0.5
"""Rank correlation with the epoch of a variance that 'grows' [1]; ours, untuned."""
MONOTONE = 0.8
"""Kendall's tau of a 'monotonic' increase [1]; ours, untuned."""
SHARP = 3.0
"""Last kept epoch over the middle one of a 'sharp rise' [1]; ours, untuned."""
LOW_VARIATION = 0.15
"""Standard deviation over mean within an epoch that is 'very low' [1]; ours, untuned."""
RISE = 1.2
"""Last kept epoch over the middle one of a 'rise at the end' [1]; ours, untuned."""
GAP = 0.3
"""Difference of the slopes of log EB in log distance between regimes [1]; ours, untuned."""
PAIR = ("rsi", "error_bound")
COLUMNS = ("steps.rsi", "steps.error_bound", "steps.null_rsi", "steps.null_error_bound")


def drift(run: ClaimRun) -> Measures:
    """Of RSI and EB the larger fold change, the smaller growth of the variance."""
    means = [run.by_epoch(name) for name in PAIR]
    spreads = [run.by_epoch(name, "std") for name in PAIR]
    growth = [statistics.rank_correlation(run.kept_epochs.astype(float), s) for s in spreads]
    return {
        "fold": float(np.max([statistics.fold_change(values, 0.8) for values in means])),
        "growth": float(np.min(growth)),
    }


def stable_with_growing_variance(evidence: Evidence) -> Found:
    """Small fold changes, and variances that grow."""
    fold = _each(evidence, "fold", None, MOST_CHANGE, "largest fold change of RSI and EB, 10-90 %")
    growth = _each(evidence, "growth", GROWS, None, "rank correlation of variance and epoch")
    return _both(fold, growth)


def rise(run: ClaimRun) -> Measures:
    """The least Kendall's tau, and the least last over middle, of RSI, EB and gamma by epoch."""
    means = [run.by_epoch(name) for name in (*PAIR, "gamma")]
    return {
        "monotony": float(np.min([statistics.monotony(values) for values in means])),
        "sharpness": float(np.min([statistics.last_over_middle(values) for values in means])),
    }


def monotone_and_sharp(evidence: Evidence) -> Found:
    """All three increase monotonically and rise sharply at the end."""
    tau = _each(evidence, "monotony", MONOTONE, None, "least Kendall's tau of RSI, EB and gamma")
    sharp = _each(evidence, "sharpness", SHARP, None, "least ratio of last to middle epoch")
    return _both(tau, sharp)


def evenness(run: ClaimRun) -> Measures:
    """Of RSI and EB the larger variation within an epoch, the smaller last over middle."""
    variation = [
        statistics.median(run.by_epoch(name, "std") / np.abs(run.by_epoch(name))) for name in PAIR
    ]
    ends = [statistics.last_over_middle(run.by_epoch(name)) for name in PAIR]
    return {"variation": float(np.max(variation)), "end": float(np.min(ends))}


def even_then_rising(evidence: Evidence) -> Found:
    """Low variation within epochs, and a rise at the end."""
    even = _each(evidence, "variation", None, LOW_VARIATION, "larger variation within an epoch")
    end = _each(evidence, "end", RISE, None, "smaller ratio of last to middle epoch")
    return _both(even, end)


def divergence(run: ClaimRun) -> Measures:
    """The slope of log EB in log distance, over epochs."""
    distance, bound = run.by_epoch("distance"), run.by_epoch("error_bound")
    return {"slope": statistics.log_slope(distance, bound)}


def regimes_differ(evidence: Evidence) -> Found:
    """EB is flatter in the distance where the run interpolates, by more than GAP."""
    slopes: dict[tuple[str, str], list[float]] = defaultdict(list)
    for run in evidence.runs:
        if np.isfinite(run["slope"]):
            slopes[run.facts.seed, str(run.facts.regime)].append(run["slope"])
    gap = _gap(slopes)
    return Found(within(gap, GAP, None), f"Slope, interpolating less non-interpolating: {gap}.")


def _gap(slopes: dict[tuple[str, str], list[float]]) -> Interval:
    seeds = dict.fromkeys(seed for seed, _ in slopes)
    both = [
        (slopes.get((seed, "interpolating")), slopes.get((seed, "non-interpolating")))
        for seed in seeds
    ]
    return interval_over_seeds([float(np.mean(a) - np.mean(b)) for a, b in both if a and b])


def _each(
    evidence: Evidence, name: str, low: float | None, high: float | None, words: str
) -> Found:
    value: Callable[[Measured], float] = lambda run: float(run[name])  # noqa: E731
    return each_setting(evidence.runs, value, low, high, words)


def _both(first: Found, second: Found) -> Found:
    outcome = all_of([first.outcome, second.outcome])
    return Found(outcome, f"{first.numbers} {second.numbers}")


STEPS, PER_EPOCH = 400, 20
LEFT = np.arange(STEPS, 0, -1.0)


def planted(
    gamma: ArrayLike,
    distance: ArrayLike | None,
    *,
    wobble: float = 0.0,
    norm: ArrayLike = 1.0,
    dimension: float | None = None,
    **config: object,
) -> list[PlantedRun]:
    """Runs whose gradient norm goes up and down from step to step, ever more."""
    growing = 1 + wobble * (-1.0) ** np.arange(STEPS) * np.linspace(0.1, 1, STEPS)
    table = {"effective_dimension": {"batch 0": 0.0 if dimension is None else dimension}}
    found = []
    for seed in SEEDS:
        steps = path_steps(STEPS, gamma, distance=distance, gradient_norm=norm)
        for name in PAIR:
            steps[name] = steps[name] * growing * jitter(seed)
        tables = {} if dimension is None else {"probe_batches": labelled(table, STEPS)}
        found.append(PlantedRun({"seed": seed}, steps, PER_EPOCH, config=config, tables=tables))
    return found


def two_regimes(interpolating: float, other: float, null: float = 0.0) -> list[PlantedRun]:
    """EB ~ d^slope in each regime; the null's EB ~ N^-1, N^(null - 1) in the interpolating one."""
    found = []
    for regime, slope in (("interpolating", interpolating), ("non-interpolating", other)):
        for seed in SEEDS:
            steps = path_steps(STEPS, 0.05)
            distance = np.sqrt(LEFT)
            steps["distance"] = distance
            steps["error_bound"] = distance ** (slope * jitter(seed))
            if regime == "interpolating":
                steps["null_error_bound"] = steps["null_distance"] ** (null - 1)
            axes = {"data.label_noise": 0.4 * (regime != "interpolating"), "seed": seed}
            found.append(PlantedRun(axes, steps, PER_EPOCH, regime=regime))
    return found


CIFAR: dict[str, Any]
IMAGENET: dict[str, Any]
CIFAR, IMAGENET = {"data": {"name": "cifar10"}}, {"data": {"name": "imagenet"}}
WIKITEXT: dict[str, Any] = {"data": {"name": "wikitext2"}}
FAR = np.full(STEPS, 5.0)


def both_regimes(runs: Sequence[Facts]) -> bool:
    """True if runs of both regimes are there; open for a plan."""
    found = {facts.regime for facts in runs}
    return any(facts.planned for facts in runs) or {"interpolating", "non-interpolating"} <= found


CLAIMS = (
    Claim(
        id="C06",
        statement="on CIFAR-10 the means of RSI and EB stay stable while their variance grows",
        source="P1 section 4",
        metric="fold change of the epoch means from 10 % to 90 % (Theil-Sen); rank correlation of "
        "the variance within an epoch with the epoch; of RSI and EB the worse",
        rule="passes if in every setting the fold change's interval lies below "
        f"{MOST_CHANGE:g} and that of the correlation above {GROWS}, fails if one lies on the "
        "other side.",
        threshold="ours, untuned",
        needs=(needs.data("cifar10"), needs.regime("interpolating"), needs.epochs(6)),
        columns=COLUMNS,
        measure=drift,
        decide=stable_with_growing_variance,
        planted={
            Word.BEYOND: partial(planted, 0.02, FAR, wobble=0.2, **CIFAR),
            Word.REFUTED: partial(planted, 0.02, LEFT**2, wobble=0.2, **CIFAR),
            Word.INCONCLUSIVE: lambda: planted(0.02, FAR, wobble=0.2, **CIFAR)[:1],
        },
    ),
    Claim(
        id="C07",
        statement="on ImageNet RSI, EB and gamma increase monotonically, sharply at the end",
        source="P1 section 4",
        metric="Kendall's tau of the epoch means; the last kept epoch over the middle one; of the "
        "three the least",
        rule=f"passes if in every setting tau's interval lies above {MONOTONE} and the ratio's "
        f"above {SHARP:g}, fails if one lies below.",
        threshold="ours, untuned",
        needs=(needs.data("imagenet"), needs.epochs(6)),
        columns=(*COLUMNS, "steps.gamma", "steps.null_gamma"),
        measure=rise,
        decide=monotone_and_sharp,
        planted={
            Word.BEYOND: partial(planted, 0.05 * LEFT**-2.0, LEFT**2, **IMAGENET),
            Word.REFUTED: partial(planted, 0.02, FAR, **IMAGENET),
            Word.INCONCLUSIVE: lambda: planted(0.02, FAR, **IMAGENET)[:1],
        },
    ),
    Claim(
        id="C10",
        statement="on WikiText-2 RSI and EB hardly vary within an epoch and rise at the end",
        source="P1 section 4",
        metric="median over epochs of standard deviation over mean; the last kept epoch over the "
        "middle one; of RSI and EB the worse",
        rule=f"passes if in every setting the variation's interval lies below {LOW_VARIATION} and "
        f"the ratio's above {RISE}, fails if one lies on the other side.",
        threshold="ours, untuned",
        needs=(needs.data("wikitext2"), needs.epochs(6)),
        columns=COLUMNS,
        measure=evenness,
        decide=even_then_rising,
        planted={
            Word.BEYOND: partial(planted, 0.05, None, dimension=50.0, **WIKITEXT),
            Word.EXPLAINED: partial(planted, 0.05, None, **WIKITEXT),
            Word.REFUTED: partial(planted, 0.05, FAR, **WIKITEXT),
            Word.INCONCLUSIVE: lambda: planted(0.05, None, **WIKITEXT)[:1],
        },
    ),
    Claim(
        id="C11",
        statement="RSI and EB stay flat in runs that interpolate and diverge in those that do not",
        source="P1 section 4.1",
        metric="slope of log EB in log distance: about 0 where EB is flat, -1 where the gradient "
        "norm is; interpolating less non-interpolating runs",
        rule=f"passes if the difference's interval over the seeds lies above {GAP}, fails if it "
        "lies below.",
        threshold="ours, untuned",
        needs=(
            Need("runs of both regimes", of_sweep=both_regimes),
            needs.epochs(6),
        ),
        columns=("steps.error_bound", "steps.distance", "steps.null_error_bound"),
        measure=divergence,
        decide=regimes_differ,
        planted={
            Word.BEYOND: partial(two_regimes, 0.0, -1.0),
            Word.EXPLAINED: partial(two_regimes, 0.0, -1.0, 1.0),
            Word.REFUTED: partial(two_regimes, -1.0, -1.0),
            Word.INCONCLUSIVE: lambda: [r for r in two_regimes(0.0, -1.0) if r.axes["seed"] == 0],
        },
    ),
)
