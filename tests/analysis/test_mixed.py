"""The mixed model: equal to the per-seed fits where it must be, and words where there is none."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis import fit_mixed, fit_power_law
from analysis.mixed import METHOD


def crossed(
    exponents: list[float], groups: tuple[str, ...] = ("",), noise: float = 0.0
) -> pd.DataFrame:
    """Cells of y = .3 (1 + group) u_seed b^exponent, u_seed and the noise log-normal."""
    generator = np.random.default_rng(7)
    levels = np.exp(0.3 * generator.standard_normal(len(exponents)))
    rows = [
        {
            "seed": str(seed),
            "group": group,
            "b": level,
            "y": 0.3
            * (1 + index)
            * levels[seed]
            * level**exponent
            * np.exp(noise * generator.standard_normal()),
        }
        for seed, exponent in enumerate(exponents)
        for index, group in enumerate(groups)
        for level in (16, 32, 64, 128)
    ]
    return pd.DataFrame(rows)


SPREAD = [0.40, 0.52, 0.47, 0.61, 0.35, 0.55]


def test_in_a_balanced_design_of_one_group_it_is_the_interval_of_the_per_seed_exponents() -> None:
    # With a random intercept and exponent, the estimate is the mean of the per-seed slopes and its
    # variance their sample variance over the number of seeds (Laird and Ware 1982).
    cells = crossed(SPREAD, noise=0.02)
    mixed, law = fit_mixed(cells, "b", "y"), fit_power_law(cells, "b", "y")
    assert mixed.exponent.mean == pytest.approx(law.exponent, abs=1e-6)
    assert mixed.exponent.bounds == pytest.approx(law.bounds, abs=1e-3)
    assert mixed.exponent.method == METHOD


def test_planted_spreads_are_recovered() -> None:
    exponents = list(0.5 + 0.1 * np.sqrt(3) * np.linspace(-1, 1, 60))  # of deviation .1
    found = fit_mixed(crossed(exponents, ("x", "y"), noise=0.05), "b", "y")
    assert found.exponent.mean == pytest.approx(np.mean(exponents), abs=0.01)
    assert found.seed_sd == pytest.approx(0.1, rel=0.25)
    assert found.residual_sd == pytest.approx(0.05, rel=0.15)


def test_groups_share_the_exponent_and_not_the_level() -> None:
    found = fit_mixed(crossed(SPREAD, ("x", "y", "z"), noise=0.01), "b", "y")
    assert found.exponent.mean == pytest.approx(np.mean(SPREAD), abs=0.01)


def test_what_all_seeds_deviate_together_is_noise_and_not_spread() -> None:
    cells = crossed([0.5] * 4)
    cells["y"] *= np.tile(np.exp([0.1, -0.1, -0.1, 0.1]), 4)
    found, law = fit_mixed(cells, "b", "y"), fit_power_law(cells, "b", "y")
    assert found.seed_sd == pytest.approx(0.0, abs=0.01)
    assert found.exponent.mean == pytest.approx(0.5, abs=1e-9)
    assert law.bounds == pytest.approx((0.5, 0.5), abs=1e-9)
    assert found.exponent.bounds != pytest.approx((0.5, 0.5), abs=0.01)


@pytest.mark.parametrize("exponents", [[0.5] * 3, [0.4, 0.5, 0.6]])
def test_exact_laws_have_no_scatter_to_divide_up(exponents: list[float]) -> None:
    found = fit_mixed(crossed(exponents, ("x", "y")), "b", "y")
    assert found.exponent.mean == pytest.approx(0.5, abs=1e-12)
    assert found.exponent.bounds is None
    assert found.notes == ("no scatter within seeds, so no interval",)


def test_two_seeds_are_too_few() -> None:
    found = fit_mixed(crossed([0.4, 0.5]), "b", "y")
    assert found.exponent.mean is None
    assert found.notes == ("2 seeds, a mixed model takes 3",)


def test_a_design_that_is_not_crossed_is_not_fitted() -> None:
    cells = crossed(SPREAD, noise=0.02)
    found = fit_mixed(cells[(cells["seed"] != "2") | (cells["b"] == 16)], "b", "y")
    assert found.exponent.mean is None
    assert found.notes == ("not crossed: seed 2 has 1 of 4 levels",)


def test_one_level_is_named() -> None:
    cells = crossed(SPREAD)
    assert fit_mixed(cells[cells["b"] == 16], "b", "y").notes == ("b has one value",)


def test_runs_without_a_logarithm_are_counted() -> None:
    cells = crossed(SPREAD, ("x", "y"), noise=0.02)
    cells.loc[0, "y"] = -1.0
    cells.loc[9, "y"] = np.nan
    found = fit_mixed(cells, "b", "y")
    assert found.notes[0] == "2 runs without a logarithm left out"
    assert found.exponent.mean == pytest.approx(np.mean(SPREAD), abs=0.02)
