"""The registry of figures: one line per figure."""

from __future__ import annotations

from analysis.figures import paths
from analysis.figures.both_views import BOTH_VIEWS
from analysis.figures.contract import FigureKind
from analysis.figures.correlation_batch_size import CORRELATION_BATCH_SIZE
from analysis.figures.correlation_schedule import CORRELATION_SCHEDULE
from analysis.figures.correlation_windows import CORRELATION_WINDOWS
from analysis.figures.level_sets import LEVEL_SETS
from analysis.figures.levels import LEVELS
from analysis.figures.predicted import PREDICTED
from analysis.figures.schedules import SCHEDULES
from analysis.figures.sign_shifts import SIGN_SHIFTS
from analysis.figures.trend import TREND

FIGURES: dict[str, FigureKind] = {
    kind.name: kind
    for kind in (
        paths.GAMMA,
        paths.GAMMA_BY_SEED,
        TREND,
        LEVELS,
        LEVEL_SETS,
        paths.DISTANCE,
        PREDICTED,
        paths.GEOMETRY,
        paths.RSI_AND_ERROR_BOUND,
        paths.RSI_AND_ERROR_BOUND_BY_SEED,
        paths.RSI_AND_GAMMA,
        paths.RSI_ALONE,
        paths.ERROR_BOUND_ALONE,
        paths.LOCAL_LR,
        CORRELATION_WINDOWS,
        CORRELATION_SCHEDULE,
        SIGN_SHIFTS,
        CORRELATION_BATCH_SIZE,
        SCHEDULES,
        BOTH_VIEWS,
    )
}
"""By name, in the order of the report."""
