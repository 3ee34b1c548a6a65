"""Trends along two numeric axes at once: measure = c x^a z^b."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from analysis.cells import MEASURES, Ablation, is_crossed
from analysis.fits import Interval, interval_over_seeds
from analysis.trends import numeric_axes

PAIR_COLUMNS = (
    "ablation", "group", "measure", "quantity", "pair", "axis", "exponent", "low", "high",
    "num_seeds", "method", "r_squared", "excluded", "notes",
)  # fmt: skip


def fit_plane(
    table: pd.DataFrame, axes: tuple[str, str], y: str, seed: str = "seed"
) -> tuple[tuple[Interval, Interval], float | None, tuple[str, ...]]:
    """Fit y = c x^a z^b by least squares in the logarithms, one (a, b) per seed; their means.

    Returns the two exponents with their intervals over the seeds, the mean over seeds of the share
    of the variance of log y explained, and in words which cells and seeds were left out.
    """
    left_out: list[str] = []
    slopes: list[tuple[float, float]] = []
    explained: list[float] = []
    for name, rows in table.groupby(table[seed].astype(str)):
        values = rows[[*axes, y]].to_numpy(float)
        fine = (values > 0).all(axis=1)
        if not fine.all():
            left_out.append(f"seed {name}: {(~fine).sum()} cells without a logarithm")
        logs = np.log(values[fine])
        design = np.column_stack([np.ones(len(logs)), logs[:, :2]])
        if len(logs) <= design.shape[1] or np.linalg.matrix_rank(design) < design.shape[1]:
            left_out.append(f"seed {name}: too few levels for two exponents")
            continue
        solution, *_ = np.linalg.lstsq(design, logs[:, 2], rcond=None)
        slopes.append((float(solution[1]), float(solution[2])))
        residual = logs[:, 2] - design @ solution
        total = float(((logs[:, 2] - logs[:, 2].mean()) ** 2).sum())
        explained += [1 - float(residual @ residual) / total] if total else []
    first, second = ([pair[index] for pair in slopes] for index in (0, 1))
    exponents = interval_over_seeds(first), interval_over_seeds(second)
    return exponents, float(np.mean(explained)) if explained else None, tuple(left_out)


def pair_table(ablations: Iterable[Ablation]) -> pd.DataFrame:
    """The exponents of every measure along every pair of crossed numeric axes, two rows per pair.

    Columns: ablation, group (values of the remaining crossed axes), measure, quantity, pair (both
    axes, comma-separated), axis (the row's), exponent, low, high, num_seeds, method, r_squared,
    excluded, notes.
    """
    rows = [
        row
        for ablation in ablations
        for pair in combinations(numeric_axes(ablation), 2)
        if is_crossed(ablation.cells, *pair) and is_crossed(ablation.cells, *reversed(pair))
        for row in _pair_rows(ablation, pair)
    ]
    numbers = dict.fromkeys(("exponent", "low", "high", "r_squared"), float)
    return pd.DataFrame(rows, columns=list(PAIR_COLUMNS)).astype(numbers)


def _pair_rows(ablation: Ablation, pair: tuple[str, str]) -> list[dict[str, Any]]:
    rows = []
    for group, cells in ablation.across(pair).groupby("group", sort=False):
        missing = ablation.missing_words(pair[0], str(group))
        for measure in MEASURES:
            if cells[measure].isna().all():
                continue
            exponents, explained, left_out = fit_plane(cells, pair, measure)
            rows += [
                {
                    "ablation": ablation.label,
                    "group": group,
                    "measure": measure,
                    "quantity": MEASURES[measure],
                    "pair": ", ".join(pair),
                    "axis": axis,
                    "exponent": found.mean,
                    "low": found.low,
                    "high": found.high,
                    "num_seeds": found.num_seeds,
                    "method": found.method,
                    "r_squared": explained,
                    "excluded": "; ".join(left_out),
                    "notes": missing,
                }
                for axis, found in zip(pair, exponents, strict=True)
            ]
    return rows
