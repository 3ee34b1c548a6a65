"""What stands in for other data is written on every figure and on the report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from analysis.cells import ablations_of
from analysis.conclusions import figure
from analysis.figures.contract import save_figure
from analysis.figures.note import note_above
from analysis.figures.registry import FIGURES
from analysis.report import write_report
from analysis.runs import Sweep, load_sweep
from trainables.store import read_sealed, write_sealed

TEXT = "pictures of cats for pictures of dogs"


@pytest.fixture
def sweep(storage: Path, write: Callable[..., Any], plant: Callable[..., list[Any]]) -> Sweep:
    """A sweep whose plan says what stands in."""
    store = write(storage, plant("main", 0.5, 0.5, batches=(64, 128), seeds=(0, 1), epochs=4))
    path = store.sweep("planted").path / "plan.json"
    plan = read_sealed(path)
    assert plan is not None
    write_sealed(path, plan | {"stand_in": TEXT})
    return load_sweep("planted", storage)


def texts(drawing: Figure) -> list[str]:
    return [text.get_text() for text in drawing.texts]


def test_every_figure_says_it(sweep: Sweep, tmp_path: Path) -> None:
    ablations = ablations_of(sweep)
    saved = [save_figure(kind, sweep, ablations, tmp_path) for kind in FIGURES.values()]
    drawings = [file.svg.read_text() for file in saved if file is not None]
    assert len(drawings) > 5
    assert all(f"Stand-in: {TEXT}" in drawing for drawing in drawings)
    assert f"Stand-in: {TEXT}" in texts(figure(sweep, "gamma"))


def test_both_reports_and_the_note_on_mlflow_say_it(sweep: Sweep, tmp_path: Path) -> None:
    report = write_report(sweep, tmp_path)
    for text in (report.html.read_text(), report.markdown.read_text(), report.abstract):
        assert f"Stand-in: {TEXT}" in text


def test_without_a_stand_in_nothing_is_written(
    storage: Path, write: Callable[..., Any], plant: Callable[..., list[Any]]
) -> None:
    write(storage, plant("main", 0.5, 0.5, batches=(64, 128), seeds=(0, 1), epochs=4))
    assert texts(figure(load_sweep("planted", storage), "gamma")) == []


@pytest.mark.parametrize("words", [3, 60])
def test_a_note_takes_no_room_from_the_panels(words: int) -> None:
    drawing = Figure(figsize=(4.0, 3.0))
    axes = drawing.add_axes((0.1, 0.2, 0.8, 0.7))
    note_above(drawing, "word " * words)
    width, height = drawing.get_size_inches()
    assert width == 4.0
    assert height > 3.0
    assert axes.get_position().height * height == pytest.approx(0.7 * 3.0)
    assert axes.get_position().y0 * height == pytest.approx(0.2 * 3.0)
    (note,) = drawing.texts
    drawing.draw_without_rendering()
    box, panel = note.get_window_extent(), axes.get_window_extent()
    assert box.y0 >= panel.y1
    assert box.x1 <= drawing.bbox.x1
    assert box.y1 <= drawing.bbox.y1
