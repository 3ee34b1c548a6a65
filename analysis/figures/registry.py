"""The registry of figures: one line per figure."""

from __future__ import annotations

from analysis.figures.contract import FigureKind
from analysis.figures.level_sets import LEVEL_SETS
from analysis.figures.levels import LEVELS
from analysis.figures.per_epoch import per_epoch
from analysis.figures.trend import TREND

FIGURES: dict[str, FigureKind] = {
    kind.name: kind
    for kind in (
        per_epoch(
            "gamma",
            False,
            "gamma along training: mean over the steps of each epoch (of each fiftieth of the run, "
            "where epochs do not compare), band from minimum to maximum, null model dashed",
        ),
        TREND,
        LEVELS,
        LEVEL_SETS,
        per_epoch("distance", True, "distance to the final weights"),
        per_epoch("rsi", True, "restricted secant inequality, <G_t, w_t - w*> / ||w_t - w*||^2"),
        per_epoch("error_bound", True, "error bound, ||G_t|| / ||w_t - w*||"),
        per_epoch("local_lr", True, "locally optimal step size, <G_t, w_t - w*> / ||G_t||^2"),
    )
}
