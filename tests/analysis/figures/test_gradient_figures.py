"""P2's figures from planted correlations: what each table holds, and that each can be drawn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis import load_sweep
from analysis.cells import ablations_of
from analysis.figures import trajectories
from analysis.figures.both_views import BOTH_VIEWS
from analysis.figures.contract import FigureKind, save_figure
from analysis.figures.correlation_batch_size import CORRELATION_BATCH_SIZE
from analysis.figures.correlation_schedule import CORRELATION_SCHEDULE
from analysis.figures.correlation_windows import CORRELATION_WINDOWS
from analysis.figures.registry import FIGURES
from analysis.figures.schedules import SCHEDULES
from analysis.figures.sign_shifts import SIGN_SHIFTS
from trainables.store import Store, write_table

KINDS = [
    CORRELATION_WINDOWS,
    CORRELATION_SCHEDULE,
    SIGN_SHIFTS,
    CORRELATION_BATCH_SIZE,
    SCHEDULES,
    BOTH_VIEWS,
]
T, LAGS = 12, 5
RHO = -0.9
"""Planted: mu(j, k) = RHO^abs(j - k), but 0 between the pairs of the window that begins at 3."""


def lagged(num_steps: int) -> np.ndarray:
    step, lag = np.arange(num_steps)[:, None], np.arange(LAGS)
    values = np.where(step >= lag, RHO**lag, np.nan)
    values[4:8, 1:] = np.where(np.arange(4, 8)[:, None] - lag[1:] >= 3, -1.0, values[4:8, 1:])
    return values


def probe_table(run_id: str, name: str, values: np.ndarray, first_lag: int) -> pd.DataFrame:
    steps, lags = values.shape
    return pd.DataFrame(
        {
            "run_id": run_id,
            "step": np.repeat(np.arange(steps), lags),
            "label": np.tile([str(first_lag + lag) for lag in range(lags)], steps),
            name: values.ravel(),
        }
    )


def add_correlations(store: Store, run_id: str, rate: Callable[[int], float] | None = None) -> None:
    """What P2's probes would have left in a planted run's folder."""
    folder = store.run(run_id).path
    steps = pd.read_parquet(folder / "steps.parquet")
    mu = lagged(len(steps))
    mean = pd.Series(mu[:, 1]).rolling(LAGS - 1).mean().shift(1 - LAGS)
    rates = steps["step"].map(rate) if rate else steps["learning_rate"]
    steps = steps.assign(mean_correlation=mean, learning_rate=rates)
    write_table(folder / "steps.parquet", steps)
    write_table(folder / "correlation.parquet", probe_table(run_id, "correlation", mu, first_lag=0))
    shift = 100 * np.arccos(mu[:, 1:]) / np.pi + 2
    table = probe_table(run_id, "sign_shift", shift, first_lag=1)
    write_table(
        folder / "sign_shift.parquet", table.assign(sign_shift_nonzero=table["sign_shift"] + 1)
    )
    sharpness = {"run_id": run_id, "step": [0, 5], "sharpness": [3.0, 21.0]}
    write_table(
        folder / "sharpness.parquet", pd.DataFrame({**sharpness, "stability_limit": [20.0, 20.0]})
    )


@pytest.fixture
def sweep_of(
    storage: Path, write: Callable[..., Store], planted_run: Any
) -> Callable[..., tuple[Store, Any]]:
    """A sweep over one axis of two levels and two seeds, and what to load it with."""

    def make(
        axis: str, levels: tuple[Any, Any], num_steps: int = T, **options: Any
    ) -> tuple[Store, Callable[[], Any]]:
        runs = [
            planted_run(
                axes={axis: level, "seed": seed},
                ablations=["main"],
                num_steps=num_steps,
                steps_per_epoch=1,
                gamma=np.full(num_steps, 0.3),
                null=np.full(num_steps, 0.1),
                config={"seed": seed},
                metrics={"last_validation_accuracy": 0.5 + seed / 10},
            )
            for level in levels
            for seed in (0, 1)
        ]
        store = write(storage, runs, axes=(axis, "seed"), **options)
        return store, lambda: load_sweep("planted", storage)

    return make


def table_of(kind: FigureKind, sweep: Any) -> pd.DataFrame:
    return kind.table(sweep, ablations_of(sweep))


def matrix(rows: pd.DataFrame) -> np.ndarray:
    return rows.pivot(index="row", columns="column", values="value").to_numpy()


def test_every_kind_is_registered_and_most_name_their_figures() -> None:
    assert {kind.name for kind in KINDS} <= set(FIGURES)
    named = {number for kind in KINDS for number in kind.paper}
    assert named == {*(f"P2 {number}" for number in range(1, 11)), "P2 Table 1"}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_sweep_without_what_it_shows_gives_no_figure(
    kind: FigureKind, sweep_of: Callable[..., Any], tmp_path: Path
) -> None:
    sweep = sweep_of("learning_rate", (0.1, 0.01))[1]()
    assert table_of(kind, sweep).empty
    assert save_figure(kind, sweep, ablations_of(sweep), tmp_path) is None


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_kind_is_saved_as_png_svg_and_csv(
    kind: FigureKind, sweep_of: Callable[..., Any], tmp_path: Path
) -> None:
    by_batch = kind is CORRELATION_BATCH_SIZE
    axis, levels = ("batch_size", (64, 128)) if by_batch else ("schedule.name", ("gawu", "wu"))
    store, load = sweep_of(axis, levels)
    for number in range(4):
        add_correlations(store, f"r{number:03d}", rate=lambda step: 0.1 / (1 + step))
    sweep = load()
    saved = save_figure(kind, sweep, ablations_of(sweep), tmp_path)
    assert saved is not None
    assert saved.png.read_bytes().startswith(b"\x89PNG")
    assert "<svg" in saved.svg.read_text()
    assert len(pd.read_csv(saved.csv)) == len(table_of(kind, sweep)) > 0


def test_windows_are_those_of_the_epochs_asked_for(sweep_of: Callable[..., Any]) -> None:
    store, load = sweep_of("learning_rate", (0.1, 0.01), analysis={"matrix_epochs": [1, 3, 9]})
    for number in range(4):
        add_correlations(store, f"r{number:03d}")
    table = table_of(CORRELATION_WINDOWS, load())
    assert list(dict.fromkeys(table["run_id"])) == ["r000", "r002"], "the first seed of each rate"
    rows = table[(table["part"] == "matrix") & (table["run_id"] == "r000")]
    assert sorted(set(rows["epoch"])) == [1, 3], "the window that begins at 9 is not whole"
    places = np.arange(LAGS)
    expected = np.full((LAGS, LAGS), -1.0)
    np.fill_diagonal(expected, 1.0)
    np.testing.assert_array_equal(matrix(rows[rows["epoch"] == 3]), expected)
    first = matrix(rows[rows["epoch"] == 1])
    assert first[0, 1] == first[1, 2] == RHO
    assert first[0, 3] == RHO ** (places[3] - places[0])
    np.testing.assert_array_equal(first, first.T)
    curves = table[(table["run_id"] == "r000") & (table["part"] == "mean_correlation")]
    assert curves["epoch"].tolist() == list(range(T - LAGS + 1))
    assert curves["value"].iloc[3] == pytest.approx(-1.0)


def test_windows_that_nobody_asked_for_are_the_first_the_lowest_and_the_last(
    sweep_of: Callable[..., Any],
) -> None:
    store, load = sweep_of("learning_rate", (0.1, 0.01))
    add_correlations(store, "r000")
    table = table_of(CORRELATION_WINDOWS, load())
    assert set(table.loc[table["part"] == "matrix", "epoch"]) == {0, 3, T - LAGS}


def test_sign_shift_stands_beside_what_gaussian_entries_give(sweep_of: Callable[..., Any]) -> None:
    store, load = sweep_of("learning_rate", (0.1, 0.01), analysis={"matrix_epochs": [0]})
    add_correlations(store, "r000")
    table = table_of(SIGN_SHIFTS, load())
    found = {name: matrix(rows) for name, rows in table.groupby("quantity")}
    assert found["correlation"][0, 1] == RHO
    assert found["gaussian"][0, 1] == pytest.approx(85.643, abs=1e-3)  # arccos(-.9) / pi
    np.testing.assert_allclose(np.diag(found["sign_shift"]), 0)
    np.testing.assert_allclose(np.diag(found["gaussian"]), 0)
    assert found["sign_shift"][2, 1] == pytest.approx(87.643, abs=1e-3)
    assert found["sign_shift_nonzero"][2, 1] == pytest.approx(88.643, abs=1e-3)


def test_a_schedule_is_drawn_over_the_correlation_only_where_a_rate_changes(
    sweep_of: Callable[..., Any],
) -> None:
    store, load = sweep_of("schedule.name", ("constant", "warmup_cosine"))
    for name in ("r000", "r002"):
        add_correlations(store, name)
    assert table_of(CORRELATION_SCHEDULE, load()).empty
    add_correlations(store, "r002", rate=lambda step: 0.01 * step)
    table = table_of(CORRELATION_SCHEDULE, load())
    warm = table[table["title"] == "schedule warmup_cosine"]
    assert warm["learning_rate"].iloc[5] == pytest.approx(0.05)
    assert set(table["title"]) == {"schedule constant", "schedule warmup_cosine"}


def test_batch_sizes_are_overlaid_where_they_are_compared(sweep_of: Callable[..., Any]) -> None:
    store, load = sweep_of("batch_size", (64, 128))
    for number in range(4):
        add_correlations(store, f"r{number:03d}")
    folder = store.run("r000").path
    epochs = pd.read_parquet(folder / "epochs.parquet")
    assert "mean_correlation_mean" not in epochs
    for number in range(4):
        folder = store.run(f"r{number:03d}").path
        values = {f"mean_correlation_{what}": -0.5 for what in ("mean", "min", "max")}
        write_table(folder / "epochs.parquet", epochs.assign(run_id=f"r{number:03d}", **values))
    table = table_of(CORRELATION_BATCH_SIZE, load())
    assert set(table["level"]) == {64, 128}
    assert set(table["mean"]) == {-0.5}


def test_schedules_show_where_the_warm_up_ended_and_every_seeds_accuracy(
    sweep_of: Callable[..., Any],
) -> None:
    _, load = sweep_of("schedule.name", ("gawu", "wu"))
    sweep = load()
    sweep.runs["schedule_change_step"] = [3.0, 4.0, np.nan, np.nan]
    sweep.runs["schedule_peak_learning_rate"] = [0.5, 0.6, np.nan, np.nan]
    table = table_of(SCHEDULES, sweep)
    change = table[table["part"] == "change"]
    assert change[["title", "x", "value"]].to_numpy().tolist() == [["schedule gawu", 3.0, 0.5]]
    accuracy = table[table["part"] == "accuracy"].groupby("title")["value"].apply(list)
    assert accuracy.to_dict() == {"schedule gawu": [0.5, 0.6], "schedule wu": [0.5, 0.6]}


def test_both_views_hold_gamma_its_null_the_correlation_and_the_sharpness(
    sweep_of: Callable[..., Any],
) -> None:
    store, load = sweep_of("learning_rate", (0.1, 0.01))
    add_correlations(store, "r000")
    table = table_of(BOTH_VIEWS, load())
    assert set(table["run_id"]) == {"r000"}
    values = {name: rows["value"].tolist() for name, rows in table.groupby("quantity")}
    assert set(values["gamma"]) == {0.3}
    assert set(values["null_gamma"]) == {0.1}
    assert (values["sharpness"], values["stability_limit"]) == ([3.0, 21.0], [20.0, 20.0])
    assert table.loc[table["quantity"] == "sharpness", "x"].tolist() == [0, 5]


def test_a_long_run_is_drawn_by_the_means_of_its_parts(
    sweep_of: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trajectories, "MAX_POINTS", 6)
    store, load = sweep_of("learning_rate", (0.1, 0.01), num_steps=12)
    add_correlations(store, "r000")
    table = table_of(BOTH_VIEWS, load())
    gamma = table[table["quantity"] == "gamma"]
    assert len(gamma) == 6
    assert gamma["x"].tolist()[:2] == [0.5, 2.5]
