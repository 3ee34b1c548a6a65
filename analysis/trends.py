"""Power laws y ~ x^a with an interval over seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import stdtrit

from analysis.cells import MEASURES, Ablation

CONFIDENCE = 0.95
BOOTSTRAP_FROM = 10
"""Seeds from which on the interval is a bootstrap: below, a percentile bootstrap's 95 % covers too
little (.74 at 3 seeds, .83 at 5; measured)."""
BOOTSTRAP_RESAMPLES = 10_000
"""Ours; the interval's ends then move in the third digit of its width."""


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
    no seed can be fitted. `excluded` says in words what was left out of the fit and why.
    """

    exponent: float | None
    low: float | None
    high: float | None
    num_seeds: int
    per_seed: dict[str, float]
    method: str
    prefactor: float | None
    excluded: tuple[str, ...]

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


def fit_power_law(table: pd.DataFrame, x: str, y: str, seed: str = "seed") -> PowerLaw:
    """Fit y = c x^a: log y = log c + a log x by least squares, one a per seed; their mean.

    `table` has one row per cell: x, y and the seed. The interval over the per-seed exponents is
    Student's t below 10 seeds and a seeded percentile bootstrap of their mean from 10 on. A cell
    whose y is not positive or undefined has no logarithm: it is left out, and `excluded` says so.
    """
    values = table[[x, y]].to_numpy(float)
    seeds = table[seed].astype(str).to_numpy()
    levels = len(np.unique(values[:, 0]))
    left_out: list[str] = []
    fits: dict[str, tuple[float, float]] = {}
    for name in sorted(set(seeds)):
        usable, words = _loggable(values[seeds == name], x, y, f"seed {name}")
        left_out += words
        found = len(np.unique(usable[:, 0]))
        if found < levels:
            left_out.append(f"seed {name}: only {found} of {levels} levels of {x}")
        if found >= 2:
            fits[name] = _least_squares(np.log(usable[:, 0]), np.log(usable[:, 1]))
    interval = interval_over_seeds([slope for slope, _ in fits.values()])
    offsets = [offset for _, offset in fits.values()]
    return PowerLaw(
        exponent=interval.mean,
        low=interval.low,
        high=interval.high,
        num_seeds=interval.num_seeds,
        per_seed={name: slope for name, (slope, _) in fits.items()},
        method=interval.method,
        prefactor=math.exp(float(np.mean(offsets))) if offsets else None,
        excluded=tuple(left_out),
    )


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
    draws = np.random.default_rng(0).integers(count, size=(BOOTSTRAP_RESAMPLES, count))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(array[draws].mean(axis=1), [tail, 1 - tail])
    return Interval(mean, float(low), float(high), count, f"bootstrap over {count} seeds")


def student_quantile(degrees: float, comparisons: int = 1) -> float:
    """Two-sided 95 % quantile of Student's t, Bonferroni-corrected for several comparisons."""
    return float(stdtrit(degrees, 1 - (1 - CONFIDENCE) / 2 / comparisons))


def exponents(cells: pd.DataFrame) -> dict[str, PowerLaw]:
    """The power law in the batch size of every measure of a group of cells."""
    return {measure: fit_power_law(cells, "batch_size", measure) for measure in MEASURES}


def trend_table(ablations: Iterable[Ablation]) -> pd.DataFrame:
    """Exponents in the batch size: one row per ablation, group and measure.

    Columns: ablation, group, measure, quantity (its readable name), exponent, low, high, num_seeds,
    method, prefactor, excluded (words joined by semicolons).
    """
    rows = [
        {
            "ablation": ablation.label,
            "group": group,
            "measure": measure,
            "quantity": MEASURES[measure],
            "exponent": law.exponent,
            "low": law.low,
            "high": law.high,
            "num_seeds": law.num_seeds,
            "method": law.method,
            "prefactor": law.prefactor,
            "excluded": "; ".join(law.excluded),
        }
        for ablation in ablations
        if ablation.compared == "batch_size"
        for group, cells in ablation.cells.groupby("group", sort=False)
        for measure, law in exponents(cells).items()
    ]
    return pd.DataFrame(rows, columns=list(TREND_COLUMNS))


TREND_COLUMNS = (
    "ablation",
    "group",
    "measure",
    "quantity",
    "exponent",
    "low",
    "high",
    "num_seeds",
    "method",
    "prefactor",
    "excluded",
)


def _loggable(
    cells: NDArray[np.float64], x: str, y: str, who: str
) -> tuple[NDArray[np.float64], list[str]]:
    positive = (cells > 0).all(axis=1)
    words = [
        f"{who}, {x} {a:g}: {y} is {'undefined' if math.isnan(b) else format(b, '.3g')}, "
        "no logarithm"
        for a, b in cells[~positive]
    ]
    return cells[positive], words


def _least_squares(log_x: NDArray[np.float64], log_y: NDArray[np.float64]) -> tuple[float, float]:
    centred = log_x - log_x.mean()
    slope = float(centred @ log_y / (centred @ centred))
    return slope, float(log_y.mean() - slope * log_x.mean())
