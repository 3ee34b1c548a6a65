"""What one waits for before anything runs: planning a large sweep, and the command's help."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.benchmarks.harness import OPTPATH, PAIRS, Spread, interleaved, print_table, run_python

pytestmark = pytest.mark.benchmark

SWEEP = """\
name: ten-thousand
base: {data: digits, model: {name: mlp, hidden: [32]}, budget: {epochs: 10}}
seeds: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
grid:
  batch_size: [8, 16, 24, 32, 48, 64, 96, 128, 192, 256]
  learning_rate.base: [0.001, 0.002, 0.003, 0.005, 0.007, 0.01, 0.02, 0.03, 0.05, 0.07]
  optimizer.momentum: [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
"""
NUM_RUNS = 10_000

PLAN = """
import sys, time
from pathlib import Path
from sweeps.catalogue import load_spec
from sweeps.plan import make_plan
start = time.perf_counter()
plan = make_plan(load_spec(sys.argv[1]), Path("data"))
print(time.perf_counter() - start, len(plan.runs), len(plan.trajectories))
"""

HEAVY = ("torch", "ray", "mlflow")
"""Packages that a command which only prints must not import."""

IMPORT_LINE = re.compile(r"import time:\s+\d+ \|\s+\d+ \|\s*([\w.]+)")
"""A line of `python -X importtime`: own microseconds, cumulative microseconds, module."""


def test_planning(tmp_path: Path) -> None:
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text(SWEEP)
    alone: list[float] = []

    def plan() -> None:
        spent, num_runs, _ = run_python(["-c", PLAN, sweep], tmp_path).stdout.split()
        assert int(num_runs) == NUM_RUNS
        alone.append(float(spent))

    def command() -> None:
        run_python(["-c", OPTPATH, "plan", sweep, "--storage", tmp_path / "store"], tmp_path)

    nothing = {"python -c pass": lambda: run_python(["-c", "pass"], tmp_path)}
    times = interleaved({"plan": plan, "command": command, **nothing})
    rows = {
        "reading the sweep and planning it": (alone[1:], "<= 5 s"),
        "the same from starting Python": (times["plan"], "<= 5 s"),
        "optpath plan, printed": (times["command"], ""),
        "python -c pass": (times["python -c pass"], ""),
    }
    _print_seconds(f"Planning {NUM_RUNS:,} runs of digits", rows)


def test_help(tmp_path: Path) -> None:
    contestants: dict[str, Callable[[], object]] = {
        "optpath --help": lambda: run_python(["-c", OPTPATH, "--help"], tmp_path),
        "python -c pass": lambda: run_python(["-c", "pass"], tmp_path),
    }
    times = interleaved(contestants)
    limits = {"optpath --help": "<= 1 s"}
    _print_seconds(
        "The command's help",
        {name: (values, limits.get(name, "")) for name, values in times.items()},
    )
    imported = imported_by_help(tmp_path)
    found = [package for package in HEAVY if package in imported]
    print(f"{len(imported)} modules imported; of {', '.join(HEAVY)}: {', '.join(found) or 'none'}")


def imported_by_help(folder: Path) -> set[str]:
    """Every module that `optpath --help` imports, from -X importtime."""
    done = run_python(["-X", "importtime", "-c", OPTPATH, "--help"], folder)
    imported = set(IMPORT_LINE.findall(done.stderr))
    assert "sweeps.cli" in imported, "the output of -X importtime was not understood"
    return imported


def _print_seconds(title: str, rows: dict[str, tuple[list[float], str]]) -> None:
    print_table(
        title,
        ["what", "seconds", "limit"],
        [[name, Spread.of(values).show(), limit] for name, (values, limit) in rows.items()],
        f"Medians (min..max) of {PAIRS} interleaved rounds.",
    )
