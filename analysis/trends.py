"""Trends along any numeric axis: raw, the null model's own, and raw over null."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.cells import MEASURES, Ablation, is_numeric
from analysis.fits import BOOTSTRAP_FROM as BOOTSTRAP_FROM
from analysis.fits import Interval as Interval
from analysis.fits import PowerLaw as PowerLaw
from analysis.fits import fit_line, rank_correlation
from analysis.fits import fit_power_law as fit_power_law
from analysis.fits import interval_over_seeds as interval_over_seeds
from analysis.fits import student_quantile as student_quantile
from analysis.reductions import NUM_PARTS, RATIOS, epoch_means

FEW_SEEDS = 3
"""Below this many seeds a note says so: Student's t at two seeds is 12.7 s / sqrt(2)."""
NUM_WINDOWS = 5
"""Equal windows of a run in the report; ours, untuned."""
NUMBERS = (
    "exponent", "low", "high", "prefactor", "r_squared", "factor", "factor_low", "factor_high",
    "slope", "slope_low", "slope_high", "rank", "rank_low", "rank_high",
)  # fmt: skip
TREND_COLUMNS = (
    "ablation", "axis", "group", "measure", "quantity", "exponent", "low", "high", "num_seeds",
    "method", "prefactor", "excluded", *NUMBERS[4:], "notes",
)  # fmt: skip


def numeric_axes(ablation: Ablation) -> list[str]:
    """The axes of numbers along which the ablation's runs can be compared."""
    return [axis for axis in ablation.told_apart() if is_numeric(ablation.cells[axis])]


def exponents(cells: pd.DataFrame, axis: str = "batch_size") -> dict[str, PowerLaw]:
    """The power law in an axis of every measure of a group of cells."""
    return {measure: fit_power_law(cells, axis, measure) for measure in MEASURES}


def trend_table(ablations: Iterable[Ablation]) -> pd.DataFrame:
    """The trend of every measure along every numeric axis, group by group of the crossed axes.

    Columns: ablation, axis, group, measure, quantity (its readable name); of the power law
    measure = prefactor * axis^exponent: exponent, low, high, num_seeds, method, prefactor, excluded
    (what its logarithms leave out), r_squared; the effect over the axis's whole range, (greatest /
    smallest level)^exponent: factor, factor_low, factor_high; of the line: slope, slope_low,
    slope_high (per unit of the axis); Spearman's rho: rank, rank_low, rank_high; notes (few seeds,
    missing runs). Ends are missing where an interval is undefined. Texts are joined by semicolons.
    """
    rows = [
        row
        for ablation in ablations
        for axis in numeric_axes(ablation)
        for row in trend_rows(ablation, axis, ablation.along(axis))
    ]
    return _table(rows, TREND_COLUMNS)


def window_table(
    ablations: Iterable[Ablation],
    windows: Sequence[tuple[int, int]] | None = None,
    epochs: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """`trend_table` for each window of training: its columns, and window (in words).

    `windows` are half-open ranges of epochs [first, end), counted from 0, over the sweep's `epochs`
    table; None: fifths of the run, over its kept steps.
    """
    rows = []
    for ablation in ablations:
        for name, means in _windows(ablation, windows, epochs).items():
            for axis in numeric_axes(ablation):
                cells = ablation.along(axis).drop(columns=list(MEASURES)).merge(means, on="run_id")
                rows += [{**row, "window": name} for row in trend_rows(ablation, axis, cells)]
    return _table(rows, ("window", *TREND_COLUMNS))


def trend_rows(ablation: Ablation, axis: str, cells: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of `trend_table` for one ablation and axis; `cells` has level and group set."""
    return [
        {
            "ablation": ablation.label,
            "axis": axis,
            "group": group,
            "measure": measure,
            "quantity": MEASURES[measure],
            **_trend(rows, axis, measure),
            "notes": _notes(ablation, axis, str(group), rows, measure),
        }
        for group, rows in cells.groupby("group", sort=False)
        for measure in MEASURES
        if rows[measure].notna().any() or measure == "gamma"
    ]


def _trend(cells: pd.DataFrame, axis: str, measure: str) -> dict[str, Any]:
    law = fit_power_law(cells, axis, measure)
    line = fit_line(cells, axis, measure)
    rank = rank_correlation(cells, axis, measure)
    positive = cells[axis][cells[axis] > 0].astype(float)
    factor = law.factor(float(positive.max() / positive.min())) if len(positive) else None
    return {
        "exponent": law.exponent,
        "low": law.low,
        "high": law.high,
        "num_seeds": law.num_seeds,
        "method": law.method,
        "prefactor": law.prefactor,
        "excluded": "; ".join(law.excluded),
        "r_squared": law.r_squared,
        **_ends("factor", factor),
        **_ends("slope", line.slope),
        **_ends("rank", rank.rho),
    }


def _ends(name: str, interval: Interval | None) -> dict[str, float | None]:
    found = interval or Interval(None, None, None, 0, "")
    return {name: found.mean, f"{name}_low": found.low, f"{name}_high": found.high}


def _notes(ablation: Ablation, axis: str, group: str, cells: pd.DataFrame, measure: str) -> str:
    seeds = cells["seed"].nunique()
    undefined = int(cells[measure].isna().sum())
    notes = [
        "one seed: no interval" if seeds == 1 else "",
        f"only {seeds} seeds" if 1 < seeds < FEW_SEEDS else "",
        f"undefined in {undefined} of {len(cells)} runs" if undefined else "",
        ablation.missing_words(axis, group),
    ]
    return "; ".join(note for note in notes if note)


def _windows(
    ablation: Ablation, windows: Sequence[tuple[int, int]] | None, epochs: pd.DataFrame | None
) -> dict[str, pd.DataFrame]:
    """Per window, in words, the measures of every run that has it."""
    if windows is None or epochs is None:
        return _fifths(ablation.parts)
    own = epochs[epochs["run_id"].isin(ablation.cells["run_id"])]
    found = {}
    for first, end in windows:
        inside = own[(own["epoch"] >= first) & (own["epoch"] < end)]
        rows = [
            {"run_id": run_id, **epoch_means(table, int(table["num_steps"].sum()))}
            for run_id, table in inside.groupby("run_id", sort=False)
        ]
        found[f"epochs {first} to {end - 1}"] = pd.DataFrame(
            rows, columns=["run_id", *MEASURES]
        ).astype(dict.fromkeys(MEASURES, float))
    return found


def _fifths(parts: pd.DataFrame) -> dict[str, pd.DataFrame]:
    if parts.empty:
        return {}
    width = NUM_PARTS // NUM_WINDOWS
    found = {}
    for number, rows in parts.groupby(parts["part"] // width):
        names = {f"{name}_mean": name for name in ("gamma", *RATIOS.values())}
        table = rows.rename(columns=names).reindex(columns=["run_id", *names.values()])
        means = table.groupby("run_id", sort=False).mean().reset_index()
        for ratio, null in RATIOS.items():
            means[ratio] = means["gamma"] / means[null]
        share = 100 // NUM_WINDOWS
        name = f"{share * int(number)} to {share * (int(number) + 1)} % of the run"
        found[name] = means.reindex(columns=["run_id", *MEASURES])
    return found


def _table(rows: list[dict[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=list(columns))
    return table.astype(dict.fromkeys(NUMBERS, float)).replace([np.inf, -np.inf], np.nan)
