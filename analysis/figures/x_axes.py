"""What curves can be drawn over: steps, epochs, share of the run, path length, loss level."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from analysis.cells import Ablation
from analysis.figures.style import plain_ticks
from analysis.fits import Values
from analysis.lengths import run_lengths
from analysis.reductions import part_means, values_of
from analysis.runs import Sweep
from trainables.store import UserError


@dataclass(frozen=True)
class XAxis:
    """One x-axis: its label, and the steps column that it is made of (None: the step's number)."""

    label: str
    column: str | None = None
    falls: bool = False
    """True if the values fall along training: the axis is logarithmic, from large to small."""


X_AXES = {
    "step": XAxis("step (from 0)"),
    "epoch": XAxis("epoch (from 0)"),
    "fraction": XAxis("share of the run's T steps"),
    "path_length": XAxis("path length, sum of ||w_{s+1} - w_s||", "update_norm"),
    "loss": XAxis("lowest training loss so far (mean of minibatches)", "loss", falls=True),
}
"""By the name that a user types."""


def check_x_axis(name: str) -> str:
    """The name itself.

    Raises:
        UserError: no such x-axis.
    """
    if name not in X_AXES:
        raise UserError(f"no x-axis '{name}'; there are: {', '.join(X_AXES)}")
    return name


def placed(sweep: Sweep, ablation: Ablation, parts: pd.DataFrame, name: str) -> pd.DataFrame:
    """Parts of runs (run_id, part, x the middle step) with x on that axis.

    Parts of runs that do not have the axis's column are left out.
    """
    if parts.empty:
        return parts
    column = X_AXES[check_x_axis(name)].column
    if column is not None:
        places = _measured(sweep, ablation, name, column)
        return parts.drop(columns="x").merge(places, on=["run_id", "part"])
    if name == "step":
        return parts
    lengths = run_lengths(ablation.cells)
    middles = parts[["run_id", "x"]].itertuples(index=False, name=None)
    x = [
        float(lengths[run].place(x)) if name == "epoch" else x / lengths[run].num_steps
        for run, x in middles
    ]
    return parts.assign(x=x)


def dress(axes: Axes, name: str) -> None:
    """Whole numbers under epochs; a logarithmic axis from large to small where values fall."""
    if name == "epoch":
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if X_AXES[name].falls:
        axes.set_xscale("log")
        plain_ticks(axes.xaxis, *sorted(axes.get_xlim()))
        axes.invert_xaxis()


def _measured(sweep: Sweep, ablation: Ablation, name: str, column: str) -> pd.DataFrame:
    lengths = run_lengths(ablation.cells)

    def reduce(run_id: str, steps: pd.DataFrame) -> pd.DataFrame:
        step, distance = steps["step"].to_numpy(), values_of(steps, "distance")
        kept = ablation.exclusion.kept_of_run(step, distance, lengths[run_id])
        values = values_of(steps, column)
        values = _travelled(values) if name == "path_length" else values
        means = part_means(step[kept], {"place": values[kept]}, lengths[run_id].num_steps)
        found = means[["part", "place_mean"]].rename(columns={"place_mean": "x"})
        if name == "loss":
            found["x"] = found["x"].cummin()
        return found.dropna().assign(run_id=run_id)

    found = sweep.map_steps(reduce, [column, "distance"], list(lengths))
    return pd.concat(found.values()) if found else pd.DataFrame(columns=["run_id", "part", "x"])


def _travelled(norms: Values) -> Values:
    """sum_{s < t} of the norms: the way from w_0 to w_t."""
    return np.cumsum(norms) - norms
