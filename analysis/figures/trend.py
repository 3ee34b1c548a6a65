"""gamma against the batch size on logarithmic axes, its null model, and their ratio."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from analysis.cells import MEASURES, Ablation
from analysis.figures.contract import FigureKind
from analysis.figures.style import CATEGORIES, NULL_GREY, log_axis, name_axes, paired_grid
from analysis.runs import Sweep
from analysis.trends import exponents

DRAWN: dict[str, tuple[str, str, Literal["-", "--"]]] = {
    "gamma": (CATEGORIES[0], "o", "-"),
    "null_gamma": (NULL_GREY, "s", "--"),
    "gamma_over_null": (CATEGORIES[1], "o", "-"),
}
"""Colour, marker and line of each measure."""


def trend_points(sweep: Sweep, ablations: Sequence[Ablation]) -> pd.DataFrame:
    """One row per ablation, group, measure, seed and batch size.

    Columns: ablation, group, measure, seed, level, value (mean over kept steps), then of the fit of
    that ablation, group and measure: exponent, low, high, fitted (prefactor * b^exponent).
    Values that are not positive have no place on a logarithmic axis: the fit names them.
    """
    rows = [
        {
            "ablation": ablation.label,
            "group": group,
            "measure": measure,
            "seed": seed,
            "level": level,
            "value": value,
            "exponent": law.exponent,
            "low": law.low,
            "high": law.high,
            "fitted": _fitted(law.prefactor, law.exponent, level),
        }
        for ablation in ablations
        if ablation.compared == "batch_size"
        for group, cells in ablation.cells.groupby("group", sort=False)
        for measure, law in exponents(cells).items()
        if measure in DRAWN
        for seed, level, value in cells[["seed", "level", measure]].itertuples(index=False)
        if value > 0
    ]
    return (
        pd.DataFrame(rows).astype({"exponent": float, "low": float, "high": float, "fitted": float})
        if rows
        else pd.DataFrame()
    )


def draw_trend(table: pd.DataFrame) -> Figure:
    """Per ablation and group: gamma and its null above, their ratio below."""
    panels = list(table.groupby(["ablation", "group"], sort=False))
    layout, pairs = paired_grid(len(panels))
    for (upper, lower), ((ablation, group), rows) in zip(pairs, panels, strict=True):
        for measure in ("null_gamma", "gamma"):
            _points(upper, rows[rows["measure"] == measure], measure)
        _points(lower, rows[rows["measure"] == "gamma_over_null"], "gamma_over_null")
        lower.axhline(1.0, color=NULL_GREY, linewidth=0.9, linestyle="--")
        title = ", ".join(text for text in (str(ablation), str(group)) if text)
        _label(
            upper, rows, f"{title}: gamma ~ b^{_exponent(rows, 'gamma')}", "mean over kept steps"
        )
        _label(
            lower, rows, f"gamma / null ~ b^{_exponent(rows, 'gamma_over_null')}", "gamma / null"
        )
    layout.legend(_handles())
    return layout.figure


TREND = FigureKind(
    name="gamma_trend",
    meaning="gamma against the batch size, log-log: one point per seed, the fitted power law, the "
    "null model's own trend in grey, and gamma over null below (the null is 1)",
    table=trend_points,
    draw=draw_trend,
)


def _fitted(prefactor: float | None, exponent: float | None, level: float) -> float | None:
    return None if prefactor is None or exponent is None else prefactor * level**exponent


def _points(axes: Axes, rows: pd.DataFrame, measure: str) -> None:
    colour, marker, line = DRAWN[measure]
    axes.plot(
        rows["level"].to_numpy(float),
        rows["value"].to_numpy(float),
        marker,
        color=colour,
        markersize=3.5,
        alpha=0.6,
        markeredgewidth=0,
    )
    fit = rows[["level", "fitted"]].dropna().drop_duplicates().sort_values("level")
    axes.plot(fit["level"].to_numpy(float), fit["fitted"].to_numpy(float), line, color=colour)


def _exponent(rows: pd.DataFrame, measure: str) -> str:
    found = rows[rows["measure"] == measure]
    if found.empty or np.isnan(found["exponent"].iloc[0]):
        return "undefined"
    exponent, low, high = (float(found[name].iloc[0]) for name in ("exponent", "low", "high"))
    interval = "" if np.isnan(low) else f" [{low:.2f}, {high:.2f}]"
    return f"{exponent:.2f}{interval}"


def _label(axes: Axes, rows: pd.DataFrame, title: str, y_name: str) -> None:
    name_axes(axes, title, "batch size b", y_name)
    axes.set_xscale("log", base=2)
    levels = sorted(rows["level"].unique())
    axes.set_xticks(levels, [f"{level:g}" for level in levels])
    axes.xaxis.set_minor_locator(NullLocator())
    log_axis(axes)


def _handles() -> list[Line2D]:
    return [
        Line2D([], [], color=c, marker=m, linestyle=line, markersize=3.5, label=MEASURES[name])
        for name, (c, m, line) in DRAWN.items()
    ]
