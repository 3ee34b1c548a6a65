"""The distance that gamma and the rate mu / L predict, against the one observed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from analysis.cells import Ablation, ordered, short_name
from analysis.exclusion import run_lengths
from analysis.figures.contract import FigureKind
from analysis.figures.style import (
    NULL_GREY,
    grid,
    level_colours,
    level_text,
    log_axis,
    name_axes,
)
from analysis.figures.x_axes import X_AXES
from analysis.fits import Values
from analysis.reductions import part_means, values_of
from analysis.runs import Sweep

STEPS = ("distance", "gamma", "rsi", "error_bound", "null_distance")
SHARES = ("observed", "contraction", "rate", "null")
LINES: dict[str, Any] = {"observed": "-", "contraction": "--", "rate": ":"}
NAMES = {
    "observed": "observed",
    "contraction": "product of sqrt(1 - gamma^2)",
    "rate": "(1 - mu^2 / L^2)^(t/2)",
}
LEGEND_COLUMNS = 3


def predicted_distance(sweep: Sweep, ablations: Sequence[Ablation]) -> pd.DataFrame:
    """One row per ablation, group, level and kept fiftieth of the run, over the level's seeds.

    Columns: ablation, group, level, axis, part, x (share of the run), and means over seeds of
    observed = d_t / d_0, d_t = ‖w_t - w*‖;
    contraction = prod_{s<t} sqrt(1 - gamma_s^2), the distance left had every step been of the
    locally optimal length (P1 eq. 5-6);
    rate = (1 - mu^2 / L^2)^(t/2), mu = min RSI and L = max EB over the kept steps (P1 eq. 7);
    missing where mu <= 0, as the bound then says nothing;
    null = d_t / d_0 of the null model. And num_runs, num_bounded (runs with mu > 0).
    """
    tables = [_rows(sweep, ablation) for ablation in ablations if not ablation.cells.empty]
    tables = [table for table in tables if not table.empty]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def shares(steps: pd.DataFrame, kept: NDArray[np.bool_]) -> dict[str, Values]:
    """The four shares of d_0 at every step of one run; `kept` says which steps mu and L are of."""
    columns = {name: values_of(steps, name) for name in STEPS}
    gamma, count = columns["gamma"], np.arange(len(steps))
    # An undefined gamma contracts nothing; -inf, at gamma = 1, is a distance of zero.
    with np.errstate(divide="ignore"):
        logs = 0.5 * np.log1p(-(np.nan_to_num(gamma) ** 2).clip(max=1.0))
    before = np.concatenate([[0.0], np.cumsum(logs)[:-1]])
    rate = np.full(len(steps), np.nan)
    inside = kept & ~np.isnan(columns["rsi"])
    if inside.any() and columns["rsi"][inside].min() > 0:
        ratio = columns["rsi"][inside].min() / columns["error_bound"][inside].max()
        rate = (1 - ratio**2) ** (count / 2)
    return {
        "observed": columns["distance"] / columns["distance"][0],
        "contraction": np.exp(before),
        "rate": rate,
        "null": columns["null_distance"] / columns["null_distance"][0],
    }


def draw_predicted(table: pd.DataFrame) -> Figure:
    """Per ablation and group: observed, and both predictions, of every level; the null in grey."""
    panels = list(table.groupby(["ablation", "group"], sort=False))
    colours = {
        (str(axis), level): colour
        for axis, rows in table.groupby("axis", sort=False)
        for level, colour in level_colours(ordered(rows["level"].tolist())).items()
    }
    rows_of_legend = -(-(len(colours) + len(LINES) + 1) // LEGEND_COLUMNS)
    layout = grid(len(panels), rows_of_legend)
    for axes, ((ablation, group), own) in zip(layout.panels, panels, strict=True):
        for level, rows in own.groupby("level", sort=False, dropna=False):
            _lines(axes, rows.sort_values("part"), colours[str(rows["axis"].iloc[0]), level])
        title = ", ".join(text for text in (str(ablation), str(group)) if text)
        name_axes(axes, title, X_AXES["fraction"].label, "||w_t - w*|| / ||w_0 - w*||")
        log_axis(axes)
        first = own.drop_duplicates("level")
        unbounded = int((first["num_runs"] - first["num_bounded"]).sum())
        if unbounded:
            note = f"mu <= 0 in {unbounded} runs: no rate"
            axes.text(0.98, 1.02, note, transform=axes.transAxes, ha="right", va="bottom")
    layout.legend(_handles(colours), LEGEND_COLUMNS)
    return layout.figure


PREDICTED = FigureKind(
    name="predicted_distance",
    meaning="distance to w* as a share of the first: observed, as the product of sqrt(1 - gamma^2) "
    "predicts for steps of the locally optimal length, as the rate mu / L bounds it, and the null "
    "model's in grey",
    table=predicted_distance,
    draw=draw_predicted,
)


def _rows(sweep: Sweep, ablation: Ablation) -> pd.DataFrame:
    lengths = run_lengths(ablation.cells)

    def reduce(run_id: str, steps: pd.DataFrame) -> pd.DataFrame:
        num_steps, steps_per_epoch = lengths[run_id]
        step, distance = steps["step"].to_numpy(), values_of(steps, "distance")
        kept = ablation.exclusion.kept_of_run(step, distance, num_steps, steps_per_epoch)
        found = {name: values[kept] for name, values in shares(steps, kept).items()}
        parts = part_means(step[kept], found, num_steps)
        return parts.assign(run_id=run_id, x=parts["x"] / num_steps)

    found = sweep.map_steps(reduce, STEPS, list(lengths))
    if not found:
        return pd.DataFrame()
    parts = pd.concat(list(found.values())).rename(columns={f"{n}_mean": n for n in SHARES})
    rows = ablation.cells[["run_id", "level", "group"]].merge(parts, on="run_id")
    rows = rows.dropna(subset=["observed"])
    table = rows.groupby(["group", "level", "part"], sort=False, dropna=False).agg(
        x=("x", "mean"),
        **{name: (name, "mean") for name in SHARES},
        num_runs=("run_id", "size"),
        num_bounded=("rate", "count"),
    )
    axis = short_name(ablation.compared or "")
    return table.reset_index().assign(ablation=ablation.label, axis=axis)


def _lines(axes: Axes, rows: pd.DataFrame, colour: str) -> None:
    x = rows["x"].to_numpy(float)
    axes.plot(x, rows["null"].to_numpy(float), color=NULL_GREY, linewidth=0.9)
    for name, line in LINES.items():
        axes.plot(x, rows[name].to_numpy(float), line, color=colour)


def _handles(colours: dict[tuple[str, object], str]) -> list[Line2D]:
    levels = [
        Line2D([], [], color=colour, label=f"{axis} {level_text(level)}".strip())
        for (axis, level), colour in colours.items()
    ]
    lines = [Line2D([], [], color="black", linestyle=LINES[n], label=NAMES[n]) for n in LINES]
    return [*levels, *lines, Line2D([], [], color=NULL_GREY, linewidth=0.9, label="null model")]
