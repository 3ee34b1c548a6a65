"""Fixtures that several folders of tests share."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from sweeps.identity import run_id, trajectory_id
from tests.trainables.tracked import Planted
from trainables.config import RunConfig
from trainables.store import Store, write_sealed, write_table, write_yaml
from trainables.tables import step_columns
from trainables.tracking import Connection

NUM_THREADS = 1
"""Two processes test at a time (pyproject.toml); more threads than cores wait for each other."""
EVALUATIONS = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy")


@pytest.fixture(autouse=True)
def _process_settings() -> None:
    """Start every test with a new process's settings: a pass, in a fixture too, leaves its own."""
    torch.set_num_threads(NUM_THREADS)
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = True  # type: ignore[attr-defined]


@pytest.fixture
def plant_sweep(tmp_path: Path) -> Callable[..., tuple[Store, list[dict[str, Any]]]]:
    """A store with a sweep over batch size and seed whose runs hold drawn numbers, all finished."""

    def plant(
        name: str = "planted", *, root: Path | None = None, num_epochs: int = 5, num_runs: int = 2
    ) -> tuple[Store, list[dict[str, Any]]]:
        store = Store(root or tmp_path / "store")
        entries = [_entry(16 * 2**i, seed=i) for i in range(num_runs)]
        plan = {"name": name, "title": "Planted", "description": "", "question": "Is it there?"}
        write_sealed(store.sweep(name).path / "plan.json", {**plan, "runs": entries})
        write_yaml(store.sweep(name).path / "spec.yaml", {"name": name})
        for entry in entries:
            plant_run(store, entry, num_epochs)
        return store, entries

    return plant


@pytest.fixture(autouse=True)
def no_server_of_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is sent to where the user's own runs are."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's schema and nothing in it: its migrations take seconds."""
    path = tmp_path_factory.mktemp("schema") / "mlflow.db"
    Connection(f"sqlite:///{path}")
    return path


@pytest.fixture
def planted(plant_sweep: Any, empty_database: Path) -> Planted:
    """A finished sweep, and in its storage a database that has nothing of it yet."""
    store, entries = plant_sweep()
    shutil.copy(empty_database, store.root / "mlflow.db")
    return store, entries


def plant_run(store: Store, entry: dict[str, Any], num_epochs: int) -> None:
    """Write a finished run with drawn numbers, the last epoch's evaluation undefined."""
    folder = store.run(entry["run_id"])
    write_yaml(folder.path / "config.yaml", entry["config"])
    epochs = _epochs(entry["run_id"], num_epochs)
    write_table(folder.path / "epochs.parquet", epochs)
    write_table(folder.path / "steps.parquet", pd.DataFrame({"run_id": [entry["run_id"]] * 3}))
    manifest = {
        "run_id": entry["run_id"],
        "trajectory_id": entry["trajectory_id"],
        "config": entry["config"],
        "status": "done",
        "replay_exact": True,
        "regime": "interpolating",
        "diverged_at_step": None,
        "data_digest": "65e5b4619795efb40c1082f4c350c049e4ad552200d369b6ae99e21eef5e72c5",
        "metrics": {"last_train_loss": 0.1 + 0.2, "best_validation_accuracy": 0.9},
        "seconds": {"reference": 1.25, "replay": 1.5},
    }
    folder.write_manifest(manifest, ["config.yaml", "epochs.parquet", "steps.parquet"])


def _entry(batch_size: int, seed: int) -> dict[str, Any]:
    config = RunConfig.parse({"batch_size": batch_size, "seed": seed})
    return {
        "run_id": run_id(config),
        "trajectory_id": trajectory_id(config),
        "config": config.plain(),
        "ablations": ["epochs"],
        "axes": {"batch_size": batch_size, "seed": seed},
        "num_steps": 50,
        "steps_per_epoch": 10,
    }


def _epochs(identity: str, num_epochs: int) -> pd.DataFrame:
    generator = np.random.default_rng(int(identity, 16))
    table: dict[str, Any] = {"run_id": [identity] * num_epochs, "epoch": range(num_epochs)}
    for column in (column.name for column in step_columns()):
        for how in ("mean", "median", "std", "min", "max"):
            table[f"{column}_{how}"] = generator.normal(size=num_epochs)
    for name in EVALUATIONS:
        table[name] = [*generator.uniform(size=num_epochs - 1), np.nan]
    return pd.DataFrame(table)
