"""Fits against closed forms; intervals against a text-book table."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from analysis import fit_power_law
from analysis.fits import fit_line, rank_correlation
from analysis.trends import interval_over_seeds
from trainables.store import UserError


def cells(exponents: list[float], levels: tuple[int, ...] = (16, 32, 64)) -> pd.DataFrame:
    rows = [
        {"seed": seed, "b": level, "gamma": 0.3 * level**exponent}
        for seed, exponent in enumerate(exponents)
        for level in levels
    ]
    return pd.DataFrame(rows)


def test_exact_power_law_is_recovered() -> None:
    law = fit_power_law(cells([0.5, 0.5, 0.5]), "b", "gamma")
    assert law.exponent == pytest.approx(0.5, abs=1e-12)
    assert law.prefactor == pytest.approx(0.3, rel=1e-12)
    assert law.bounds == pytest.approx((0.5, 0.5), abs=1e-12)


def test_a_column_that_is_not_there_or_holds_no_numbers_is_named() -> None:
    table = cells([0.5]).assign(optimizer="sgd")
    with pytest.raises(UserError, match="no column 'gama'; there are: seed, b, gamma, optimizer"):
        fit_power_law(table, "b", "gama")
    with pytest.raises(UserError, match=r"'optimizer' holds no numbers; compare\(\)"):
        fit_line(table, "optimizer", "gamma")
    with pytest.raises(UserError, match="no column 'rho'"):
        rank_correlation(table, "b", "rho")


def test_least_squares_matches_numpy_on_noisy_cells() -> None:
    table = cells([0.4])
    table["gamma"] *= np.exp(np.random.default_rng(3).normal(size=len(table)))
    law = fit_power_law(table, "b", "gamma")
    slope, _ = np.polyfit(np.log(table["b"]), np.log(table["gamma"]), 1)
    assert law.exponent == pytest.approx(slope, rel=1e-10)


def test_student_interval_over_three_seeds() -> None:
    # t(.975, 2) = 4.302653 (any table); s = .1, n = 3.
    law = fit_power_law(cells([0.4, 0.5, 0.6]), "b", "gamma")
    half = 4.302653 * 0.1 / math.sqrt(3)
    assert law.bounds == pytest.approx((0.5 - half, 0.5 + half), abs=1e-6)
    assert law.method == "Student t over 3 seeds"
    assert law.per_seed == pytest.approx({"0": 0.4, "1": 0.5, "2": 0.6})


def test_one_seed_has_no_interval_and_says_so() -> None:
    law = fit_power_law(cells([0.5]), "b", "gamma")
    assert law.bounds is None
    assert str(law) == "0.500 (interval undefined with one seed)"


def test_bootstrap_from_ten_seeds_on_and_reproducible() -> None:
    values = list(np.random.default_rng(0).normal(0.5, 0.1, size=12))
    first, second = interval_over_seeds(values), interval_over_seeds(values)
    assert first == second
    assert first.method == "bootstrap over 12 seeds"
    error = np.std(values) / math.sqrt(12)
    assert first.bounds is not None
    low, high = first.bounds
    assert (high - low) / error == pytest.approx(2 * 1.96, rel=0.1)
    assert interval_over_seeds(values[:9]).method == "Student t over 9 seeds"


def test_non_positive_and_undefined_cells_are_left_out_in_words() -> None:
    table = cells([0.5, 0.5])
    table.loc[0, "gamma"] = -0.01
    table.loc[4, "gamma"] = math.nan
    law = fit_power_law(table, "b", "gamma")
    assert law.exponent == pytest.approx(0.5)
    assert "seed 0, b 16: gamma is -0.01, no logarithm" in law.excluded
    assert "seed 1, b 32: gamma is undefined, no logarithm" in law.excluded
    assert "seed 0: only 2 of 3 levels of b" in law.excluded


def test_a_seed_with_one_level_gives_no_exponent() -> None:
    table = cells([0.5, 0.7])
    law = fit_power_law(table[(table["seed"] == 0) | (table["b"] == 16)], "b", "gamma")
    assert law.num_seeds == 1
    assert "seed 1: only 1 of 3 levels of b" in law.excluded


@pytest.mark.parametrize("levels", [(), (16,)])
def test_nothing_to_fit_is_undefined_not_zero(levels: tuple[int, ...]) -> None:
    table = cells([0.5, 0.5], levels).reindex(columns=["seed", "b", "gamma"])
    law = fit_power_law(table, "b", "gamma")
    assert law.exponent is None
    assert law.prefactor is None
    assert str(law) == "undefined"
