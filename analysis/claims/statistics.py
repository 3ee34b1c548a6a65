"""Statistics of one run's columns; NaN where there is too little to go by."""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

from analysis.claims.run import Array, ClaimRun

FEWEST = 4
"""Fewest values through which a trend is drawn; ours."""


def mean(values: Array) -> float:
    """The mean of the defined values."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else math.nan


def median(values: Array) -> float:
    """The median of the defined values."""
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else math.nan


def variation(values: Array) -> float:
    """Standard deviation over mean, of the defined values."""
    known = values[np.isfinite(values)]
    if len(known) < FEWEST or known.mean() == 0:
        return math.nan
    return float(known.std() / abs(known.mean()))


def log_slope(x: Array, y: Array) -> float:
    """The least-squares slope of log y in log x, over the points where both are positive."""
    fine = (x > 0) & (y > 0) & np.isfinite(x) & np.isfinite(y)
    if fine.sum() < FEWEST:
        return math.nan
    log_x, log_y = np.log(x[fine]), np.log(y[fine])
    centred = log_x - log_x.mean()
    spread = float(centred @ centred)
    return float(centred @ log_y) / spread if spread > 1e-12 else math.nan


def fold_change(values: Array, share: float) -> float:
    """The factor by which values change over that share of their course: Theil-Sen on logarithms.

    Always at least 1: a fall by half is a fold change of 2.
    """
    fine = np.flatnonzero(np.isfinite(values) & (values > 0))
    if len(fine) < FEWEST:
        return math.nan
    slope = float(stats.theilslopes(np.log(values[fine]), fine).slope)
    return math.exp(abs(slope) * share * len(values))


def rank_correlation(x: Array, y: Array) -> float:
    """Spearman's rank correlation; NaN for a constant."""
    fine = np.isfinite(x) & np.isfinite(y)
    if fine.sum() < FEWEST or np.ptp(x[fine]) == 0 or np.ptp(y[fine]) == 0:
        return math.nan
    # What scipy's spearmanr computes, without the p-value, which takes it ten times as long.
    return float(np.corrcoef(stats.rankdata(x[fine]), stats.rankdata(y[fine]))[0, 1])


def monotony(values: Array) -> float:
    """Kendall's tau of values with their order: 1 for a strict increase."""
    known = values[np.isfinite(values)]
    if len(known) < FEWEST or np.ptp(known) == 0:
        return math.nan
    return float(stats.kendalltau(np.arange(len(known)), known).statistic)


def linearity(values: Array) -> float:
    """R^2 of a straight line through values in their order."""
    known = values[np.isfinite(values)]
    if len(known) < FEWEST or np.ptp(known) == 0:
        return math.nan
    return float(np.corrcoef(np.arange(len(known)), known)[0, 1] ** 2)


def last_over_middle(values: Array) -> float:
    """The last value over the one in the middle."""
    if len(values) < FEWEST:
        return math.nan
    middle = float(values[len(values) // 2])
    return float(values[-1]) / middle if middle > 0 else math.nan


def to_come(run: ClaimRun) -> Array:
    """T - t at the middle of every kept epoch."""
    return np.asarray(run.facts.num_steps - run.epoch_middles, dtype=np.float64)
