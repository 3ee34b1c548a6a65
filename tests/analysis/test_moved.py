"""Which numbers moved from one sweep to another, against their intervals."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis import compare, load_sweep
from sweeps.cli import main

Plant = Callable[..., list[Any]]
Write = Callable[..., Any]


@pytest.fixture
def old(tmp_path: Path, write: Write, plant: Plant) -> Path:
    write(tmp_path / "old", plant("equal-steps", 0.5, 0.0, spread=0.01, steps=60))
    return tmp_path / "old"


def new(tmp_path: Path, write: Write, runs: list[Any]) -> Path:
    write(tmp_path / "new", runs)
    return tmp_path / "new"


def row(table: pd.DataFrame, kind: str, measure: str, level: str = "") -> dict[str, Any]:
    places = (table["kind"] == kind) & (table["measure"] == measure) & (table["level"] == level)
    (found,) = table[places].to_dict("records")
    return found


def test_a_sweep_and_itself_are_equal_in_every_number(old: Path) -> None:
    sweep = load_sweep("planted", old)
    moved = compare(sweep, sweep)
    assert set(moved.table["state"]) == {"equal"}
    assert moved.words == (
        "12 runs count in A, 12 in B; 12 have the same identity, and 12 of these the same tables "
        "bit for bit",
    )


def test_a_move_is_measured_by_both_intervals(
    old: Path, tmp_path: Path, write: Write, plant: Plant
) -> None:
    runs = plant("equal-steps", 0.7, 0.0, spread=0.01, steps=60)
    there = new(tmp_path, write, runs)
    moved = compare(load_sweep("planted", old), load_sweep("planted", there))
    exponent = row(moved.table, "exponent", "gamma")
    half = 4.302653 * 0.01 / math.sqrt(3)  # t(.975, 2), s = .01, of either
    assert exponent["difference"] == pytest.approx(0.2)
    assert exponent["size"] == pytest.approx(0.2 / (half * math.sqrt(2)), rel=1e-5)
    assert exponent["state"] == "moved"
    assert row(moved.table, "mean", "gamma", "16")["state"] == "equal"
    assert row(moved.table, "exponent", "null_gamma")["state"] == "equal"
    assert moved.table["size"].iloc[0] == moved.table["size"].max()
    claim = "gamma scales with the square root of the batch size: supported beyond the null in A"
    assert any(text.startswith(claim) and "in B" in text for text in moved.words)


def test_a_move_inside_the_intervals_and_one_without_an_interval(
    old: Path, tmp_path: Path, write: Write, plant: Plant
) -> None:
    near = new(tmp_path, write, plant("equal-steps", 0.51, 0.0, spread=0.01, steps=60))
    a, b = load_sweep("planted", old), load_sweep("planted", near)
    assert row(compare(a, b).table, "exponent", "gamma")["state"] == "within its interval"
    write(tmp_path / "one", plant("equal-steps", 0.6, 0.0, seeds=(0,), steps=60))
    one = load_sweep("planted", tmp_path / "one")
    found = row(compare(a, one).table, "exponent", "gamma")
    assert found["state"] == "no interval"
    assert math.isnan(found["size"])


def test_what_one_side_lacks_is_listed_and_counted(
    old: Path, tmp_path: Path, write: Write, plant: Plant
) -> None:
    runs = plant("equal-steps", 0.5, 0.0, batches=(16, 32, 64), spread=0.01, steps=60)
    runs[0].status = "diverged"
    moved = compare(load_sweep("planted", old), load_sweep("planted", new(tmp_path, write, runs)))
    assert row(moved.table, "mean", "gamma", "128")["state"] == "only in A"
    assert moved.counts["only in A"] == 4
    assert any("1 runs do not count in B, such as run r000" in text for text in moved.words)


def optpath(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["optpath", "compare", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def test_the_command_prints_what_moved_and_writes_all(
    old: Path,
    tmp_path: Path,
    write: Write,
    plant: Plant,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    there = new(tmp_path, write, plant("equal-steps", 0.7, 0.0, spread=0.01, steps=60))
    file = tmp_path / "moved.csv"
    places = ["--storage", str(old), "--other-storage", str(there)]
    assert optpath(monkeypatch, "planted", *places, "-o", str(file)) == 0
    lines = capsys.readouterr().out.splitlines()
    (gamma,) = [line for line in lines if "exponent of gamma, batch_size" in line]
    assert "0.5 [0.475, 0.525]" in gamma
    assert "0.7 [0.675, 0.725]" in gamma
    assert "+0.2" in gamma
    assert any(" moved, " in line and " equal" in line for line in lines)
    assert len(pd.read_csv(file)) == len(
        compare(load_sweep("planted", old), load_sweep("planted", there)).table
    )


def test_the_command_asks_with_what(
    old: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert optpath(monkeypatch, "planted", "--storage", str(old)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "optpath: compare planted with what? name a second sweep, or --other-storage DIR"
    )
