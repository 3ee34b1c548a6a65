"""The importance of factors, against statsmodels and against planted shares."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis import ablations_of, importance_table, load_sweep
from analysis.importance import anova

Plant = Callable[..., list[Any]]
Write = Callable[..., Any]


def design(drop: int = 0) -> pd.DataFrame:
    generator = np.random.default_rng(2)
    rows = [
        {"a": a, "b": b, "seed": seed, "y": x + 2 * y + 0.3 * x * y + generator.normal()}
        for x, a in enumerate("rst")
        for y, b in enumerate("uv")
        for seed in "01234"
    ]
    return pd.DataFrame(rows).drop(index=range(drop))


def shares(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    factors = {name: table[name].to_numpy(str) for name in ("a", "b", "seed")}
    return {row["factor"]: row for row in anova(table["y"].to_numpy(), factors)}


@pytest.mark.filterwarnings("ignore")  # third-party deprecations inside statsmodels and patsy
@pytest.mark.parametrize("drop", [0, 4])
def test_sums_of_squares_are_those_of_statsmodels(drop: int) -> None:
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    table = design(drop)
    oracle = anova_lm(ols("y ~ C(a) * C(b) + C(seed)", table).fit(), typ=2)
    total = float(((table["y"] - table["y"].mean()) ** 2).sum())
    found = shares(table)
    names = {"a": "C(a)", "b": "C(b)", "a x b": "C(a):C(b)", "seed": "C(seed)"}
    for name, theirs in names.items():
        row = found[name]
        assert row["eta_squared"] * total == pytest.approx(oracle.loc[theirs, "sum_sq"], rel=1e-9)
        assert row["f_value"] == pytest.approx(oracle.loc[theirs, "F"], rel=1e-9)
        assert row["p_value"] == pytest.approx(oracle.loc[theirs, "PR(>F)"], rel=1e-6)
        assert row["degrees"] == oracle.loc[theirs, "df"]
    assert found["residual"]["degrees"] == oracle.loc["Residual", "df"]


def test_shares_of_a_balanced_design_add_up_to_one() -> None:
    assert sum(row["eta_squared"] for row in shares(design()).values()) == pytest.approx(1.0)


def test_chance_alone_has_an_omega_squared_of_about_zero() -> None:
    generator = np.random.default_rng(3)
    values = np.repeat(list("abcde"), 40)
    found = anova(generator.standard_normal(200), {"a": values})[0]
    assert found["eta_squared"] > 0.005
    assert abs(found["omega_squared"]) < 0.02
    assert found["p_value"] > 0.05


def test_a_factor_that_goes_with_another_has_no_row_of_its_own() -> None:
    table = design()
    factors = {"a": table["a"].to_numpy(str), "twin": table["a"].str.upper().to_numpy(str)}
    assert [row["factor"] for row in anova(table["y"].to_numpy(), factors)] == ["residual"]


def test_without_a_residual_there_is_no_f() -> None:
    found = anova(np.array([1.0, 2.0, 4.0]), {"a": np.array(["x", "y", "z"])})
    assert [row["factor"] for row in found] == ["a"]
    assert "f_value" not in found[0]
    assert found[0]["eta_squared"] == pytest.approx(1.0)
    assert math.isnan(found[0]["omega_squared"])


def two_axes(plant: Plant) -> list[Any]:
    runs = []
    for rate, factor in ((0.1, 1.0), (0.2, 1.5)):
        for run in plant("grid", 0.5, 0.5, batches=(64, 128), spread=0.01, epochs=3):
            run.axes["learning_rate.base"] = rate
            run.gamma *= factor
            runs.append(run)
    return runs


def test_the_table_holds_every_factor_for_gamma_the_null_and_their_ratio(
    storage: Path, write: Write, plant: Plant
) -> None:
    write(storage, two_axes(plant), axes=("batch_size", "learning_rate.base", "seed"))
    table = importance_table(ablations_of(load_sweep("planted", storage)))
    share = table.set_index(["measure", "factor"])["eta_squared"]
    # log gamma = const + .5 log b + log(1.5) [rate]: shares as (.5 log 2)^2 to (log 1.5)^2
    expected = (0.5 * math.log(2)) ** 2 / ((0.5 * math.log(2)) ** 2 + math.log(1.5) ** 2)
    assert share["gamma", "batch_size"] == pytest.approx(expected, abs=0.01)
    assert share["gamma", "learning_rate.base"] == pytest.approx(1 - expected, abs=0.01)
    assert share["null_gamma", "batch_size"] == pytest.approx(1.0)
    assert share["gamma_over_null", "learning_rate.base"] > 0.99
    assert set(table["factor"]) == {
        "batch_size", "learning_rate.base", "seed", "batch_size x learning_rate.base", "residual",
    }  # fmt: skip
    assert (table["notes"] == "").all()


def test_what_unbalances_a_design_is_said(storage: Path, write: Write, plant: Plant) -> None:
    runs = two_axes(plant)
    runs[0].status = "diverged"
    runs[1].gamma[:] = -1.0
    write(storage, runs, axes=("batch_size", "learning_rate.base", "seed"))
    table = importance_table(ablations_of(load_sweep("planted", storage)))
    notes = table.loc[table["measure"] == "gamma", "notes"].iloc[0]
    assert "1 runs without a logarithm left out" in notes
    assert "1 planned runs missing: the design is not balanced" in notes


def test_one_seed_leaves_no_chance_between_seeds(storage: Path, write: Write, plant: Plant) -> None:
    write(storage, plant("equal-epochs", 0.5, 0.5, seeds=(0,), epochs=3))
    table = importance_table(ablations_of(load_sweep("planted", storage)))
    assert "one seed: the residual is not chance between seeds" in table["notes"].iloc[0]


def test_seeds_alone_are_no_factor_to_be_weighed(storage: Path, write: Write, plant: Plant) -> None:
    write(storage, plant("seeds", 0.5, 0.5, batches=(64,), epochs=3), axes=("seed",))
    assert importance_table(ablations_of(load_sweep("planted", storage))).empty


def test_as_many_terms_as_runs_is_said(storage: Path, write: Write, plant: Plant) -> None:
    runs = plant("equal-epochs", 0.5, 0.5, batches=(64, 128), seeds=(0,), epochs=3)
    write(storage, runs)
    table = importance_table(ablations_of(load_sweep("planted", storage)))
    assert set(table["factor"]) == {"batch_size"}
    assert "as many terms as runs" in table["notes"].iloc[0]
