"""The tables behind the figures, and that every figure can be drawn from them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from analysis import load_sweep
from analysis.cells import ablations_of
from analysis.figures.contract import save_figure
from analysis.figures.per_epoch import per_epoch
from analysis.figures.registry import FIGURES
from analysis.figures.style import NULL_BEHIND, grid, level_colours, log_axis, paired_grid
from trainables.store import read_sealed, write_sealed

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


@pytest.mark.parametrize("name", list(FIGURES))
def test_every_figure_is_saved_as_png_svg_and_csv_or_has_nothing_to_show(
    name: str, storage: Path, write: Write, twins: list[Any], tmp_path: Path
) -> None:
    write(storage, twins)
    sweep = load_sweep("planted", storage)
    before = dict(mpl.rcParams)
    saved = save_figure(FIGURES[name], sweep, ablations_of(sweep), tmp_path / "figures")
    assert dict(mpl.rcParams) == before
    if saved is None:
        assert table_of(name, storage).empty
        assert not list(tmp_path.glob("figures/*"))
        return
    assert saved.png.read_bytes().startswith(b"\x89PNG")
    assert "<svg" in saved.svg.read_text()
    assert len(pd.read_csv(saved.csv)) == len(table_of(name, storage))


def test_the_twins_have_every_figure_of_the_path(
    storage: Path, write: Write, twins: list[Any]
) -> None:
    write(storage, twins)
    for name in ("gamma", "gamma_by_seed", "gamma_trend", "distance", "predicted_distance",
                 "geometry", "rsi_and_error_bound", "rsi_and_gamma", "local_lr"):  # fmt: skip
        assert not table_of(name, storage).empty, name


def test_a_sweep_that_measured_no_plane_has_no_level_sets(
    storage: Path, write: Write, twins: list[Any]
) -> None:
    write(storage, twins)
    assert table_of("level_sets", storage).empty


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
    storage: Path, write: Write, plant: Plant
) -> None:
    runs = plant("equal-epochs", 0.5, 0.5, batches=(64, 128), seeds=(0, 1), epochs=7)
    for factor, run in zip((1.0, 3.0), (runs[0], runs[2]), strict=True):
        run.gamma[:] = 0.01 * factor
        run.gamma[1] = 0.04 * factor
    write(storage, runs)
    table = table_of("gamma", storage)
    row = table[table["level"] == 64].iloc[0]
    assert row["mean"] == pytest.approx(0.02 * (1 + 3 / runs[0].steps_per_epoch))
    assert (row["low"], row["high"]) == pytest.approx((0.01, 0.12))
    assert row["null"] == pytest.approx(runs[0].null[0])
    assert table["x"].unique().tolist() == [0, 1, 2, 3, 4, 5], "the seventh is left out"


def test_equal_steps_are_drawn_over_steps_up_to_the_last_kept_one(
    storage: Path, write: Write, twins: list[Any]
) -> None:
    # T = 60, the last 15 left out: step t is part floor(50 t / 60), drawn at its steps' middle.
    write(storage, twins)
    table = table_of("gamma", storage)
    rows = table[(table["ablation"] == "equal-steps") & (table["level"] == 64)]
    steps = np.arange(45)
    expected = pd.Series(steps + 0.5).groupby(50 * steps // 60).mean()
    assert rows["part"].tolist() == expected.index.tolist()
    assert rows["x"].tolist() == expected.tolist()
    assert set(rows["x_name"]) == {"step"}
    gamma = np.stack([run.gamma[:45] for run in twins[4:] if run.axes["batch_size"] == 64])
    assert rows["high"].max() == gamma.max()
    assert rows["low"].min() == gamma.min()


def test_few_epochs_are_drawn_in_parts_over_fractional_epochs(
    storage: Path, write: Write, twins: list[Any]
) -> None:
    write(storage, twins)
    table = table_of("gamma", storage)
    rows = table[(table["ablation"] == "equal-epochs") & (table["level"] == 64)]
    assert len(rows) > 30
    assert rows["x"].max() < 3
    assert set(rows["x_name"]) == {"epoch"}


def test_levels_of_different_axes_keep_their_names(
    storage: Path, write: Write, plant: Plant, tmp_path: Path
) -> None:
    runs = plant("width", 0.1, 0.0, batches=(64, 128)) + plant("depth", 0.1, 0.0, batches=(32, 64))
    for run in runs:
        axis = f"model.{run.ablations[0]}"
        run.axes = {axis: run.axes["batch_size"], "seed": run.axes["seed"]}
    store = write(storage, runs)
    path = store.sweep("planted").path / "plan.json"
    plan = read_sealed(path)
    assert plan is not None
    for name in ("width", "depth"):
        plan["ablations"][name]["axes"] = [f"model.{name}", "seed"]
    write_sealed(path, plan)
    sweep = load_sweep("planted", storage)
    saved = save_figure(FIGURES["gamma"], sweep, ablations_of(sweep), tmp_path)
    assert saved is not None
    labels = re.findall(r">(model \w+ \d+)<", saved.svg.read_text())
    assert labels == ["model width 64", "model width 128", "model depth 32", "model depth 64"]


def test_a_setting_without_the_option_is_a_level_of_its_own(
    storage: Path, write: Write, plant: Plant, tmp_path: Path
) -> None:
    runs = plant("stems", 0.1, 0.0, batches=(64, 128))
    for run in runs:
        stem = {"model.stem": "cifar"} if run.axes["batch_size"] == 64 else {}
        run.axes = {**stem, "seed": run.axes["seed"]}
    write(storage, runs, axes=("model.stem", "seed"))
    assert table_of("gamma_levels", storage)["level"].tolist() == ["cifar", "not set"]
    sweep = load_sweep("planted", storage)
    assert save_figure(FIGURES["gamma"], sweep, ablations_of(sweep), tmp_path) is not None


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
    assert (
        save_figure(per_epoch("curvature", True, ""), sweep, ablations_of(sweep), tmp_path) is None
    )


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


@pytest.mark.parametrize(
    ("low", "high"), [(0.9, 1.1), (0.035, 0.3), (2.1, 40.0), (0.02, 0.9), (1e-6, 3e-4), (1e-3, 1e3)]
)
def test_a_logarithmic_axis_has_ticks_enough_to_be_read(low: float, high: float) -> None:
    axes = grid(1).panels[0]
    axes.set_ylim(low, high)
    log_axis(axes)
    inside = [tick for tick in axes.get_yticks() if low <= tick <= high]
    assert 3 <= len(inside) <= 8


def test_a_null_model_is_grey_behind_its_curve_with_dots_of_its_colour(
    storage: Path, write: Write, twins: list[Any]
) -> None:
    write(storage, twins)
    table = table_of("gamma", storage)
    for axes in FIGURES["gamma"].draw(table).axes:
        behind = [line for line in axes.lines if line.get_color() == NULL_BEHIND]
        curves = [line for line in axes.lines if line not in behind]
        dots = {line.get_color() for line in curves if line.get_linestyle() == ":"}
        full = [line for line in curves if line.get_linestyle() == "-"]
        assert dots == {line.get_color() for line in full}
        assert len(full) == len(behind) == 2
        assert max(b.get_zorder() for b in behind) < min(c.get_zorder() for c in curves)


def test_levels_have_different_colours() -> None:
    for levels in ([16, 32, 64], ["sgd", "adam"], [f"setting {i}" for i in range(12)]):
        colours = level_colours(levels)
        assert len({tuple(mpl.colors.to_rgba(c)) for c in colours.values()}) == len(levels)


@pytest.mark.parametrize("num_pairs", [1, 2, 3, 4, 5])
def test_pairs_stand_one_above_the_other_and_nothing_overlaps(num_pairs: int) -> None:
    layout, pairs = paired_grid(num_pairs)
    boxes = [panel.get_position() for pair in pairs for panel in pair]
    for upper, lower in pairs:
        assert upper.get_position().x0 == lower.get_position().x0
        assert upper.get_position().y0 > lower.get_position().y1
    assert len(layout.figure.axes) == 2 * num_pairs
    for index, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:index])
