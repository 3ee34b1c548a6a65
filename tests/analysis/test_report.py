"""The report: words first, self-contained, and honest about what is missing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis import load_sweep
from analysis.report import Report, write_report

Plant = Callable[..., list[Any]]
Write = Callable[..., Any]


def twin_runs(plant: Plant) -> list[Any]:
    options = {"batches": (64, 128), "seeds": (0, 1, 2), "spread": 0.005}
    return plant("equal-epochs", 0.5, 0.5, epochs=4, **options) + plant(
        "equal-steps", 0.0, 0.0, steps=60, **options
    )


@pytest.fixture
def twins(plant: Plant) -> list[Any]:
    return twin_runs(plant)


def report(storage: Path, out_dir: Path) -> tuple[Report, str]:
    written = write_report(load_sweep("planted", storage), out_dir)
    return written, written.html.read_text()


@pytest.fixture(scope="module")
def whole(
    plant: Plant, write: Write, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Report, str]:
    """The report of a sweep without a flaw; its spec tries to be HTML."""
    storage = tmp_path_factory.mktemp("store")
    store = write(storage, twin_runs(plant))
    spec = store.sweep("planted").path / "spec.yaml"
    spec.write_text("name: planted  # <script>alert(1)</script>")
    return report(storage, tmp_path_factory.mktemp("report"))


def test_verdict_comes_first_in_words_with_numbers_and_exclusions(
    whole: tuple[Report, str],
) -> None:
    written, page = whole
    assert "gamma increases with the batch size: **supported but explained by" in written.headline
    assert "equal-epochs: gamma ~ b^0.500 [0.488, 0.512]" in written.headline
    assert "null model (aware) alone ~ b^0.500" in written.headline
    assert "12 of 12 planned runs count; 12 of 12 replays ended bitwise at w*." in written.headline
    assert "equal-epochs, left out of every run: the last epoch" in written.headline
    assert page.index("supported but explained by the null") < page.index("<table")


def test_report_needs_no_network(whole: tuple[Report, str]) -> None:
    written, page = whole
    assert page.count("data:image/svg+xml;base64,") == len(written.figures) == 6
    assert not re.search(r"(src|href)\s*=\s*[\"'](?!data:)", page)
    assert "http" not in page


def test_report_names_licence_environment_and_spec(whole: tuple[Report, str]) -> None:
    for text in ("CC BY 4.0", "Alpaydin 1998.", "2.15.0", "name: planted", "data_digest"):
        assert text in whole[1]


def test_text_from_a_spec_is_escaped(whole: tuple[Report, str]) -> None:
    assert "<script>alert" not in whole[1]


def test_summary_holds_the_verdicts_as_json(
    storage: Path, write: Write, twins: list[Any], tmp_path: Path
) -> None:
    twins[0].status = "diverged"
    twins[0].replay_exact = None
    write(storage, twins)
    written, page = report(storage, tmp_path)
    summary = json.loads(written.summary.read_text())
    assert [v["word"] for v in summary["verdicts"]] == [v.word for v in written.verdicts]
    assert summary["runs"] == {"done": 11, "diverged": 1}
    assert "diverged at step 7" in summary["problems"][0]
    assert "diverged at step 7" in page
    assert "Not counted: run r000 (equal-epochs, batch_size=64, seed=0): div" in written.headline
    assert "seed 0: only 1 of 2 levels of batch_size" in page


def test_claims_go_by_their_ids_and_rules(whole: tuple[Report, str]) -> None:
    written, page = whole
    assert "C12 gamma increases with the batch size: **" in written.headline
    assert "C42 the replay pass is the reference pass, bit for bit: **passes**" in written.headline
    assert "<td>C01</td><td>gamma is almost always positive</td><td>inconclusive</td>" in page
    assert "have too few kept steps" in page
    assert "C01, gamma is almost always positive: passes if it is at most 0.1% in every" in page


def test_zero_runs_give_a_report_that_says_so(
    storage: Path, write: Write, twins: list[Any], tmp_path: Path
) -> None:
    for run in twins:
        run.status = "not started"
    write(storage, twins)
    written, page = report(storage, tmp_path)
    assert written.verdicts == []
    assert written.figures == []
    assert "no finished run on which an axis could be judged" in written.headline
    assert page.count("not started") >= 12


def test_one_run_gives_a_report_without_an_exponent(
    storage: Path, write: Write, plant: Plant, tmp_path: Path
) -> None:
    write(storage, plant("equal-epochs", 0.5, 0.5, batches=(64,), seeds=(0,)))
    written, _ = report(storage, tmp_path)
    assert {v.word for v in written.verdicts if v.compares} == {"inconclusive"}


def test_runs_without_gamma_are_reported_as_undefined(
    storage: Path, write: Write, twins: list[Any], tmp_path: Path
) -> None:
    for run in twins:
        run.gamma[:] = np.nan
    write(storage, twins)
    written, page = report(storage, tmp_path)
    # the replay was exact all the same
    assert {v.word for v in written.verdicts} == {"inconclusive", "passes"}
    assert "gamma is undefined, no logarithm" in page
    assert "NaN" not in written.summary.read_text()


def test_a_sweep_over_seeds_alone_is_drawn_and_compares_nothing(
    storage: Path, write: Write, plant: Plant, tmp_path: Path
) -> None:
    runs = plant("seeds", 0.5, 0.5, batches=(64,), epochs=3)
    for run in runs:
        run.axes = {"seeds.init": run.axes["seed"]}
    write(storage, runs, axes=("seeds.init",))
    written, page = report(storage, tmp_path)
    assert [v for v in written.verdicts if v.compares] == []
    assert "gamma" in {figure.name for figure in written.figures}
    assert "all runs" in page
