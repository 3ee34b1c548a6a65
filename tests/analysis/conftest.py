"""Synthetic stores in the layout of a real one, with planted exponents."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from trainables.store import Store, write_json, write_sealed, write_table

MEASURED = ("loss", "learning_rate", "distance", "gradient_norm", "inner_product", "rsi",
            "error_bound", "gamma", "local_lr", "null_gamma", "null_gamma_closed")  # fmt: skip
ENVIRONMENT = {"torch": "2.15.0", "device": "cpu", "num_threads": 1}
NUM_TRAIN = 1500


@dataclass
class Planted:
    """One synthetic run: its place in the sweep, its length, and gamma and null at every step."""

    axes: dict[str, Any]
    ablations: list[str]
    num_steps: int
    steps_per_epoch: int
    gamma: np.ndarray
    null: np.ndarray
    status: str = "done"
    replay_exact: bool | None = True
    config: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    judged_by: dict[str, str] | None = None


def steps_table(run_id: str, run: Planted) -> pd.DataFrame:
    step = np.arange(run.num_steps)
    distance = 3.0 * np.sqrt((run.num_steps - step) / run.num_steps)
    norm = np.full(run.num_steps, 0.7)
    inner = run.gamma * norm * distance
    return pd.DataFrame(
        {
            "run_id": run_id,
            "step": step,
            "epoch": step // run.steps_per_epoch,
            "loss": np.exp(-step / run.num_steps),
            "learning_rate": 0.01,
            "distance": distance,
            "gradient_norm": norm,
            "inner_product": inner,
            "rsi": inner / distance**2,
            "error_bound": norm / distance,
            "gamma": run.gamma,
            "local_lr": inner / norm**2,
            "null_gamma": run.null,
            "null_gamma_closed": (run.num_steps - step) ** -0.5,
        }
    )


def epochs_table(steps: pd.DataFrame) -> pd.DataFrame:
    groups = steps.groupby(["run_id", "epoch"])
    columns = {"num_steps": groups.size()}
    for name in MEASURED:
        for statistic in ("mean", "median", "std", "min", "max"):
            columns[f"{name}_{statistic}"] = getattr(groups[name], statistic)()
        columns[f"{name}_num_undefined"] = groups[name].agg(lambda values: values.isna().sum())
        columns[f"{name}_num_negative"] = groups[name].agg(lambda values: (values < 0).sum())
    table = pd.DataFrame(columns).reset_index()
    return table.assign(train_loss=0.1, validation_loss=0.2, validation_accuracy=0.9)


def write_run(store: Store, run_id: str, run: Planted) -> None:
    folder = store.run(run_id)
    steps = steps_table(run_id, run)
    write_table(folder.path / "epochs.parquet", epochs_table(steps))
    files = ["epochs.parquet"]
    if run.status == "done":
        write_table(folder.path / "steps.parquet", steps)
        files.append("steps.parquet")
    folder.write_manifest(
        {
            "run_id": run_id,
            "trajectory_id": f"t-{run_id}",
            "config": run.config,
            "status": run.status,
            "replay_exact": run.replay_exact,
            "num_steps": run.num_steps,
            "steps_per_epoch": run.steps_per_epoch,
            "diverged_at_step": 7 if run.status == "diverged" else None,
            "metrics": run.metrics,
            "regime": "interpolating",
            "regime_rule": "final train loss at most 0.05 of the initial one",
            "data_digest": "d1",
            "environment": ENVIRONMENT,
            "seconds": {"reference": 1.0, "replay": 1.0},
            **({} if run.judged_by is None else {"judged_by": run.judged_by}),
        },
        files,
    )


def write_sweep(
    root: Path,
    runs: list[Planted],
    *,
    name: str = "planted",
    axes: tuple[str, ...] = ("batch_size", "seed"),
    analysis: dict[str, Any] | None = None,
) -> Store:
    """Write a plan and its runs; a run of status 'not started' is planned and nothing else."""
    store = Store(root)
    labels = list(dict.fromkeys(label for run in runs for label in run.ablations))
    planned = [
        {
            "run_id": f"r{index:03d}",
            "trajectory_id": f"t-r{index:03d}",
            "config": run.config,
            "ablations": run.ablations,
            "axes": run.axes,
            "num_steps": run.num_steps,
            "steps_per_epoch": run.steps_per_epoch,
        }
        for index, run in enumerate(runs)
    ]
    plan = {
        "name": name,
        "title": "Planted trend",
        "description": "Synthetic runs with known exponents.",
        "question": "How does gamma depend on the batch size?",
        "base": {},
        "expects_divergence": False,
        "ablations": {label: {"axes": list(axes), "title": label} for label in labels},
        "runs": planned,
        "trajectories": [],
        "analysis": analysis or {},
        "citations": [{"name": "digits", "licence": "CC BY 4.0", "citation": "Alpaydin 1998."}],
        "created": "2024-01-01T00:00:00+00:00",
    }
    write_sealed(store.sweep(name).path / "plan.json", plan)
    (store.sweep(name).path / "spec.yaml").write_text(f"name: {name}\n")
    for entry, run in zip(planned, runs, strict=True):
        if run.status != "not started":
            write_run(store, entry["run_id"], run)
    return store


def batch_runs(
    label: str,
    exponent: float,
    null_exponent: float,
    *,
    batches: tuple[int, ...] = (16, 32, 64, 128),
    seeds: tuple[int, ...] = (0, 1, 2),
    spread: float = 0.0,
    epochs: int = 10,
    steps: int | None = None,
    walk: bool = False,
) -> list[Planted]:
    """Runs with gamma = .02 (b/16)^(exponent + spread * k_s) and null = .01 (b/16)^null_exponent.

    k_s is -1, 0, 1, ... by seed. With `walk` both carry the shape (T - t)^-1/2 and step noise.
    """
    runs = []
    for seed_index, seed in enumerate(seeds):
        for batch in batches:
            per_epoch = NUM_TRAIN // batch
            total = steps or epochs * per_epoch
            ratio = batch / 16
            shape, noise = np.ones(total), np.ones(total)
            if walk:
                shape = np.sqrt(total / (total - np.arange(total)))
                noise += 0.3 * np.random.default_rng(seed).standard_normal(total)
            tilt = exponent + spread * (seed_index - 1)
            runs.append(
                Planted(
                    axes={"batch_size": batch, "seed": seed},
                    ablations=[label],
                    num_steps=total,
                    steps_per_epoch=per_epoch,
                    gamma=0.02 * ratio**tilt * shape * noise,
                    null=0.01 * ratio**null_exponent * shape,
                    config={"batch_size": batch, "seed": seed},
                    metrics={"last_validation_accuracy": 0.9 + math.log2(ratio) / 100},
                )
            )
    return runs


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture(scope="session")
def plant() -> Callable[..., list[Planted]]:
    return batch_runs


@pytest.fixture(scope="session")
def write() -> Callable[..., Store]:
    return write_sweep


@pytest.fixture(scope="session")
def planted_run() -> type[Planted]:
    return Planted


@pytest.fixture(scope="session")
def interrupt() -> Callable[..., None]:
    """Leave the files of an unfinished or failed trajectory."""

    def leave(store: Store, run_id: str, *, step: int, error: str | None = None) -> None:
        folder = store.trajectory(f"t-{run_id}").path
        progress = {"phase": "reference", "step": step, "num_steps": 100, "updated": 10.0}
        write_json(folder / "progress.json", progress)
        if error:
            values = {"message": error, "traceback": "...", "time": 11.0}
            write_json(folder / "error.json", values)

    return leave
