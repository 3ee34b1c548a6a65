"""A matrix of a window as an annotated heat map, and where the matrices come from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from analysis.figures.trajectories import Shown
from analysis.runs import Sweep

ENTRY_SIZE = 6.0
"""Points of a heat map's numbers; five abreast fit a panel."""
DARK = 0.6
"""Share of the colour scale's half beyond which numbers are white; ours, read off the print."""


def lagged_values(
    sweep: Sweep, run: Shown, table: str, column: str
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """A probe's values by lag: its measured steps [n] and values [n, h], lag 0 first.

    Lags that the probe does not measure are NaN, larger ones than the window's left out. Empty
    where the run has no such table.
    """
    rows = sweep.source.table(run.run_id, table, ["step", "label", column])
    if rows is None:
        return np.zeros(0, dtype=np.int64), np.zeros((0, 0))
    lags = rows.assign(lag=rows["label"].astype(int))
    wide = lags.pivot(index="step", columns="lag", values=column)
    wide = wide.reindex(columns=range(_window(sweep, run, table)))
    return wide.index.to_numpy(np.int64), wide.to_numpy(np.float64)


def chosen_starts(
    steps: NDArray[np.int64], lagged: NDArray[np.float64], run: Shown, epochs: list[int]
) -> dict[int, int]:
    """Epoch -> row at which its window begins, of the epochs that have a whole window.

    Without `epochs`: the first window, the one of least mean correlation, and the last.
    """
    window = lagged.shape[1]
    last = len(steps) - window
    if window < 2 or last < 0:
        return {}
    if not epochs:
        import torch  # here and below: it takes seconds, which figures without matrices need not

        from geometry.correlation import mean_correlation

        means = mean_correlation(torch.tensor(lagged[:, 1]), window).numpy()[: last + 1]
        lowest = [] if np.isnan(means).all() else [int(np.nanargmin(means))]
        return {int(run.length.epochs_of(steps[row])): row for row in [0, *lowest, last]}
    there = [epoch for epoch in epochs if epoch < run.length.num_epochs]
    rows = {epoch: int(np.searchsorted(steps, run.length.start(epoch))) for epoch in there}
    return {epoch: row for epoch, row in rows.items() if row <= last}


def matrix_rows(lagged: NDArray[np.float64], starts: dict[int, int], **about: str) -> pd.DataFrame:
    """One row per entry of each window's matrix: epoch, row, column, value, and `about`."""
    import torch

    from geometry.correlation import window_matrices

    window = lagged.shape[1]
    matrices = window_matrices(torch.tensor(lagged), list(starts.values()), window).numpy()
    place = np.indices(matrices.shape)
    epochs = np.array(list(starts), dtype=np.int64)
    return pd.DataFrame(
        {
            **about,
            "epoch": epochs[place[0].ravel()],
            "row": place[1].ravel(),
            "column": place[2].ravel(),
            "value": matrices.ravel(),
        }
    )


def draw_matrix(axes: Axes, rows: pd.DataFrame, title: str, low: float, high: float) -> None:
    """Entries in colour between `low` and `high`, and as numbers; undefined ones are empty."""
    matrix = rows.pivot(index="row", columns="column", values="value").to_numpy(float)
    axes.imshow(matrix, cmap="RdBu_r", vmin=low, vmax=high)
    digits = 2 if high <= 1 else 0
    middle, half = (low + high) / 2, (high - low) / 2
    for (a, b), value in np.ndenumerate(matrix):
        if np.isfinite(value):
            colour = "white" if abs(value - middle) > DARK * half else "black"
            words = f"{round(value, digits) + 0.0:.{digits}f}"  # no -0.00
            axes.text(b, a, words, ha="center", va="center", color=colour, fontsize=ENTRY_SIZE)
    axes.set_title(title, loc="left", y=1.02)
    axes.set_xticks(range(len(matrix)))
    axes.set_yticks(range(len(matrix)))
    axes.grid(visible=False)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)


def _window(sweep: Sweep, run: Shown, probe: str) -> int:
    from geometry.probes.correlation import WindowOptions

    config = sweep.manifests[run.run_id]["config"]
    options: dict[str, Any] = next((p for p in config.get("probes", []) if p["name"] == probe), {})
    return int(options.get("window", WindowOptions().window))
