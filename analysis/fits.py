"""Fits of y against x, one per seed, with an interval over the seeds; what is left out in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trainables.store import UserError

CONFIDENCE = 0.95
BOOTSTRAP_FROM = 10
"""Seeds from which on the interval is a bootstrap: below, a percentile bootstrap's 95 % covers too
little (.74 at 3 seeds, .83 at 5; measured)."""
BOOTSTRAP_RESAMPLES = 10_000
"""Ours; the interval's ends then move in the third digit of its width."""

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A mean over seeds with its 95 % interval; `low` and `high` are None where undefined."""

    mean: float | None
    low: float | None
    high: float | None
    num_seeds: int
    method: str

    def __str__(self) -> str:
        if self.mean is None:
            return "undefined"
        if self.low is None or self.high is None:
            return f"{self.mean:.3g} ({self.method})"
        return f"{self.mean:.3g} [{self.low:.3g}, {self.high:.3g}]"

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The interval's ends, or None where it is undefined."""
        return None if self.low is None or self.high is None else (self.low, self.high)


@dataclass(frozen=True)
class PowerLaw:
    """y = prefactor * x^exponent: the mean of per-seed fits, with an interval over the seeds.

    `low` and `high` are None where the interval is undefined (one seed), `exponent` is None where
    no seed can be fitted. `r_squared` is the mean over seeds of the share of the variance of log y
    that the law explains, None where y does not vary. `excluded` says in words what was left out of
    the fit and why.
    """

    exponent: float | None
    low: float | None
    high: float | None
    num_seeds: int
    per_seed: dict[str, float]
    method: str
    prefactor: float | None
    excluded: tuple[str, ...]
    r_squared: float | None = None

    def __str__(self) -> str:
        if self.exponent is None or self.bounds is None:
            return "undefined" if self.exponent is None else f"{self.exponent:.3f} ({self.method})"
        # Adding 0.0 turns a rounded -0.0 into 0.0.
        mean, low, high = (round(x, 3) + 0.0 for x in (self.exponent, *self.bounds))
        return f"{mean:.3f} [{low:.3f}, {high:.3f}]"

    @property
    def interval(self) -> Interval:
        """The exponent and its interval."""
        return Interval(self.exponent, self.low, self.high, self.num_seeds, self.method)

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The interval's ends, or None where it is undefined."""
        return self.interval.bounds

    def factor(self, ratio: float) -> Interval:
        """The effect in y of multiplying x by `ratio`: ratio^exponent, with its interval."""
        mean, low, high = (
            None if e is None else ratio**e for e in (self.exponent, self.low, self.high)
        )
        return Interval(mean, low, high, self.num_seeds, self.method)


@dataclass(frozen=True)
class Line:
    """y = intercept + slope * x: the mean of per-seed fits, the slope's interval over the seeds."""

    slope: Interval
    intercept: float | None
    excluded: tuple[str, ...]


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's rho of y with x: the mean over seeds, with an interval within [-1, 1]."""

    rho: Interval
    excluded: tuple[str, ...]


def fit_power_law(table: pd.DataFrame, x: str, y: str, seed: str = "seed") -> PowerLaw:
    """Fit y = c x^a: log y = log c + a log x by least squares, one a per seed; their mean.

    `table` has one row per cell: x, y and the seed. The interval over the per-seed exponents is
    Student's t below 10 seeds and a seeded percentile bootstrap of their mean from 10 on. A cell
    whose x or y is not positive or undefined has no logarithm: it is left out, and `excluded` says
    so.

    Raises:
        UserError: no such column (lists those there are), or one that holds no numbers.
    """
    groups, left_out = _per_seed(table, x, y, seed, positive=True)
    fits = {name: least_squares(np.log(a), np.log(b)) for name, (a, b) in groups.items()}
    interval = interval_over_seeds([fit.slope for fit in fits.values()])
    explained = [fit.r_squared for fit in fits.values() if fit.r_squared is not None]
    offsets = [fit.intercept for fit in fits.values()]
    return PowerLaw(
        exponent=interval.mean,
        low=interval.low,
        high=interval.high,
        num_seeds=interval.num_seeds,
        per_seed={name: fit.slope for name, fit in fits.items()},
        method=interval.method,
        prefactor=math.exp(float(np.mean(offsets))) if offsets else None,
        excluded=left_out,
        r_squared=float(np.mean(explained)) if explained else None,
    )


def fit_line(table: pd.DataFrame, x: str, y: str, seed: str = "seed") -> Line:
    """Fit y = b + a x by least squares, one a per seed; their mean, with an interval over seeds."""
    groups, left_out = _per_seed(table, x, y, seed)
    fits = [least_squares(a, b) for a, b in groups.values()]
    slope = interval_over_seeds([fit.slope for fit in fits])
    return Line(slope, float(np.mean([fit.intercept for fit in fits])) if fits else None, left_out)


def rank_correlation(table: pd.DataFrame, x: str, y: str, seed: str = "seed") -> RankCorrelation:
    """Spearman's rho = the correlation of the ranks of x and y, one per seed; their mean [1].

    A seed whose y is the same at every x has no ranks: it is left out, and `excluded` says so.
    """
    groups, left_out = _per_seed(table, x, y, seed)
    found = {name: _spearman(a, b) for name, (a, b) in groups.items()}
    ties = tuple(f"seed {name}: {y} does not vary" for name, rho in found.items() if rho is None)
    interval = interval_over_seeds([rho for rho in found.values() if rho is not None])
    ends = [None if end is None else min(1.0, max(-1.0, end)) for end in interval.bounds or ()]
    low, high = ends or (None, None)
    rho = Interval(interval.mean, low, high, interval.num_seeds, interval.method)
    return RankCorrelation(rho, left_out + ties)


@dataclass(frozen=True)
class LeastSquares:
    """y = intercept + slope * x; the share of the variance explained is None if y is constant."""

    slope: float
    intercept: float
    r_squared: float | None


def least_squares(x: Values, y: Values) -> LeastSquares:
    """The line of slope cov(x, y) / var(x) through the means of x and y."""
    centred, spread = x - x.mean(), y - y.mean()
    slope = float(centred @ y / (centred @ centred))
    total = float(spread @ spread)
    residual = spread - slope * centred
    explained = 1 - float(residual @ residual) / total if total else None
    return LeastSquares(slope, float(y.mean() - slope * x.mean()), explained)


def interval_over_seeds(values: Sequence[float]) -> Interval:
    """Mean and 95 % interval of one value per seed: m -+ t s / sqrt(n), bootstrap from n = 10."""
    array = np.asarray(values, dtype=float)
    count = len(array)
    if count == 0:
        return Interval(None, None, None, 0, "no seed can be used")
    mean = float(array.mean())
    if count == 1:
        return Interval(mean, None, None, 1, "interval undefined with one seed")
    if count < BOOTSTRAP_FROM:
        half = student_quantile(count - 1) * float(array.std(ddof=1)) / math.sqrt(count)
        return Interval(mean, mean - half, mean + half, count, f"Student t over {count} seeds")
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(_resampling(count) @ array, [tail, 1 - tail])
    return Interval(mean, float(low), float(high), count, f"bootstrap over {count} seeds")


def student_quantile(degrees: float, comparisons: int = 1) -> float:
    """Two-sided 95 % quantile of Student's t, Bonferroni-corrected for several comparisons."""
    # As long to import as all of numpy, and a curve needs no interval.
    from scipy.special import stdtrit

    return float(stdtrit(degrees, 1 - (1 - CONFIDENCE) / 2 / comparisons))


@lru_cache(maxsize=8)
def _resampling(count: int) -> Values:
    """Weights [resamples, count] whose product with the values is the mean of each resample."""
    draws = np.random.default_rng(0).integers(count, size=(BOOTSTRAP_RESAMPLES, count))
    flat = draws + count * np.arange(BOOTSTRAP_RESAMPLES)[:, None]
    counts = np.bincount(flat.ravel(), minlength=BOOTSTRAP_RESAMPLES * count)
    return counts.reshape(BOOTSTRAP_RESAMPLES, count) / count


def _per_seed(
    table: pd.DataFrame, x: str, y: str, seed: str, *, positive: bool = False
) -> tuple[dict[str, tuple[Values, Values]], tuple[str, ...]]:
    """Of every seed that has two levels of x: x and y; and in words what was left out."""
    values = np.stack([_numbers(table, x), _numbers(table, y)], axis=1)
    names, which = np.unique(table[seed].astype(str).to_numpy(object), return_inverse=True)
    levels = len(np.unique(values[:, 0]))
    left_out: list[str] = []
    groups: dict[str, tuple[Values, Values]] = {}
    for number, name in enumerate(names.tolist()):
        cells = values[which == number]
        fine = (cells > 0).all(axis=1) if positive else np.isfinite(cells).all(axis=1)
        why = ", no logarithm" * positive
        left_out += [_complaint(f"seed {name}", x, a, y, b) + why for a, b in cells[~fine]]
        found = len(set(cells[fine, 0].tolist()))
        if found < levels:
            left_out.append(f"seed {name}: only {found} of {levels} levels of {x}")
        if found >= 2:
            groups[name] = cells[fine, 0], cells[fine, 1]
    return groups, tuple(left_out)


def _numbers(table: pd.DataFrame, name: str) -> Values:
    try:
        return table[name].to_numpy(float)
    except KeyError:
        columns = ", ".join(map(str, table.columns))
        raise UserError(f"no column '{name}'; there are: {columns}") from None
    except (TypeError, ValueError):
        words = f"column '{name}' holds no numbers; compare() compares its levels"
        raise UserError(words) from None


def _complaint(who: str, x: str, a: float, y: str, b: float) -> str:
    if math.isnan(a):
        return f"{who}: {x} is undefined"
    value = "undefined" if math.isnan(b) else f"{b:.3g}"
    return f"{who}, {x} {a:g}: {y} is {value}"


def _spearman(x: Values, y: Values) -> float | None:
    ranks = [_ranks(values) for values in (x, y)]
    centred = [values - values.mean() for values in ranks]
    norms = math.prod(float(np.linalg.norm(values)) for values in centred)
    return float(centred[0] @ centred[1]) / norms if norms else None


def _ranks(values: Values) -> Values:
    """The place of every value in their order, from 1; equal values share the mean of theirs."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[which], dtype=np.float64)
