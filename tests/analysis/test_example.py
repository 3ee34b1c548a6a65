"""The example script runs as written, from a store or a server, and reaches its conclusion."""

from __future__ import annotations

import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from analysis.figures.naming import figure_named
from sweeps.cli import app

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "batch_size.py"
README = Path(__file__).parents[2] / "README.md"

runner = CliRunner()

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


def test_the_readme_s_python_runs_as_written(
    storage: Path,
    write: Write,
    plant: Plant,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = README.read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    runs = plant("equal-epochs", 0.5, 0.5, epochs=4) + plant("equal-steps", 0.0, 0.0, steps=120)
    write(storage, runs, name="quickstart")
    monkeypatch.setenv("OPTPATH_STORAGE", str(storage))
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    exec(compile(code, README.name, "exec"), found)
    assert "0.500 [0.500, 0.500]" in capsys.readouterr().out
    assert len(found["judged"])
    assert (tmp_path / "gamma_trend.png").is_file()


def test_the_readme_names_every_command_and_figures_that_there_are() -> None:
    text = README.read_text()
    described = runner.invoke(app, ["--help"]).stdout.partition("Commands:")[2]
    commands = [line.split()[0] for line in described.splitlines() if line.strip()]
    assert len(commands) >= 14
    assert not [name for name in commands if f"optpath {name}" not in text]
    (named,) = re.findall(r"by its own name \(`(\w+)`, `(\w+)`, .*?: `([\w-]+)`, `([\w-]+)`", text)
    assert [figure_named(name).name for name in named[:2]] == list(named[:2])
    assert [figure_named(name).name for name in named[2:]]


def test_the_example_is_short() -> None:
    assert len(EXAMPLE.read_text().splitlines()) < 60
