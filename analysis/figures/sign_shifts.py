"""Sign shift of gradient entries beside their correlation and what Gaussian ones give (P2 8)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.cells import Ablation
from analysis.figures.contract import FigureKind
from analysis.figures.heat_map import chosen_starts, draw_matrix, lagged_values, matrix_rows
from analysis.figures.style import grid
from analysis.figures.trajectories import MAX_RUNS, Shown, first_tables, matrix_epochs, stacked
from analysis.runs import Sweep

COLUMNS = ("run_id", "title", "quantity", "epoch", "row", "column", "value")
QUANTITIES = {
    "correlation": "correlation",
    "sign_shift": "sign shift [% of all entries]",
    "sign_shift_nonzero": "sign shift [% of those not 0]",
    "gaussian": "100 arccos(correlation) / pi [%]",
}


def sign_shifts_of(sweep: Sweep, ablations: Sequence[Ablation]) -> pd.DataFrame:
    """Matrices of the first MAX_RUNS trajectories that measured both, one row per entry, COLUMNS.

    The sign shift of a gradient with itself is 0. `epoch` is that at which the window begins.
    """
    found = first_tables(ablations, partial(_matrices, sweep))
    own = [table.assign(run_id=run.run_id, title=run.full_title) for run, table in found]
    return stacked(own, COLUMNS)


def draw_sign_shifts(table: pd.DataFrame) -> Figure:
    """A row of four matrices per trajectory and epoch."""
    windows = list(table.groupby(["run_id", "epoch"], sort=False))
    layout = grid(len(QUANTITIES) * len(windows), len(QUANTITIES))
    panels = iter(layout.panels)
    for (_, epoch), rows in windows:
        for quantity, name in QUANTITIES.items():
            low, high = (-1, 1) if quantity == "correlation" else (0, 100)
            where = (
                f"{rows['title'].iloc[0]}, epoch {epoch:g}: " if quantity == "correlation" else ""
            )
            draw_matrix(next(panels), rows[rows["quantity"] == quantity], where + name, low, high)
    return layout.figure


SIGN_SHIFTS = FigureKind(
    name="sign_shifts",
    meaning="correlations of the gradients of a window, percentage of entries whose sign differs, "
    "of all entries and of those that are not 0, and the percentage that jointly Gaussian entries "
    f"of that correlation would give (first seed of each setting, the first {MAX_RUNS} settings)",
    table=sign_shifts_of,
    draw=draw_sign_shifts,
    paper=("P2 8",),
)


def _matrices(sweep: Sweep, run: Shown) -> pd.DataFrame | None:
    steps, lagged = lagged_values(sweep, run, "correlation", "correlation")
    shift_steps, shifts = lagged_values(sweep, run, "sign_shift", "sign_shift")
    if not len(shifts) or lagged.shape != shifts.shape or (steps != shift_steps).any():
        return None
    nonzero = lagged_values(sweep, run, "sign_shift", "sign_shift_nonzero")[1]
    import torch  # here: it takes seconds, which other figures need not wait for

    from geometry.correlation import gaussian_sign_shift

    starts = chosen_starts(steps, lagged, run, matrix_epochs(sweep, run.ablation))
    gaussian = gaussian_sign_shift(torch.tensor(lagged)).numpy()
    values = {
        "correlation": lagged,
        "sign_shift": _with_itself(shifts),
        "sign_shift_nonzero": _with_itself(nonzero),
        "gaussian": gaussian,
    }
    if not starts:
        return None
    return pd.concat(
        [matrix_rows(matrix, starts, quantity=name) for name, matrix in values.items()],
        ignore_index=True,
    )


def _with_itself(shifts: np.ndarray) -> np.ndarray:
    return np.column_stack([np.zeros(len(shifts)), shifts[:, 1:]])
