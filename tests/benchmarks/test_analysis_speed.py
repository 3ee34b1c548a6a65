"""A thousand runs of 30,000 steps: seconds and memory from files to tables, a figure, a report."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from geometry.probes.registry import PROBES
from tests.benchmarks.harness import NUM_THREADS, OPTPATH, print_table, run_python
from trainables.config import RunConfig
from trainables.length import Calendar
from trainables.store import Store, write_sealed, write_table
from trainables.tables import (
    COMMON_COLUMNS,
    NULL_COLUMNS,
    epochs_table,
    step_columns,
    steps_table,
)

pytestmark = pytest.mark.benchmark

NUM_RUNS = int(os.environ.get("OPTPATH_BENCHMARK_RUNS", "1000"))
"""Fewer for a first look; the limits are for 1,000."""
NUM_STEPS = 30_000
BATCHES, RATES = (32, 64, 128, 256, 512), (0.01, 0.02, 0.05, 0.1)
NUM_TRAIN = 45_000
MEASURED_BY_DEFAULT = {
    column.name
    for columns in (
        COMMON_COLUMNS,
        NULL_COLUMNS,
        *(PROBES[probe.name].columns for probe in RunConfig().all_probes()),
    )
    for column in columns
}
"""Columns of a run with the probes that a config has where it names none."""
ALL_COLUMNS = os.environ.get("OPTPATH_BENCHMARK_COLUMNS") == "all"
"""True: every column that a steps table can have; the limits are for those of a default run."""

MEASURED = r"""
import json, re, sys, time
start = time.perf_counter()
from pathlib import Path
import analysis
spent = {"import": time.perf_counter() - start}
def timed(name, action):
    start = time.perf_counter()
    result = action()
    spent[name] = time.perf_counter() - start
    return result
sweep = timed("runs", lambda: analysis.load_sweep("thousand", Path(sys.argv[1])))
CODE
spent["cpu"] = time.process_time()
# Of this program alone: what getrusage says includes the parent's memory at its start.
highest = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
spent["GiB"] = int(highest[1]) / 2**20
print(json.dumps(spent))
"""
PARTS = {
    "epochs table": ("timed('work', lambda: sweep.epochs)", "< 10 s"),
    "full report": ("timed('work', lambda: analysis.write_report(sweep, sys.argv[2]))",
                    "< 60 s, < 3 GB"),
    "one figure": ("timed('work', lambda: analysis.figure(sweep, 'gamma').savefig('gamma.png'))",
                   "< 3 s"),
}  # fmt: skip
"""What is timed, and its limit. The figure is of a finished sweep: one that has its report."""


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("thousand")
    write_store(Store(root), NUM_RUNS)
    yield root
    shutil.rmtree(root)


def test_a_thousand_runs(storage: Path, tmp_path: Path) -> None:
    rows = []
    for name, (code, limit) in PARTS.items():
        if name != "one figure":
            shutil.rmtree(Store(storage).sweep("thousand").path / "cache", ignore_errors=True)
        script = MEASURED.replace("CODE", code)
        spent = json.loads(run_python(["-c", script, storage, tmp_path], tmp_path).stdout)
        total = sum(spent[key] for key in ("import", "runs", "work"))
        figures = [spent["import"], spent["runs"], spent["work"], total, spent["cpu"], spent["GiB"]]
        rows.append([name, *(f"{value:.2f}" for value in figures), limit])
    typed = f"{typed_figure(storage, tmp_path):.2f}"
    rows.append(["optpath figure gamma", "", "", "", typed, "", "", "< 3 s"])
    print_table(
        f"{NUM_RUNS:,} runs of {NUM_STEPS:,} steps (limits: 1,000 runs, two cores)",
        [
            "what",
            "import [s]",
            "runs table [s]",
            "itself [s]",
            "in all [s]",
            "CPU [s]",
            "peak [GiB]",
            "limit",
        ],
        rows,
        "Each row is a process of its own. The runs table's own limit is 2 s. CPU seconds are of "
        "all threads: on a machine shared with other work the wall time is longer.",
    )


def typed_figure(storage: Path, tmp_path: Path) -> float:
    """Seconds of the command, its start included."""
    start = time.perf_counter()
    options: list[str | Path] = ["--storage", storage, "--output", tmp_path]
    run_python(["-c", OPTPATH, "figure", "gamma", "thousand", *options], tmp_path)
    return time.perf_counter() - start


def write_store(store: Store, num_runs: int) -> None:
    """A sweep over batch size, learning rate and seed, all of the same number of steps."""
    seeds = -(-num_runs // (len(BATCHES) * len(RATES)))
    cells = itertools.islice(itertools.product(range(seeds), RATES, BATCHES), num_runs)
    planned = [_planned(f"{index:016x}", *cell) for index, cell in enumerate(cells)]
    about = {"axes": ["batch_size", "learning_rate.base", "seed"], "title": "equal steps"}
    plan = {
        "name": "thousand", "title": "A thousand runs", "description": "", "question": "How fast?",
        "base": {}, "expects_divergence": False, "ablations": {"equal-steps": about},
        "runs": planned, "trajectories": [], "analysis": {}, "citations": [], "created": "",
    }  # fmt: skip
    write_sealed(store.sweep("thousand").path / "plan.json", plan)
    tables = {batch: _tables(batch) for batch in BATCHES}
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        written = [
            pool.submit(_write_run, store, entry, *tables[entry["config"]["batch_size"]])
            for entry in planned
        ]
    for each in written:
        each.result()


def _planned(run_id: str, seed: int, rate: float, batch: int) -> dict[str, Any]:
    axes = {"batch_size": batch, "learning_rate.base": rate, "seed": seed}
    config = {"batch_size": batch, "learning_rate": {"base": rate, "rule": "sqrt"}, "seed": seed,
              "model": {"name": "mlp", "hidden": [128, 128]}, "budget": {"steps": NUM_STEPS},
              "optimizer": {"name": "momentum", "momentum": 0.9}}  # fmt: skip
    labels = ["equal-steps"]
    return {"run_id": run_id, "trajectory_id": f"t{run_id}", "config": config, "axes": axes,
            "ablations": labels}  # fmt: skip


def _tables(batch: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    generator = np.random.default_rng(batch)
    known = [column.name for column in step_columns()]
    names = [name for name in known if ALL_COLUMNS or name in MEASURED_BY_DEFAULT]
    left = (NUM_STEPS - np.arange(NUM_STEPS)) / NUM_STEPS
    level = 0.02 * (batch / 64) ** 0.2 * left**-0.5
    columns = {
        name: torch.from_numpy(level * generator.uniform(0.5, 1.5, NUM_STEPS)) for name in names
    }
    columns |= {"step": torch.arange(NUM_STEPS), "distance": torch.from_numpy(left**0.5)}
    per_epoch = NUM_TRAIN // batch
    steps = steps_table("", columns, Calendar.constant(per_epoch))
    evaluations: list[dict[str, float | int | str]] = [
        {"step": 0, "fingerprint": "", "epoch": epoch, "validation_loss": 1.0}
        for epoch in range(-(-NUM_STEPS // per_epoch))
    ]
    return steps, epochs_table("", steps, evaluations)


def _write_run(
    store: Store, entry: dict[str, Any], steps: pd.DataFrame, epochs: pd.DataFrame
) -> None:
    folder, run_id, config = store.run(entry["run_id"]), entry["run_id"], entry["config"]
    noise = np.random.default_rng(int(run_id, 16)).standard_normal()
    factor = config["learning_rate"]["base"] ** 0.1 * (1 + 0.01 * noise)
    files = {
        "steps.parquet": steps.assign(run_id=run_id, gamma=steps["gamma"] * factor),
        "epochs.parquet": epochs.assign(run_id=run_id, gamma_mean=epochs["gamma_mean"] * factor),
    }
    for name, table in files.items():
        write_table(folder.path / name, table)
    manifest = {
        "run_id": run_id, "trajectory_id": entry["trajectory_id"], "config": config,
        "status": "done", "replay_exact": True, "num_steps": NUM_STEPS,
        "steps_per_epoch": NUM_TRAIN // config["batch_size"], "diverged_at_step": None,
        "metrics": {"last_validation_loss": 0.1, "last_validation_accuracy": 0.9},
        "regime": "interpolating", "regime_rule": "planted", "data_digest": "planted",
        "environment": {"torch": torch.__version__, "device": "cpu"},
        "seconds": {"reference": 1.0, "replay": 1.0},
    }  # fmt: skip
    folder.write_manifest(manifest, list(files))
