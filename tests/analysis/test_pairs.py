"""Two exponents at once, and what keeps a seed out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis import ablations_of, fit_plane, load_sweep, pair_table

Plant = Callable[..., list[Any]]
Write = Callable[..., Any]


def plane(exponents: list[tuple[float, float]]) -> pd.DataFrame:
    rows = [
        {"seed": seed, "b": b, "z": z, "y": 0.7 * b**first * z**second}
        for seed, (first, second) in enumerate(exponents)
        for b in (16, 32, 64)
        for z in (0.1, 0.2)
    ]
    return pd.DataFrame(rows)


def test_both_exponents_are_recovered_with_their_intervals() -> None:
    (b, z), explained, left_out = fit_plane(plane([(0.4, -1.1), (0.6, -0.9)]), ("b", "z"), "y")
    assert (b.mean, z.mean) == pytest.approx((0.5, -1.0), abs=1e-12)
    half = 12.7062047 * 0.1414213562 / 2**0.5  # t(.975, 1) s / sqrt(2)
    assert b.bounds == pytest.approx((0.5 - half, 0.5 + half), abs=1e-6)
    assert explained == pytest.approx(1.0)
    assert left_out == ()


def test_what_cannot_be_fitted_is_said() -> None:
    table = plane([(0.5, 1.0), (0.5, 1.0)])
    table.loc[0, "y"] = 0.0
    table = table[(table["seed"] == 0) | (table["z"] == 0.1)]
    (b, _), _, left_out = fit_plane(table, ("b", "z"), "y")
    assert b.num_seeds == 1
    assert left_out == (
        "seed 0: 1 cells without a logarithm",
        "seed 1: too few levels for two exponents",
    )


def grid(plant: Plant, rates: tuple[float, ...]) -> list[Any]:
    runs = []
    for rate in rates:
        for run in plant("grid", 0.5, 0.5, batches=(64, 128), spread=0.01, epochs=3):
            run.axes["learning_rate.base"] = rate
            run.gamma *= rate**0.25
            runs.append(run)
    return runs


def test_crossed_numeric_axes_make_a_pair(storage: Path, write: Write, plant: Plant) -> None:
    write(storage, grid(plant, (0.1, 0.2)), axes=("batch_size", "learning_rate.base", "seed"))
    table = pair_table(ablations_of(load_sweep("planted", storage)))
    exponent = table.set_index(["measure", "axis"])["exponent"]
    assert exponent["gamma", "batch_size"] == pytest.approx(0.5)
    assert exponent["gamma", "learning_rate.base"] == pytest.approx(0.25)
    assert exponent["null_gamma", "learning_rate.base"] == pytest.approx(0.0, abs=1e-12)
    assert set(table["pair"]) == {"batch_size, learning_rate.base"}


def test_an_axis_that_goes_with_the_other_makes_none(
    storage: Path, write: Write, plant: Plant
) -> None:
    runs = plant("grid", 0.5, 0.5, batches=(64, 128), epochs=3)
    for run in runs:
        run.axes["learning_rate.base"] = run.axes["batch_size"] / 1000
    write(storage, runs, axes=("batch_size", "learning_rate.base", "seed"))
    assert pair_table(ablations_of(load_sweep("planted", storage))).empty
