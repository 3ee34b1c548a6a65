"""Mean gradient correlation of several batch sizes over the epochs (P2 figure 9)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pandas as pd

from analysis.cells import Ablation
from analysis.figures.contract import FigureKind
from analysis.figures.per_epoch import curve_table, draw_curves
from analysis.runs import Sweep

QUANTITY = "mean_correlation"


def batch_sizes_of(sweep: Sweep, ablations: Sequence[Ablation]) -> pd.DataFrame:
    """`curve_table` of the mean correlation, of the ablations that compare batch sizes."""
    compared = [a for a in ablations if a.compared == "batch_size" and len(a.cells)]
    return curve_table([QUANTITY], sweep, compared)


CORRELATION_BATCH_SIZE = FigureKind(
    name="correlation_batch_size",
    meaning="mean gradient correlation over the window that begins at a step, mean over the steps "
    "of each epoch and over seeds, one curve per batch size, band from minimum to maximum",
    table=batch_sizes_of,
    draw=partial(draw_curves, log_y={QUANTITY: False}),
    paper=("P2 9",),
)
