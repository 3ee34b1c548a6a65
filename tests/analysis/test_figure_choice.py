"""A figure by the name of a paper, over another x-axis, compared by another axis."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis import ablations_of, figure, load_sweep
from analysis.figures import naming
from analysis.figures.contract import FigureKind
from analysis.figures.naming import chosen, figure_named, papers
from analysis.figures.registry import FIGURES
from analysis.figures.style import grid, style
from analysis.reductions import shares
from analysis.runs import Sweep
from trainables.store import Store, UserError, read_table, write_table

Plant = Callable[..., list[Any]]
Write = Callable[..., Any]

P1 = (
    "1-top-left", "1-top-right", "1-bottom-left", "1-bottom-right", "2", "3-left", "3-right",
    "4-left", "4-right", "5", *map(str, range(6, 25)),
)  # fmt: skip
"""The figures of P1 that are made of measurements; figures 14 and 15 are level sets."""


@pytest.fixture
def runs(plant: Plant) -> list[Any]:
    return plant("equal-epochs", 0.5, 0.5, batches=(64, 128), seeds=(0, 1), epochs=7, walk=True)


@pytest.fixture
def sweep(storage: Path, write: Write, runs: list[Any]) -> Sweep:
    write(storage, runs)
    return load_sweep("planted", storage)


@pytest.mark.parametrize("number", P1)
def test_every_figure_of_the_first_paper_has_a_kind(number: str) -> None:
    assert f"P1 {number}" in figure_named(f"P1-{number}").paper


def test_paper_names_are_written_alike_and_belong_to_one_kind() -> None:
    names = [name for name, _ in papers()]
    assert len(names) == len(set(names))
    assert all(name.startswith(("P1 ", "P2 ")) for name in names)


@pytest.mark.parametrize("name", ["4-left", "P1 4-left", "p1-4-LEFT", "gamma_by_seed"])
def test_a_figure_goes_by_its_name_or_number(name: str) -> None:
    assert figure_named(name).name == "gamma_by_seed"


def test_an_unknown_figure_lists_those_that_exist_in_one_line() -> None:
    with pytest.raises(UserError, match=r"^no figure '99'; there are: gamma \(P1-1-top") as caught:
        figure_named("99")
    assert "\n" not in str(caught.value)
    assert all(name in str(caught.value) for name in FIGURES)


def test_a_number_of_both_papers_asks_which(monkeypatch: pytest.MonkeyPatch) -> None:
    second = FigureKind("other", "", lambda *_: pd.DataFrame(), lambda _: Figure(), ("P2 4-left",))
    monkeypatch.setattr(naming, "FIGURES", {**FIGURES, "other": second})
    with pytest.raises(UserError, match=r"^figure '4-left': which\? P1-4-left or P2-4-left$"):
        figure_named("4-left")
    assert figure_named("P2-4-left") is second


def test_each_seed_is_a_curve_and_each_level_a_panel(sweep: Sweep, runs: list[Any]) -> None:
    table = chosen(sweep, "4-left").table
    assert set(table["group"]) == {"batch size 64", "batch size 128"}
    assert set(table["level"]) == {0, 1}
    assert set(table["num_runs"]) == {1}
    row = table[(table["group"] == "batch size 64") & (table["level"] == 1)].iloc[0]
    run = next(r for r in runs if r.axes == {"batch_size": 64, "seed": 1})
    assert row["mean"] == pytest.approx(run.gamma[: run.steps_per_epoch].mean())


def test_any_varied_field_can_be_compared(sweep: Sweep) -> None:
    found = chosen(sweep, "gamma", by="seed")
    assert found.kind.name == "gamma-by-seed"
    same = chosen(sweep, "gamma", by="batch size").table
    own = chosen(sweep, "gamma").table
    assert same["mean"].tolist() == own["mean"].tolist()
    with pytest.raises(UserError, match=r"does not vary 'depth'; it varies: batch_size, seed$"):
        chosen(sweep, "gamma", by="depth")


def test_a_field_outside_the_ablations_axes_can_be_compared(
    storage: Path, write: Write, runs: list[Any]
) -> None:
    for run in runs:
        run.config["width"] = 0.5 if run.axes["batch_size"] == 64 else 2
    write(storage, runs)
    table = chosen(load_sweep("planted", storage), "gamma", by="width").table
    assert set(table["level"]) == {0.5, 2}
    assert set(table["axis"]) == {"width"}


def test_an_axis_of_one_value_compares_nothing(storage: Path, write: Write, plant: Plant) -> None:
    write(storage, plant("equal-epochs", 0.5, 0.5, batches=(64,), seeds=(0, 1)))
    with pytest.raises(UserError, match=r"^planted: no ablation has two values of batch_size"):
        chosen(load_sweep("planted", storage), "gamma", by="batch_size")


def add_column(storage: Path, name: str, values: Callable[[pd.DataFrame], Any]) -> None:
    store = Store(storage)
    for run_id in load_sweep("planted", storage).runs["run_id"]:
        folder = store.run(run_id)
        manifest = folder.manifest()
        assert manifest is not None
        steps = read_table(folder.path / "steps.parquet")
        write_table(folder.path / "steps.parquet", steps.assign(**{name: values(steps)}))
        content = {k: v for k, v in manifest.items() if k not in ("files", "digest")}
        folder.write_manifest(content, list(manifest["files"]))


def test_x_axes_place_the_same_parts(sweep: Sweep, runs: list[Any]) -> None:
    steps = chosen(sweep, "gamma", x="step").table
    epochs = chosen(sweep, "gamma", x="epoch").table
    fraction = chosen(sweep, "gamma", x="fraction").table
    per_epoch = steps["level"].map({64: 1500 // 64, 128: 1500 // 128})
    assert epochs["x"].to_numpy() == pytest.approx((steps["x"] / per_epoch).to_numpy())
    assert fraction["x"].to_numpy() == pytest.approx((steps["x"] / per_epoch / 7).to_numpy())
    assert (steps["mean"] == fraction["mean"]).all()


def test_the_loss_axis_is_the_lowest_mean_so_far(sweep: Sweep) -> None:
    table = chosen(sweep, "gamma", x="loss").table
    one = table[table["level"] == 64].sort_values("part")
    assert (one["x"].diff().dropna() < 0).all(), "the planted loss is exp(-t / T)"
    assert one["x"].iloc[0] == pytest.approx(np.exp(-1 / 161), rel=0.01)


def test_path_length_is_the_way_from_the_first_weights(
    storage: Path, write: Write, runs: list[Any]
) -> None:
    write(storage, runs)
    add_column(storage, "update_norm", lambda steps: 0.5)
    sweep = load_sweep("planted", storage)
    table = chosen(sweep, "distance", x="path_length").table
    middle = chosen(sweep, "distance", x="step").table["x"]
    assert table["x"].to_numpy() == pytest.approx(0.5 * (middle - 0.5).to_numpy())


def test_a_length_that_was_not_measured_is_one_line(sweep: Sweep) -> None:
    with pytest.raises(
        UserError,
        match=r"^planted: no finished run has what figure 'gamma' shows over path_length$",
    ):
        chosen(sweep, "gamma", x="path_length")


def test_an_unknown_x_axis_lists_those_there_are(sweep: Sweep) -> None:
    with pytest.raises(UserError, match=r"^no x-axis 'time'; there are: step, epoch, fraction"):
        chosen(sweep, "gamma", x="time")
    with pytest.raises(UserError, match=r"^figure 'gamma_trend' has no choice of x-axis"):
        chosen(sweep, "gamma_trend", x="step")


@pytest.mark.parametrize("x", ["step", "epoch", "fraction", "loss"])
def test_every_x_axis_can_be_drawn(sweep: Sweep, x: str) -> None:
    drawn = figure(sweep, "P1 2", x=x)
    assert len(drawn.axes) == 3
    assert drawn.axes[0].get_xlabel()


# Predicted against observed distance


def test_predicted_distances_are_the_formulas() -> None:
    # d_{t+1} = sqrt(1 - gamma^2) d_t with a constant gamma: both predictions are the observed one.
    gamma, step = 0.3, np.arange(40)
    distance = 5.0 * (1 - gamma**2) ** (step / 2)
    steps = pd.DataFrame(
        {"distance": distance, "gamma": gamma, "rsi": 0.3 * 2.0, "error_bound": 2.0,
         "null_distance": 3.0}
    )  # fmt: skip
    found = shares(steps, np.ones(40, dtype=bool))
    for name in ("observed", "contraction", "rate"):
        assert found[name] == pytest.approx((1 - gamma**2) ** (step / 2), rel=1e-12)
    assert found["null"].tolist() == [1.0] * 40


def test_a_rate_needs_a_positive_mu_on_the_kept_steps() -> None:
    steps = pd.DataFrame({"distance": [1.0] * 4, "gamma": 0.1, "rsi": [1.0, 1.0, 1.0, -1.0],
                          "error_bound": 10.0, "null_distance": 1.0})  # fmt: skip
    assert np.isnan(shares(steps, np.ones(4, dtype=bool))["rate"]).all()
    kept = np.array([True, True, True, False])
    assert shares(steps, kept)["rate"][2] == pytest.approx(1 - 0.1**2)


def test_runs_without_a_rate_are_counted_in_the_figure(
    storage: Path, write: Write, runs: list[Any]
) -> None:
    runs[0].gamma[5] = -0.1
    write(storage, runs)
    drawn = figure(load_sweep("planted", storage), "predicted_distance")
    texts = [text.get_text() for axes in drawn.axes for text in axes.texts]
    assert texts == ["mu <= 0 in 1 runs: no rate"]


def test_legends_cover_no_data_and_are_within_the_figure(sweep: Sweep) -> None:
    for kind in FIGURES.values():
        table = kind.table(sweep, ablations_of(sweep))
        if table.empty:
            continue
        with style():
            drawn = kind.draw(table)
        renderer = FigureCanvasAgg(drawn).get_renderer()
        legends = [legend.get_window_extent(renderer) for legend in drawn.legends]
        panels = [axes.get_window_extent(renderer) for axes in drawn.axes]
        page = drawn.bbox
        for legend in legends:
            assert page.x0 <= legend.x0 <= legend.x1 <= page.x1, kind.name
            assert page.y0 <= legend.y0, kind.name
        assert not any(legend.overlaps(panel) for legend in legends for panel in panels), kind.name
        assert not any(axes.get_legend() for axes in drawn.axes), kind.name


def test_long_names_make_a_legend_of_several_lines() -> None:
    with style():
        layout = grid(1)
        height = layout.panels[0].get_window_extent().height
        names = [f"setting {number} of a sweep over many fields " * 4 for number in range(5)]
        layout.legend([Line2D([], [], label=name) for name in names])
    (legend,) = layout.figure.legends
    box = legend.get_window_extent(FigureCanvasAgg(layout.figure).get_renderer())
    assert box.width <= layout.figure.bbox.width
    assert not box.overlaps(layout.panels[0].get_window_extent())
    assert layout.panels[0].get_window_extent().height == pytest.approx(height)
