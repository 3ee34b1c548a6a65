"""The main job from typed to report, against the plain script for the same 30 runs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.benchmarks.harness import (
    OPTPATH,
    PAIRS,
    Spread,
    print_table,
    ratio,
    run_python,
    seconds,
)

pytestmark = pytest.mark.benchmark

NUM_RUNS = 30

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_TRACKING_URI": "",  # as if not set
}
"""Of both commands: neither reports home, neither finds another's store."""

WARM = """
import importlib, pkgutil
for name in ("geometry", "trainables", "sweeps", "analysis"):
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, f"{name}."):
        importlib.import_module(module.name)
import matplotlib.pyplot, mlflow, ray.tune, sklearn.datasets, torch.optim, torch.utils.data
import mlflow.store.tracking.sqlalchemy_store
"""
"""Imported once beforehand: a limit is on what one waits for where bytecode caches exist."""


def test_quickstart(tmp_path: Path) -> None:
    pairs = int(os.environ.get("OPTPATH_BENCHMARK_QUICKSTART_PAIRS", PAIRS))
    run_python(["-c", WARM], tmp_path, ENVIRONMENT)
    contestants = {"plain script": _plain_script, "optpath run quickstart": _quickstart}
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for pair in range(pairs):
        for name, command in contestants.items():
            times[name].append(_timed(command, tmp_path / "storage"))
            print(f"\npair {pair + 1} of {pairs}: {name}: {times[name][-1]:.1f} s", flush=True)
    advantage = ratio(times, "plain script", "optpath run quickstart").show(1)
    rows = [[name, Spread.of(values).show(1), ""] for name, values in times.items()]
    rows[1][2] = "<= 45 s"
    print_table(
        f"The quickstart's {NUM_RUNS} runs, from typed to the end, fresh storage",
        ["command", "seconds", "limit"],
        [*rows, ["plain script over optpath", advantage, ">= 5"]],
        f"Medians (min..max) of {pairs} interleaved pairs; the plain script writes no report.",
    )


def _timed(command: Callable[[Path], None], storage: Path) -> float:
    """Seconds of the command in a storage folder that did not exist before."""
    try:
        return seconds(lambda: command(storage), torch.device("cpu"))
    finally:
        shutil.rmtree(storage, ignore_errors=True)


def _plain_script(storage: Path) -> None:
    script = Path(__file__).with_name("plain_script.py")
    done = run_python([script, "--storage", storage], storage.parent, ENVIRONMENT)
    assert f"{NUM_RUNS} runs, 0 failed, replay gaps {{0.0}}" in done.stdout


def _quickstart(storage: Path) -> None:
    command = ["-c", OPTPATH, "run", "quickstart", "--storage", str(storage)]
    run_python(command, storage.parent, ENVIRONMENT)
    assert len(list(storage.glob("runs/*/manifest.json"))) == NUM_RUNS
    assert (storage / "sweeps" / "quickstart" / "report.html").is_file()
