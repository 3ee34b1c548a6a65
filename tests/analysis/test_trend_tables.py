"""Trends along any numeric axis, per window, with the words that belong to a number."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis import (
    ablations_of,
    fit_line,
    fit_power_law,
    load_sweep,
    rank_correlation,
    trend_table,
    window_table,
)

Plant = Callable[..., list[Any]]
Write = Callable[..., Any]


def cells(values: dict[str, list[float]], levels: tuple[float, ...] = (1.0, 2.0, 4.0)) -> Any:
    return pd.DataFrame(
        [
            {"seed": seed, "x": x, "y": y}
            for seed, ys in values.items()
            for x, y in zip(levels, ys, strict=True)
        ]
    )


# Fits


def test_a_line_is_recovered_with_an_interval_over_seeds() -> None:
    line = fit_line(cells({"0": [3.0, 5.0, 9.0], "1": [4.0, 7.0, 13.0]}), "x", "y")
    assert line.slope.mean == pytest.approx(2.5)
    assert line.intercept == pytest.approx(1.0)
    half = 12.7062047 * math.sqrt(0.5) / math.sqrt(2)  # t(.975, 1), s of {2, 3}
    assert line.slope.bounds == pytest.approx((2.5 - half, 2.5 + half), abs=1e-6)


def test_a_line_takes_negative_values_and_names_undefined_ones() -> None:
    line = fit_line(cells({"0": [-1.0, -2.0, -4.0], "1": [1.0, math.nan, 4.0]}), "x", "y")
    assert line.excluded == (
        "seed 1, x 2: y is undefined",
        "seed 1: only 2 of 3 levels of x",
    )
    assert line.slope.mean == pytest.approx(0.0)


def test_rank_correlation_is_scipy_s_with_ties() -> None:
    from scipy.stats import spearmanr

    values = {"0": [1.0, 1.0, 4.0], "1": [3.0, 2.0, 7.0]}
    found = rank_correlation(cells(values), "x", "y")
    oracle = [spearmanr((1, 2, 4), ys).statistic for ys in values.values()]
    assert found.rho.mean == pytest.approx(np.mean(oracle))
    assert found.rho.bounds is not None
    assert -1 <= found.rho.bounds[0] <= found.rho.bounds[1] <= 1


def test_a_seed_that_does_not_vary_has_no_rank_correlation() -> None:
    found = rank_correlation(cells({"0": [2.0, 2.0, 2.0]}), "x", "y")
    assert found.rho.mean is None
    assert found.excluded == ("seed 0: y does not vary",)


def test_the_effect_of_a_factor_is_the_power_of_it() -> None:
    law = fit_power_law(cells({"0": [1.0, 2.0, 4.0], "1": [1.0, 4.0, 16.0]}), "x", "y")
    factor = law.factor(4.0)
    assert law.exponent == pytest.approx(1.5)
    assert factor.mean == pytest.approx(8.0)
    assert factor.low == pytest.approx(4.0 ** (law.low or 0.0))
    assert law.r_squared == pytest.approx(1.0)


def test_an_x_of_zero_has_no_logarithm_either() -> None:
    law = fit_power_law(cells({"0": [1.0, 2.0, 4.0]}, (0.0, 2.0, 4.0)), "x", "y")
    assert law.excluded == (
        "seed 0, x 0: y is 1, no logarithm",
        "seed 0: only 2 of 3 levels of x",
    )


# Tables


def deep(planted_run: type[Any], depths: tuple[int, ...], seeds: tuple[int, ...]) -> list[Any]:
    """Runs with gamma ~ depth^.3 in the first half of the run and ~ depth^-.3 in the second."""
    runs = []
    for depth in depths:
        for seed in seeds:
            shape = np.where(np.arange(100) < 50, depth**0.3, depth**-0.3)
            runs.append(
                planted_run(
                    axes={"model.depth": depth, "seed": seed},
                    ablations=["depths"],
                    num_steps=100,
                    steps_per_epoch=10,
                    gamma=0.02 * (1 + seed / 100) * shape,
                    null=np.full(100, 0.01),
                )
            )
    return runs


@pytest.fixture
def depths(planted_run: type[Any]) -> list[Any]:
    return deep(planted_run, (2, 4, 8), (0, 1, 2))


def load(storage: Path, write: Write, runs: list[Any]) -> Any:
    write(storage, runs, axes=("model.depth", "seed"), analysis={"exclude": {}})
    return load_sweep("planted", storage)


def test_windows_show_what_the_mean_over_the_run_hides(
    storage: Path, write: Write, depths: list[Any]
) -> None:
    ablations = ablations_of(load(storage, write, depths))
    table = window_table(ablations).set_index(["window", "measure"])
    for window, exponent in (("0 to 20", 0.3), ("20 to 40", 0.3), ("80 to 100", -0.3)):
        row = table.loc[f"{window} % of the run", "gamma_over_null"]
        assert row["exponent"] == pytest.approx(exponent, abs=1e-9)
        assert row["rank"] == pytest.approx(math.copysign(1.0, exponent))
    assert table.loc[("0 to 20 % of the run", "null_gamma"), "exponent"] == pytest.approx(0.0)


def test_windows_of_epochs_are_read_from_the_epochs_table(
    storage: Path, write: Write, depths: list[Any]
) -> None:
    sweep = load(storage, write, depths)
    table = window_table(ablations_of(sweep), [(0, 5), (5, 10), (20, 30)], sweep.epochs)
    exponent = table.set_index(["window", "measure"])["exponent"]
    assert exponent["epochs 0 to 4", "gamma"] == pytest.approx(0.3)
    assert exponent["epochs 5 to 9", "gamma"] == pytest.approx(-0.3)
    assert "epochs 20 to 29" not in set(table["window"])


def test_any_numeric_axis_has_its_trend_with_effect_and_rank(
    storage: Path, write: Write, depths: list[Any]
) -> None:
    for run in depths:
        run.gamma[:] = 0.02 * run.axes["model.depth"] ** 0.4
    row = trend_table(ablations_of(load(storage, write, depths))).set_index("measure").loc["gamma"]
    assert row["axis"] == "model.depth"
    assert row["exponent"] == pytest.approx(0.4)
    assert row["factor"] == pytest.approx(4**0.4)
    assert row["rank"] == pytest.approx(1.0)
    assert row["slope"] > 0
    assert row["notes"] == ""


def test_an_axis_of_names_has_no_trend(storage: Path, write: Write, depths: list[Any]) -> None:
    for run in depths:
        run.axes["model.depth"] = f"depth {run.axes['model.depth']}"
    assert trend_table(ablations_of(load(storage, write, depths))).empty


def test_missing_runs_and_few_seeds_stand_beside_the_number(
    storage: Path, write: Write, planted_run: type[Any]
) -> None:
    runs = deep(planted_run, (2, 4, 8), (0, 1))
    runs[5].status = "diverged"
    table = trend_table(ablations_of(load(storage, write, runs)))
    assert set(table["notes"]) == {"only 2 seeds; 1 planned runs missing: model depth 8 diverged"}
    assert (table["excluded"] == "seed 1: only 2 of 3 levels of model.depth").all()


def test_one_seed_and_undefined_runs_are_named(
    storage: Path, write: Write, planted_run: type[Any]
) -> None:
    runs = deep(planted_run, (2, 4, 8), (0,))
    runs[1].gamma[:] = np.nan
    table = trend_table(ablations_of(load(storage, write, runs))).set_index("measure")
    assert table.loc["gamma", "notes"] == "one seed: no interval; undefined in 1 of 3 runs"
    assert math.isnan(table.loc["gamma", "low"])
    assert table.loc["null_gamma", "notes"] == "one seed: no interval"


def test_a_level_that_is_lost_whole_is_named(
    storage: Path, write: Write, depths: list[Any]
) -> None:
    for run in depths[:3]:
        run.status = "diverged"
    (ablation,) = ablations_of(load(storage, write, depths))
    assert "model depth 2: none of its 3 runs counts (diverged)" in ablation.notes
