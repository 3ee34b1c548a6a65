"""What matters: the share of the variance of log gamma that goes with each factor (ANOVA)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.cells import MEASURES, THREE_TIMES, Ablation
from analysis.fits import Values

RESIDUAL = "residual"
IMPORTANCE_COLUMNS = (
    "ablation", "measure", "quantity", "factor", "eta_squared", "omega_squared", "degrees",
    "f_value", "p_value", "num_runs", "notes",
)  # fmt: skip
NUMBERS = ("eta_squared", "omega_squared", "f_value", "p_value")
TINY = 1e-12
"""A residual below this share of the total is rounding: F has no meaning [1]; ours."""


def importance_table(ablations: Iterable[Ablation]) -> pd.DataFrame:
    """The importance of every axis, pair of crossed axes, and the seed, for each ablation.

    Columns: ablation, measure (gamma, its null, their ratio), quantity, factor (an axis, `seed`,
    `a x b` for an interaction, or residual), then see `anova`, num_runs, notes (runs without a
    logarithm, factors that cannot be told apart, planned runs missing).
    """
    rows = [
        {
            "ablation": ablation.label,
            "measure": measure,
            "quantity": MEASURES[measure],
            **row,
        }
        for ablation in ablations
        for measure in THREE_TIMES
        for row in _rows(ablation, measure)
    ]
    return pd.DataFrame(rows, columns=list(IMPORTANCE_COLUMNS)).astype(
        dict.fromkeys(NUMBERS, float)
    )


def anova(y: Values, factors: Mapping[str, NDArray[Any]]) -> list[dict[str, Any]]:
    """Type II sums of squares of y over factors taken as categories, and their interactions.

    SS(term) = RSS(terms that do not contain it) - RSS(those and the term). Per term: eta_squared =
    SS / SS_total [1], the share of the variance that goes with it; omega_squared = (SS - degrees
    MSE) / (SS_total + MSE) [1], the same without what chance alone would give (may be below 0);
    degrees of freedom; f_value, p_value (undefined without a residual). Pairs of factors interact
    where all their combinations have values; a factor called seed is a block and interacts with
    none. A term without degrees of freedom of its own is left out, the residual, the last row, too.
    In a balanced design the shares add up to 1. Source: Langsrud 2003 (type II), Olejnik and Algina
    2003 (omega squared).
    """
    terms = _terms(factors)
    everything = _fit(y, [terms[name] for name in terms])
    total = float(((y - y.mean()) ** 2).sum())
    degrees_left = len(y) - everything[1]
    exact = everything[0] <= TINY * total
    error = everything[0] / degrees_left if degrees_left else float("nan")
    rows = []
    for name, columns in terms.items():
        others = [terms[other] for other in terms if not set(_parts(name)) <= set(_parts(other))]
        without, with_it = _fit(y, others), _fit(y, [*others, columns])
        squares, degrees = without[0] - with_it[0], with_it[1] - without[1]
        if degrees:
            rows.append(_row(name, squares, degrees, total, error, degrees_left, exact))
    if degrees_left == 0:
        return rows
    share = everything[0] / total if total else float("nan")
    return [*rows, {"factor": RESIDUAL, "eta_squared": share, "degrees": degrees_left}]


def _row(
    name: str,
    squares: float,
    degrees: int,
    total: float,
    error: float,
    degrees_left: int,
    exact: bool,
) -> dict[str, Any]:
    # As long to import as all of numpy.
    from scipy.special import fdtrc

    row: dict[str, Any] = {"factor": name, "degrees": degrees}
    if total:
        row["eta_squared"] = squares / total
        row["omega_squared"] = (squares - degrees * error) / (total + error)
    if degrees_left and not exact:
        row["f_value"] = squares / degrees / error
        row["p_value"] = float(fdtrc(degrees, degrees_left, row["f_value"]))
    return row


def _rows(ablation: Ablation, measure: str) -> list[dict[str, Any]]:
    cells = ablation.cells[ablation.cells[measure] > 0]
    axes = ablation.told_apart()
    # by map: astype(str) leaves a missing level undefined, which nothing can be compared with
    factors = {axis: cells[axis].map(str).to_numpy(str) for axis in axes}
    if cells["seed"].nunique() > 1:
        factors["seed"] = cells["seed"].to_numpy(str)
    factors = {name: values for name, values in factors.items() if len(np.unique(values)) > 1}
    if not factors.keys() - {"seed"}:  # one factor alone would have all of the variance
        return []
    found = anova(np.log(cells[measure].to_numpy(float)), factors)
    notes = "; ".join(_notes(ablation, len(cells), [row["factor"] for row in found], factors))
    return [{**row, "num_runs": len(cells), "notes": notes} for row in found]


def _notes(
    ablation: Ablation, num_runs: int, found: list[str], factors: Mapping[str, Any]
) -> Iterable[str]:
    left_out = len(ablation.cells) - num_runs
    if left_out:
        yield f"{left_out} runs without a logarithm left out"
    if len(ablation.missing):
        yield f"{len(ablation.missing)} planned runs missing: the design is not balanced"
    if RESIDUAL not in found:
        yield "as many terms as runs: nothing is left to tell a factor from chance"
    for factor in factors:
        if factor not in found:
            yield f"{factor} cannot be told apart from the others"
    if "seed" not in factors:
        yield "one seed: the residual is not chance between seeds"


def _terms(factors: Mapping[str, NDArray[Any]]) -> dict[str, Values]:
    terms = {name: _indicators(values) for name, values in factors.items()}
    for one, other in combinations([name for name in factors if name != "seed"], 2):
        both = np.char.add(np.char.add(factors[one].astype(str), "\0"), factors[other].astype(str))
        combined = len(np.unique(factors[one])) * len(np.unique(factors[other]))
        if len(np.unique(both)) == combined:
            terms[f"{one} x {other}"] = _indicators(both)
    return terms


def _parts(term: str) -> list[str]:
    return term.split(" x ")


def _indicators(values: NDArray[Any]) -> Values:
    indicators: Values = (values[:, None] == np.unique(values)[None, :]).astype(np.float64)
    return indicators


def _fit(y: Values, columns: list[Values]) -> tuple[float, int]:
    """The residual sum of squares of y on an intercept and those columns, and their rank."""
    design = np.column_stack([np.ones(len(y)), *columns])
    solution, _, rank, _ = np.linalg.lstsq(design, y, rcond=None)
    residual = y - design @ solution
    return float(residual @ residual), int(rank)
