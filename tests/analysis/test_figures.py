"""The tables behind the figures, and that every figure can be drawn from them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
import pytest

from analysis import load_sweep
from analysis.cells import ablations_of
from analysis.figures.contract import save_figure
from analysis.figures.registry import FIGURES
from analysis.figures.style import level_colours

Plant = Callable[..., list[Any]]
Write = Callable[..., Any]


def table_of(name: str, storage: Path) -> pd.DataFrame:
    sweep = load_sweep("planted", storage)
    return FIGURES[name].table(sweep, ablations_of(sweep))


@pytest.fixture
def twins(plant: Plant) -> list[Any]:
    options = {"batches": (64, 128), "seeds": (0, 1)}
    return plant("equal-epochs", 0.5, 0.5, epochs=4, **options) + plant(
        "equal-steps", 0.1, 0.0, steps=60, walk=True, **options
    )


@pytest.mark.parametrize("name", [name for name in FIGURES if name != "gamma_levels"])
def test_every_figure_is_saved_as_png_svg_and_csv(
    name: str, storage: Path, write: Write, twins: list[Any], tmp_path: Path
) -> None:
    write(storage, twins)
    sweep = load_sweep("planted", storage)
    before = dict(mpl.rcParams)
    saved = save_figure(FIGURES[name], sweep, ablations_of(sweep), tmp_path)
    assert saved is not None
    assert saved.png.read_bytes().startswith(b"\x89PNG")
    assert "<svg" in saved.svg.read_text()
    assert len(pd.read_csv(saved.csv)) == len(table_of(name, storage))
    assert dict(mpl.rcParams) == before


def test_the_same_table_gives_the_same_bytes(
    storage: Path, write: Write, twins: list[Any], tmp_path: Path
) -> None:
    write(storage, twins)
    sweep = load_sweep("planted", storage)
    first, second = (
        save_figure(FIGURES["gamma"], sweep, ablations_of(sweep), tmp_path / name)
        for name in ("first", "second")
    )
    assert first is not None
    assert second is not None
    assert first.svg.read_bytes() == second.svg.read_bytes()
    assert first.png.read_bytes() == second.png.read_bytes()


def test_gamma_per_epoch_is_the_mean_over_seeds_with_the_whole_range(
    storage: Path, write: Write, twins: list[Any]
) -> None:
    for factor, run in zip((1.0, 3.0), (twins[0], twins[2]), strict=True):
        run.gamma[:] = 0.01 * factor
        run.gamma[1] = 0.04 * factor
    write(storage, twins)
    table = table_of("gamma", storage)
    row = table[(table["ablation"] == "equal-epochs") & (table["level"] == 64)].iloc[0]
    steps = twins[0].steps_per_epoch
    assert row["mean"] == pytest.approx(0.02 * (1 + 3 / steps))
    assert (row["low"], row["high"]) == pytest.approx((0.01, 0.12))
    assert row["null"] == pytest.approx(twins[0].null[0])


def test_excluded_epochs_are_not_drawn(storage: Path, write: Write, twins: list[Any]) -> None:
    write(storage, twins)
    table = table_of("gamma", storage)
    assert table[table["ablation"] == "equal-epochs"]["epoch"].max() == 2


def test_equal_steps_are_drawn_over_steps_and_a_cut_epoch_at_its_own_middle(
    storage: Path, write: Write, twins: list[Any]
) -> None:
    # T = 60: b = 64 has 23 steps an epoch, the last one cut to 14; 15 last steps are left out.
    write(storage, twins, analysis={"exclude": {"last_steps": 0}})
    table = table_of("gamma", storage)
    rows = table[(table["ablation"] == "equal-steps") & (table["level"] == 64)]
    assert rows["x"].tolist() == [11.5, 34.5, 53.0]
    assert set(rows["x_name"]) == {"step"}


def test_trend_points_hold_each_seed_and_its_fit(
    storage: Path, write: Write, twins: list[Any]
) -> None:
    write(storage, twins)
    table = table_of("gamma_trend", storage)
    gamma = table[(table["measure"] == "gamma") & (table["ablation"] == "equal-epochs")]
    assert len(gamma) == 4
    assert gamma["exponent"].unique() == pytest.approx([0.5])
    assert gamma["fitted"].to_numpy() == pytest.approx(gamma["value"].to_numpy())


def test_runs_without_a_column_leave_that_figure_out(
    storage: Path, write: Write, twins: list[Any], tmp_path: Path
) -> None:
    write(storage, twins)
    sweep = load_sweep("planted", storage)
    sweep.epochs = sweep.epochs.drop(columns=["rsi_mean"])
    assert save_figure(FIGURES["rsi"], sweep, ablations_of(sweep), tmp_path) is None


@pytest.mark.parametrize("name", list(FIGURES))
def test_no_finished_run_draws_nothing(
    name: str, storage: Path, write: Write, twins: list[Any], tmp_path: Path
) -> None:
    for run in twins:
        run.status = "not started"
    write(storage, twins)
    sweep = load_sweep("planted", storage)
    assert save_figure(FIGURES[name], sweep, ablations_of(sweep), tmp_path) is None
    assert list(tmp_path.glob("*.png")) == []


def test_other_axes_get_the_level_figure(
    storage: Path, write: Write, plant: Plant, tmp_path: Path
) -> None:
    runs = plant("width", 0.1, 0.0, batches=(64, 128), epochs=3)
    for run in runs:
        run.axes = {"model.width": run.axes["batch_size"] / 64, "seed": run.axes["seed"]}
    write(storage, runs, axes=("model.width", "seed"))
    sweep = load_sweep("planted", storage)
    ablations = ablations_of(sweep)
    assert save_figure(FIGURES["gamma_levels"], sweep, ablations, tmp_path) is not None
    assert save_figure(FIGURES["gamma_trend"], sweep, ablations, tmp_path) is None
    assert table_of("gamma_levels", storage)["level"].tolist() == [1.0, 2.0]


def test_negative_values_on_a_logarithmic_axis_do_not_break_it(
    storage: Path, write: Write, twins: list[Any], tmp_path: Path
) -> None:
    for run in twins:
        run.gamma[:30] = -0.01
    write(storage, twins)
    sweep = load_sweep("planted", storage)
    saved = save_figure(FIGURES["rsi"], sweep, ablations_of(sweep), tmp_path)
    assert saved is not None
    assert "not shown" in saved.svg.read_text()


def test_levels_have_different_colours() -> None:
    for levels in ([16, 32, 64], ["sgd", "adam"], [f"setting {i}" for i in range(12)]):
        colours = level_colours(levels)
        assert len({tuple(mpl.colors.to_rgba(c)) for c in colours.values()}) == len(levels)
