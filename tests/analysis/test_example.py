"""The example script runs as written, from a store or a server, and reaches its conclusion."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "batch_size.py"

Plant = Callable[..., list[Any]]
Write = Callable[..., Any]


def test_the_example_reproduces_the_conclusion_about_the_batch_size(
    storage: Path,
    write: Write,
    plant: Plant,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(
        storage,
        plant("equal-epochs", 0.5, 0.5, spread=0.01, epochs=4)
        + plant("equal-steps", 0.0, 0.0, spread=0.01, steps=120),
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), "planted", str(storage)])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    out = capsys.readouterr().out
    assert "gamma ~ b^0.500 [0.475, 0.525], Student t over 3 seeds" in out
    assert "gamma increases with the batch size: supported but explained by the null" in out
    assert "24 of 24 runs count" in out
    assert "'equal'" in out
    assert (tmp_path / "gamma_trend.png").stat().st_size > 10_000


def test_the_example_is_short() -> None:
    assert len(EXAMPLE.read_text().splitlines()) < 60
