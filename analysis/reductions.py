"""What one run's steps come down to: means over the kept steps, slices, parts, straightness.

A sweep's steps do not fit in memory together, so a run's table is read, reduced and dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.exclusion import Exclusion, rows_of
from analysis.fits import Values, least_squares
from analysis.lengths import Length

RATIOS = {
    "gamma_over_null": "null_gamma",
    "gamma_over_null_closed": "null_gamma_closed",
}
"""gamma over a null model: column of the cells, column of the null."""
DRAWN = ("gamma", "distance", "rsi", "error_bound", "local_lr")
"""Columns whose course along a run is kept, each with its null model."""
PART_COLUMNS = (*DRAWN, *(f"null_{column}" for column in DRAWN), "mean_correlation")
STEP_COLUMNS = (*PART_COLUMNS, "null_gamma_closed")
"""What is read of a steps table."""
SHARES = ("observed", "contraction", "rate", "null")
"""What `shares` gives."""
PART_NAMES = tuple(
    f"{name}_{what}" for name in (*PART_COLUMNS, *SHARES) for what in ("mean", "low", "high")
)
"""Columns of a table of parts, besides part and x."""
NUM_SLICES = 20
"""Equal parts of a run, for rules about 'most of training'; ours, untuned."""
NUM_PARTS = 50
"""Equal parts of a run, for curves and windows; ours, untuned."""
STRAIGHTNESS_POINTS = 50
"""Steps, evenly spaced in log(T - t), through which the straightness line goes; ours."""


@dataclass(frozen=True)
class Reduction:
    """A run's steps, reduced: one row of means, 20 slices, up to 50 parts."""

    means: dict[str, float]
    slices: pd.DataFrame
    parts: pd.DataFrame


def reduce_run(steps: pd.DataFrame, exclusion: Exclusion, length: Length) -> Reduction:
    """One run's steps under one exclusion."""
    columns = {name: values_of(steps, name) for name in STEP_COLUMNS}
    step = steps["step"].to_numpy()
    kept = exclusion.kept_of_run(step, columns["distance"], length)
    rows = rows_of(kept)
    own = {name: values[rows] for name, values in columns.items()}
    drawn = {name: own[name] for name in PART_COLUMNS if name in steps.columns}
    drawn |= {name: values[rows] for name, values in shares(steps, kept).items()}
    return Reduction(
        means=kept_means(own) | straightness(step[rows], own, length.num_steps),
        slices=_slices(step, columns, length.num_steps),
        parts=part_means(step[rows], drawn, length.num_steps),
    )


def shares(steps: pd.DataFrame, kept: NDArray[np.bool_]) -> dict[str, Values]:
    """The distance d_t = ‖w_t - w*‖ of one run, at every step, as shares of the first [1].

    observed = d_t / d_0;
    contraction = prod_{s<t} sqrt(1 - gamma_s^2), the share left had every step been of the
    locally optimal length (P1 eq. 5-6);
    rate = (1 - mu^2 / L^2)^(t/2), mu = min RSI and L = max EB over the kept steps (P1 eq. 7),
    NaN where mu <= 0, as the bound then says nothing;
    null = d_t / d_0 of the null model.
    """
    gamma, rsi, bound = (values_of(steps, name) for name in ("gamma", "rsi", "error_bound"))
    # An undefined gamma contracts nothing; -inf, at gamma = 1, is a distance of zero.
    with np.errstate(divide="ignore"):
        logs = 0.5 * np.log1p(-(np.nan_to_num(gamma) ** 2).clip(max=1.0))
    rate = np.full(len(kept), np.nan)
    inside = kept & ~np.isnan(rsi)
    if inside.any() and rsi[inside].min() > 0:
        ratio = rsi[inside].min() / bound[inside].max()
        rate = (1 - ratio**2) ** (np.arange(len(kept)) / 2)
    return {
        "observed": _share_of_first(values_of(steps, "distance")),
        "contraction": np.exp(np.concatenate([[0.0], np.cumsum(logs)])[:-1]),
        "rate": rate,
        "null": _share_of_first(values_of(steps, "null_distance")),
    }


def _share_of_first(distance: Values) -> Values:
    with np.errstate(divide="ignore", invalid="ignore"):
        return distance / distance[:1]


def kept_means(kept: dict[str, Values]) -> dict[str, float]:
    """The mean over a run's kept steps of gamma and the nulls, and gamma over null.

    gamma_over_null = mean_t gamma_t / mean_t null_t, over the steps where both are defined. As a
    ratio of means it makes exponents add up: that of gamma is the null's plus the ratio's.
    gamma_over_null_stepwise = mean_t (gamma_t / null_t) weighs every step alike.
    Undefined steps are left out of a mean and counted in num_undefined.
    """
    gamma = kept["gamma"]
    means = {name: _mean(kept[name]) for name in ("gamma", *RATIOS.values())}
    with np.errstate(divide="ignore", invalid="ignore"):
        means["gamma_over_null_stepwise"] = _mean(gamma / kept["null_gamma"])
        for ratio, null in RATIOS.items():
            both = ~np.isnan(gamma) & ~np.isnan(kept[null])
            means[ratio] = float(np.float64(_mean(gamma[both])) / _mean(kept[null][both]))
    counts = {"num_undefined": np.isnan(gamma).sum(), "num_negative": (gamma < 0).sum()}
    return means | {"num_kept": len(gamma), **{name: int(n) for name, n in counts.items()}}


def epoch_means(epochs: pd.DataFrame, num_kept: int) -> dict[str, float]:
    """`kept_means` from the epochs table of a run without steps: over its whole kept epochs.

    Each epoch's mean is weighed with its defined steps, or with all of them where their number is
    not known. The mean of per-step ratios is undefined.
    """
    whole = epochs[epochs["num_steps"].cumsum() <= num_kept]
    means = {name: _weighted(whole, name) for name in ("gamma", *RATIOS.values())}
    with np.errstate(divide="ignore", invalid="ignore"):
        gamma = np.float64(means["gamma"])
        ratios = {ratio: float(gamma / means[null]) for ratio, null in RATIOS.items()}
    counts = {
        f"num_{what}": _sum_if_known(whole, f"gamma_num_{what}")
        for what in ("undefined", "negative")
    }
    return means | ratios | counts | {"num_kept": float(whole["num_steps"].sum())}


def straightness(
    step: NDArray[np.int64], columns: dict[str, Values], num_steps: int
) -> dict[str, float]:
    """The exponent s of ‖w_t - w*‖^2 ~ (T - t)^s along the kept steps; 1 diffusive, 2 ballistic.

    Least squares in the logarithms through steps evenly spaced in log(T - t), so that every scale
    counts alike; the same for the null model's distance. straightness_over_null is the exponent of
    the squared distance over the null's, which is the difference of the two. Undefined (NaN) where
    fewer than two points are left. Source: INVENTORY G02.
    """
    left = num_steps - step
    if not len(left):
        return dict.fromkeys(
            ("straightness", "null_straightness", "straightness_over_null"), np.nan
        )
    wanted = np.geomspace(left[-1], left[0], STRAIGHTNESS_POINTS)
    chosen = np.unique(np.searchsorted(-left, -wanted).clip(max=len(left) - 1))
    own, null = (
        _exponent(left[chosen], columns[name][chosen]) for name in ("distance", "null_distance")
    )
    return {"straightness": own, "null_straightness": null, "straightness_over_null": own - null}


def _exponent(left: NDArray[np.int64], distance: Values) -> float:
    fine = distance > 0
    if len(np.unique(left[fine])) < 2:
        return float("nan")
    return least_squares(np.log(left[fine].astype(float)), 2 * np.log(distance[fine])).slope


def _slices(step: NDArray[np.int64], columns: dict[str, Values], num_steps: int) -> pd.DataFrame:
    names = ["gamma", "null_gamma"]
    groups, mean, _, _ = _by_part(NUM_SLICES * step // num_steps, [columns[name] for name in names])
    return pd.DataFrame({"slice": groups, **dict(zip(names, mean, strict=True))})


def part_means(
    step: NDArray[np.int64], columns: Mapping[str, Values], num_steps: int
) -> pd.DataFrame:
    """Per fiftieth of a run that has some of these steps: part, x, and c_mean, c_low, c_high.

    x is the middle of its steps; mean, least and greatest value are over a column's defined values.
    """
    part = NUM_PARTS * step // num_steps
    groups, *found = _by_part(part, [step.astype(float), *columns.values()])
    x, values = found[0][0] + 0.5, np.stack(found, axis=1)[1:]
    names = [f"{name}_{what}" for name in columns for what in ("mean", "low", "high")]
    # One block of numbers: a table of fifty columns costs more to build than to compute.
    table = pd.DataFrame(values.reshape(len(names), len(groups)).T, columns=names)
    table.insert(0, "part", groups)
    table.insert(1, "x", x)
    return table


def _by_part(
    part: NDArray[np.int64], columns: list[Values]
) -> tuple[NDArray[np.int64], Values, Values, Values]:
    """The parts, ascending, and per column and part the mean, least and greatest defined value."""
    if not len(part):
        none = np.empty((len(columns), 0))
        return part, none, none, none
    starts = np.flatnonzero(np.diff(part, prepend=-1))
    lengths = np.diff(starts, append=len(part)).astype(float)
    # One column after the other: fresh memory for all together takes longer than the sums.
    found = [_column_by_part(values, starts, lengths) for values in columns]
    mean, low, high = (np.stack(each) for each in zip(*found, strict=True))
    return part[starts], mean, low, high


def _column_by_part(
    values: Values, starts: NDArray[np.intp], lengths: Values
) -> tuple[Values, Values, Values]:
    defined = ~np.isnan(values)
    filled, counts = values, lengths
    if not defined.all():
        filled = np.where(defined, values, 0.0)
        counts = np.add.reduceat(defined, starts, dtype=float)
    sums = np.add.reduceat(filled, starts)
    mean = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
    return mean, np.fmin.reduceat(values, starts), np.fmax.reduceat(values, starts)


def values_of(steps: pd.DataFrame, name: str) -> Values:
    """The column's values, all undefined (NaN) where the table does not have it."""
    if name in steps.columns:
        return steps[name].to_numpy(float)
    return np.full(len(steps), np.nan)


def _mean(values: Values) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")


def _weighted(epochs: pd.DataFrame, name: str) -> float:
    if f"{name}_mean" not in epochs.columns:
        return float("nan")
    means = epochs[f"{name}_mean"].to_numpy(float)
    undefined = epochs.get(f"{name}_num_undefined", pd.Series(0, epochs.index)).fillna(0)
    weights = (epochs["num_steps"] - undefined).to_numpy(float)
    fine = (weights > 0) & ~np.isnan(means)
    return float(np.average(means[fine], weights=weights[fine])) if fine.any() else float("nan")


def _sum_if_known(epochs: pd.DataFrame, name: str) -> float:
    """The sum of a count over the epochs; NaN where an epoch's is not known."""
    return float(epochs[name].sum(skipna=False)) if name in epochs.columns else float("nan")
