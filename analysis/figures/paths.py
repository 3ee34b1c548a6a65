"""The path's quantities along training: the figures of P1 that show them."""

from __future__ import annotations

from analysis.figures.compared import by_seed
from analysis.figures.per_epoch import courses, per_epoch

RSI = "restricted secant inequality RSI = <G_t, w_t - w*> / ||w_t - w*||^2"
ERROR_BOUND = "error bound EB = ||G_t|| / ||w_t - w*||"

GAMMA = per_epoch(
    "gamma",
    False,
    "gamma along training: mean over the steps of each epoch (of each fiftieth of the run, "
    "where epochs do not compare), band from minimum to maximum, null model dashed",
    (
        "P1 1-top-left", "P1 1-top-right", "P1 1-bottom-left", "P1 1-bottom-right", "P1 4-right",
        "P1 6", "P1 16", "P1 17", "P1 19", "P1 21", "P1 23",
    ),
)  # fmt: skip
GAMMA_BY_SEED = courses(
    "gamma_by_seed",
    {"gamma": False},
    "gamma along training, one curve per seed",
    ("P1 4-left",),
    by_seed,
    in_report=False,
)
RSI_AND_ERROR_BOUND = courses(
    "rsi_and_error_bound",
    {"rsi": True, "error_bound": True},
    f"{RSI} above, {ERROR_BOUND} below",
    ("P1 7", "P1 8", "P1 9", "P1 11"),
)
RSI_AND_ERROR_BOUND_BY_SEED = courses(
    "rsi_and_error_bound_by_seed",
    {"rsi": True, "error_bound": True},
    f"{RSI} above, {ERROR_BOUND} below, one curve per seed",
    ("P1 10",),
    by_seed,
    in_report=False,
)
GEOMETRY = courses(
    "geometry",
    {"rsi": True, "error_bound": True, "gamma": False},
    f"{RSI}, {ERROR_BOUND} and gamma = RSI / EB, one above the other",
    ("P1 2-left", "P1 2-middle", "P1 2-right", "P1 2"),
    in_report=False,
)
RSI_AND_GAMMA = courses(
    "rsi_and_gamma",
    # Both change sign on these objectives (P1 figure 5), which a logarithmic axis would hide.
    {"rsi": False, "gamma": False},
    f"{RSI} above, gamma below, on linear axes: both may be negative",
    ("P1 5-left", "P1 5-right", "P1 5"),
    x="step",
    in_report=False,
)
DISTANCE = per_epoch(
    "distance",
    True,
    "distance to the final weights",
    ("P1 12", "P1 13", "P1 18", "P1 20", "P1 22", "P1 24"),
)
RSI_ALONE = courses("rsi", {"rsi": True}, RSI, in_report=False)
ERROR_BOUND_ALONE = courses("error_bound", {"error_bound": True}, ERROR_BOUND, in_report=False)
LOCAL_LR = per_epoch(
    "local_lr",
    True,
    "locally optimal step size, <G_t, w_t - w*> / ||G_t||^2",
    ("P1 3-left", "P1 3-right", "P1 3"),
)
