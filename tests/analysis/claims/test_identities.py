"""The identities on paths whose bounds leave the range of float64."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest

from analysis.cells import ablations_of
from analysis.claims.identities import guaranteed
from analysis.claims.judging import judge_claims, read_run
from analysis.claims.planting import PlantedRun, path_steps, planted_sweep
from analysis.claims.registry import CLAIMS
from analysis.claims.run import ClaimRun
from analysis.exclusion import Exclusion
from analysis.verdicts import Word


def line(rate: float, num_steps: int, *, error_bound: float = 1.0) -> PlantedRun:
    """SGD on w^2 / 2 from w = 1: d_t = |1 - eta|^t, RSI = EB = 1; one error bound is another."""
    distance = np.abs(1 - rate) ** np.arange(num_steps)
    steps = path_steps(
        num_steps, 1.0, distance=distance, gradient_norm=distance, learning_rate=rate
    )
    steps["error_bound"][0] = error_bound
    steps["update_norm"] = rate * distance
    return PlantedRun({"seed": 0}, steps, config={"optimizer": {"name": "sgd"}})


def claim_run(planted: PlantedRun) -> ClaimRun:
    sweep = planted_sweep([planted])
    return read_run(sweep, sweep.plan["runs"][0], Exclusion(), [CLAIMS["C24"]])


def word(planted: PlantedRun) -> Word:
    sweep = planted_sweep([planted])
    (verdict,) = judge_claims(sweep, ablations_of(sweep), [CLAIMS["C24"]])
    return verdict.word


@pytest.mark.parametrize(
    ("rate", "error_bound"),
    [
        (0.1, 1e6),  # the bound grows by eta^2 L^2 = 1e10 a step, to 1e1000
        (0.9, 1.0),  # the bound is d_t^2 itself, and falls to 1e-398
    ],
)
def test_a_bound_outside_the_range_of_float64_is_compared_all_the_same(
    rate: float, error_bound: float
) -> None:
    num_steps = 200 if rate == 0.9 else 100
    run = line(rate, num_steps, error_bound=error_bound)
    with warnings.catch_warnings(action="error"):
        found = guaranteed(claim_run(run))
    expected = (1 - rate) ** 2 / ((1 - rate) ** 2 + rate**2 * (error_bound**2 - 1)) - 1
    assert found["violation"] == pytest.approx(expected, rel=1e-12, abs=1e-9)
    assert found["plain"]
    assert word(line(rate, num_steps)) is Word.PASSES


def test_what_exceeds_a_bound_of_zero_fails() -> None:
    """At eta = mu / L^2 = 1 / L the promise is to be there after one step."""
    run = line(0.5, 20)
    steps = dict(run.steps) | {"learning_rate": np.ones(20)}
    steps["update_norm"] = steps["gradient_norm"].copy()
    spoilt = replace(run, steps=steps)
    assert guaranteed(claim_run(spoilt))["violation"] == math.inf
    assert word(spoilt) is Word.FAILS


def test_a_run_in_which_nothing_is_defined_has_no_violation() -> None:
    run = line(0.5, 20)
    steps = dict(run.steps) | dict.fromkeys(("rsi", "error_bound"), np.full(20, math.nan))
    with warnings.catch_warnings(action="error"):
        assert math.isnan(guaranteed(claim_run(replace(run, steps=steps)))["violation"])
