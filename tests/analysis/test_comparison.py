"""Levels of any axis against each other, and the best setting by validation."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis import load_sweep
from analysis.cells import ablations_of
from analysis.claims.axes import judge_axes
from analysis.comparison import level_table, select_best, spread
from analysis.runs import Sweep
from analysis.verdicts import Word

Write = Callable[..., Any]


def optimizer_runs(
    planted_run: type[Any], levels: dict[str, tuple[float, float]], seeds: int = 3
) -> list[Any]:
    """Runs with constant gamma and null per optimizer, 1 % apart from seed to seed."""
    return [
        planted_run(
            axes={"optimizer.name": name, "seed": seed},
            ablations=["optimizers"],
            num_steps=40,
            steps_per_epoch=10,
            gamma=np.full(40, gamma * (1 + seed / 100)),
            null=np.full(40, null),
        )
        for name, (gamma, null) in levels.items()
        for seed in range(seeds)
    ]


def word(storage: Path) -> Word:
    sweep = load_sweep("planted", storage)
    (verdict,) = judge_axes(sweep, ablations_of(sweep))
    assert verdict.claim == "gamma depends on the optimizer"
    return verdict.word


@pytest.mark.parametrize(
    ("adam", "expected"),
    [
        ((0.02, 0.02), Word.BEYOND),
        ((0.02, 0.01), Word.EXPLAINED),
        ((0.04, 0.02), Word.REFUTED),
        ((0.04 * 1.25, 0.02 * 1.25), Word.INCONCLUSIVE),
    ],
)
def test_planted_levels_get_their_word(
    storage: Path,
    write: Write,
    planted_run: type[Any],
    adam: tuple[float, float],
    expected: Word,
) -> None:
    runs = optimizer_runs(planted_run, {"sgd": (0.04, 0.02), "adam": adam})
    write(storage, runs, axes=("optimizer.name", "seed"))
    assert word(storage) is expected


def test_one_seed_is_inconclusive(storage: Path, write: Write, planted_run: type[Any]) -> None:
    levels = {"sgd": (0.04, 0.02), "adam": (0.01, 0.02)}
    write(storage, optimizer_runs(planted_run, levels, seeds=1), axes=("optimizer.name", "seed"))
    assert word(storage) is Word.INCONCLUSIVE


def test_one_level_gives_no_verdict(storage: Path, write: Write, planted_run: type[Any]) -> None:
    runs = optimizer_runs(planted_run, {"sgd": (0.04, 0.02)})
    write(storage, runs, axes=("optimizer.name", "seed"))
    sweep = load_sweep("planted", storage)
    assert judge_axes(sweep, ablations_of(sweep)) == []


def test_level_table_holds_means_and_intervals(
    storage: Path, write: Write, planted_run: type[Any]
) -> None:
    write(
        storage, optimizer_runs(planted_run, {"sgd": (0.04, 0.02)}), axes=("optimizer.name", "seed")
    )
    (ablation,) = ablations_of(load_sweep("planted", storage))
    (row,) = level_table(ablation).to_dict("records")
    assert row["gamma"] == pytest.approx(0.04 * 1.01)
    half = 4.302653 * 0.0004 / math.sqrt(3)
    assert row["gamma_high"] - row["gamma"] == pytest.approx(half, rel=1e-5)
    assert row["gamma_over_null"] == pytest.approx(2.02)


def test_spread_of_two_levels_is_the_two_sample_interval() -> None:
    # Pooled two-sample t interval of log values: s^2 = .01, 4 degrees, t(.975, 4) = 2.776445.
    logs = {"a": [0.9, 1.0, 1.1], "b": [1.9, 2.0, 2.1]}
    rows = [{"level": k, "group": "", "m": math.exp(v)} for k, vs in logs.items() for v in vs]
    found = spread(pd.DataFrame(rows), "m")
    half = 2.776445 * 0.1 * math.sqrt(2 / 3)
    assert (found.largest, found.smallest) == ("b", "a")
    assert math.log(found.ratio or 0) == pytest.approx(1.0)
    assert math.log(found.low or 0) == pytest.approx(1 - half, abs=1e-6)
    assert math.log(found.high or 0) == pytest.approx(1 + half, abs=1e-6)


def test_spread_takes_out_the_groups() -> None:
    rows = [
        {"level": level, "group": group, "m": math.exp(value + shift + 0.001 * seed)}
        for group, shift in (("x", 0.0), ("y", 5.0))
        for level, value in (("a", 0.0), ("b", 1.0))
        for seed in range(2)
    ]
    found = spread(pd.DataFrame(rows), "m")
    assert math.log(found.ratio or 0) == pytest.approx(1.0)
    assert math.log(found.high or 0) < 1.1


def grid_of_settings(planted_run: type[Any]) -> list[Any]:
    runs = []
    accuracy = {("sgd", 0.1): 0.7, ("sgd", 0.01): 0.8, ("adam", 0.1): 0.9, ("adam", 0.01): 0.6}
    for (name, rate), value in accuracy.items():
        for seed in range(2):
            runs.append(
                planted_run(
                    axes={"optimizer.name": name, "learning_rate.base": rate, "seed": seed},
                    ablations=["optimizers"],
                    num_steps=40,
                    steps_per_epoch=10,
                    gamma=np.full(40, 0.04 * (1 + seed / 100)),
                    null=np.full(40, 0.02),
                    metrics={"last_validation_accuracy": value + seed / 100},
                )
            )
    return runs


def read_back(write: Write, storage: Path, runs: list[Any]) -> Sweep:
    write(storage, runs, axes=("optimizer.name", "learning_rate.base", "seed"))
    return load_sweep("planted", storage)


def best_settings(sweep: Sweep) -> pd.DataFrame:
    (ablation,) = ablations_of(sweep)
    return select_best(sweep, ablation, "optimizer.name")


def test_select_best_takes_the_best_mean_validation_per_optimizer(
    storage: Path, write: Write, planted_run: type[Any]
) -> None:
    runs = grid_of_settings(planted_run)
    runs[2].metrics["last_validation_accuracy"] = 0.0
    sweep = read_back(write, storage, runs)
    best = best_settings(sweep).set_index("optimizer.name")
    assert best["learning_rate.base"].to_dict() == {"sgd": 0.1, "adam": 0.1}
    assert best.loc["adam", "last_validation_accuracy"] == pytest.approx(0.905)


def test_the_best_setting_is_that_of_least_perplexity_where_the_task_says_so(
    storage: Path, write: Write, planted_run: type[Any]
) -> None:
    runs = grid_of_settings(planted_run)
    for run in runs:
        run.metrics["last_validation_perplexity"] = 100 * run.metrics["last_validation_accuracy"]
        run.judged_by = {"metric": "validation_perplexity", "mode": "min"}
    sweep = read_back(write, storage, runs)
    best = best_settings(sweep).set_index("optimizer.name")
    assert best["learning_rate.base"].to_dict() == {"sgd": 0.1, "adam": 0.01}
    assert best.loc["adam", "last_validation_perplexity"] == pytest.approx(60.5)
    chosen = judge_axes(sweep, ablations_of(sweep))[-1]
    assert chosen.scope == "optimizers, each optimizer's best setting by validation perplexity"


def test_runs_of_tasks_that_are_judged_otherwise_have_no_common_best(
    storage: Path, write: Write, planted_run: type[Any]
) -> None:
    runs = grid_of_settings(planted_run)
    runs[0].judged_by = {"metric": "validation_loss", "mode": "min"}
    sweep = read_back(write, storage, runs)
    assert best_settings(sweep).empty


def test_best_settings_are_compared_with_each_other(
    storage: Path, write: Write, planted_run: type[Any]
) -> None:
    runs = grid_of_settings(planted_run)
    sweep = read_back(write, storage, runs)
    found = judge_axes(sweep, ablations_of(sweep))
    assert [verdict.claim for verdict in found] == [
        "gamma depends on the optimizer",
        "gamma depends on the learning rate",
        "gamma depends on the optimizer at its best setting",
    ]


def test_without_validation_nothing_is_selected(
    storage: Path, write: Write, planted_run: type[Any]
) -> None:
    runs = grid_of_settings(planted_run)
    for run in runs:
        run.metrics = {}
    sweep = read_back(write, storage, runs)
    assert best_settings(sweep).empty


def test_numeric_levels_are_listed_in_ascending_order(
    storage: Path, write: Write, plant: Callable[..., list[Any]]
) -> None:
    write(storage, plant("equal-epochs", 0.5, 0.5, batches=(128, 32, 64), epochs=3))
    (ablation,) = ablations_of(load_sweep("planted", storage))
    assert level_table(ablation)["level"].tolist() == [32, 64, 128]


def test_levels_without_runs_in_some_groups_are_compared_where_they_meet() -> None:
    """Adam is 1.5 times SGD; SGD diverged at the larger rates, whose gamma is another."""
    noise = np.random.default_rng(0)
    cells = pd.DataFrame(
        [
            {"level": level, "group": f"rate {rate}", "gamma": gamma * (1 + rate)}
            for rate in range(3)
            for level, effect in (("adam", 1.5), ("sgd", 1.0))
            for gamma in effect * (1 + 0.01 * noise.standard_normal(3))
            if rate == 0 or level == "adam"
        ]
    )
    found = spread(cells, "gamma")
    assert found.low is not None
    assert found.high is not None
    assert (found.largest, found.smallest) == ("adam", "sgd")
    assert found.ratio == pytest.approx(1.5, rel=0.02)
    assert found.low < 1.5 < found.high < 1.6
    apart = cells[(cells["level"] == "sgd") | (cells["group"] != "rate 0")]
    assert spread(apart, "gamma").ratio is None
