"""One exponent over all groups of a crossed design: a mixed model with the seeds as random."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.cells import MEASURES, THREE_TIMES, Ablation
from analysis.fits import Interval, Values, student_quantile
from analysis.trends import numeric_axes

MIN_SEEDS = 3
"""Fewer seeds do not tell a variance between seeds from noise; ours."""
TINY = 1e-10
"""A scatter of log y below this is rounding: there is no variance to divide up; ours."""
METHOD = "mixed model, intercept and exponent random over seeds; Student t"
MIXED_COLUMNS = (
    "ablation", "axis", "measure", "quantity", "exponent", "low", "high", "seed_sd",
    "residual_sd", "num_seeds", "num_runs", "method", "notes",
)  # fmt: skip


@dataclass(frozen=True)
class MixedModel:
    """log y = a log x + c_group + u_seed + v_seed log x + noise, u, v and noise normal.

    `exponent` is a; `seed_sd` the standard deviation of v, that of the exponent from seed to seed;
    `residual_sd` that of the noise; both None without a fit. `notes` says in words what was left
    out, or why there is no fit.
    """

    exponent: Interval
    seed_sd: float | None
    residual_sd: float | None
    notes: tuple[str, ...]


def fit_mixed(cells: pd.DataFrame, x: str, y: str) -> MixedModel:
    """Restricted maximum likelihood; `cells` has x, y, group and seed.

    The interval is Student's t with one degree of freedom less than there are seeds, since the
    normal one of the fit is too narrow for few; in a balanced design of one group it is that of
    the per-seed exponents. What all seeds deviate from the law together counts as noise, and makes
    it wider than that.
    """
    usable = cells[(cells[x] > 0) & (cells[y] > 0)]
    left_out = len(cells) - len(usable)
    notes = (f"{left_out} runs without a logarithm left out",) if left_out else ()
    reason = _why_not(usable, x)
    if reason:
        undefined = Interval(None, None, None, usable["seed"].nunique(), "no mixed model")
        return MixedModel(undefined, None, None, (*notes, reason))
    return _fitted(usable, x, y, notes)


def mixed_table(ablations: Iterable[Ablation]) -> pd.DataFrame:
    """The mixed model's exponent of gamma, its null and their ratio along every numeric axis.

    Columns: ablation, axis, measure, quantity, exponent, low, high, seed_sd, residual_sd,
    num_seeds, num_runs, method, notes.
    """
    rows = [
        _row(ablation, axis, measure)
        for ablation in ablations
        for axis in numeric_axes(ablation)
        for measure in THREE_TIMES
        if ablation.cells[measure].notna().any()
    ]
    numbers = dict.fromkeys(("exponent", "low", "high", "seed_sd", "residual_sd"), float)
    return pd.DataFrame(rows, columns=list(MIXED_COLUMNS)).astype(numbers)


def _row(ablation: Ablation, axis: str, measure: str) -> dict[str, Any]:
    cells = ablation.along(axis)
    found = fit_mixed(cells, axis, measure)
    missing = f"{len(ablation.missing)} planned runs missing" if len(ablation.missing) else ""
    return {
        "ablation": ablation.label,
        "axis": axis,
        "measure": measure,
        "quantity": MEASURES[measure],
        "exponent": found.exponent.mean,
        "low": found.exponent.low,
        "high": found.exponent.high,
        "seed_sd": found.seed_sd,
        "residual_sd": found.residual_sd,
        "num_seeds": found.exponent.num_seeds,
        "num_runs": len(cells),
        "method": found.exponent.method,
        "notes": "; ".join(text for text in (*found.notes, missing) if text),
    }


def _why_not(cells: pd.DataFrame, x: str) -> str:
    seeds = cells["seed"].nunique()
    levels = cells.groupby("seed")[x].nunique()
    if seeds < MIN_SEEDS:
        return f"{seeds} seeds, a mixed model takes {MIN_SEEDS}"
    if cells[x].nunique() < 2:
        return f"{x} has one value"
    if (levels < cells[x].nunique()).any():
        count = cells[x].nunique()
        return f"not crossed: seed {levels.idxmin()} has {levels.min()} of {count} levels"
    return ""


def _fitted(cells: pd.DataFrame, x: str, y: str, notes: tuple[str, ...]) -> MixedModel:
    # A second of imports.
    from statsmodels.regression.mixed_linear_model import MixedLM
    from statsmodels.tools.sm_exceptions import ConvergenceWarning

    log_x, log_y = np.log(cells[x].to_numpy(float)), np.log(cells[y].to_numpy(float))
    groups = pd.get_dummies(cells["group"]).to_numpy(float)
    design = np.column_stack([log_x - log_x.mean(), groups])
    seeds = cells["seed"].to_numpy(str)
    count = len(np.unique(seeds))
    exact = _without_noise(cells["seed"], design, log_y)
    if exact is not None:
        point = Interval(exact, None, None, count, METHOD)
        return MixedModel(point, None, 0.0, (*notes, "no scatter within seeds, so no interval"))
    random = np.column_stack([np.ones(len(cells)), design[:, 0]])
    with warnings.catch_warnings():
        # At the edge of the parameters, a variance of zero, the estimates stand: seed_sd shows it.
        warnings.simplefilter("ignore", ConvergenceWarning)
        # Powell's needs no gradient, and converges where the default gives up before the edge.
        try:
            found = MixedLM(log_y, design, seeds, random).fit(reml=True, method="powell")
        except np.linalg.LinAlgError:
            undefined = Interval(None, None, None, count, "no mixed model")
            return MixedModel(undefined, None, None, (*notes, "too little scatter for a fit"))
    half = student_quantile(count - 1) * float(found.bse[0])
    mean = float(found.params[0])
    known = bool(found.converged) and math.isfinite(half)
    return MixedModel(
        Interval(
            mean, mean - half if known else None, mean + half if known else None, count, METHOD
        ),
        math.sqrt(float(found.cov_re[1, 1])),
        math.sqrt(float(found.scale)),
        notes if known else (*notes, "the fit did not converge, so no interval"),
    )


def _without_noise(seeds: pd.Series[str], design: Values, log_y: Values) -> float | None:
    """The mean exponent if a law of its own per seed leaves no residual, else None."""
    own = pd.get_dummies(seeds).to_numpy(float)
    fixed = np.column_stack([design, own, own * design[:, :1]])
    solution, *_ = np.linalg.lstsq(fixed, log_y, rcond=None)
    if float(np.abs(log_y - fixed @ solution).max()) > TINY:
        return None
    return float(solution[0] + solution[-own.shape[1] :].mean())
