"""Planted data: runs of which every number is chosen, as a sweep that needs no file.

Every claim brings planted data for each word that it can reach (`Claim.planted`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from analysis.runs import Sweep, sweep_from

SEEDS = (0, 1, 2)
"""Enough for an interval."""
JITTER = 0.01
"""Relative difference from seed to seed: an interval that is not empty, and narrow."""


@dataclass(frozen=True)
class PlantedRun:
    """A run and its tables; `steps` are the columns of the steps table."""

    axes: Mapping[str, Any]
    steps: Mapping[str, NDArray[np.float64]]
    steps_per_epoch: int = 10
    num_steps: int = 0
    config: Mapping[str, Any] = field(default_factory=dict)
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    schedule: Mapping[str, Any] = field(default_factory=dict)
    ablation: str = "planted"
    status: str = "done"
    replay_exact: bool | None = True
    regime: str | None = "interpolating"

    @property
    def length(self) -> int:
        """Number of steps."""
        return self.num_steps or len(next(iter(self.steps.values())))


def path_steps(
    num_steps: int,
    gamma: ArrayLike,
    null_gamma: ArrayLike | None = None,
    *,
    distance: ArrayLike | None = None,
    gradient_norm: ArrayLike = 1.0,
    learning_rate: ArrayLike = 0.1,
    loss: ArrayLike = 1.0,
) -> dict[str, NDArray[np.float64]]:
    """Steps of a path whose columns agree with each other.

    rsi, error_bound, local_lr and inner_product follow from gamma, distance and gradient norm, the
    null's from null_gamma, (T - t)^-1/2 by default, and its distance, eta ‖G‖ (T - t)^1/2. The
    measured distance is the null's by default.
    """
    to_come = np.arange(num_steps, 0, -1.0)
    norm, eta = full(num_steps, gradient_norm), full(num_steps, learning_rate)
    null_distance = eta * norm * np.sqrt(to_come)
    cosine = full(num_steps, gamma)
    null = to_come**-0.5 if null_gamma is None else full(num_steps, null_gamma)
    far = null_distance if distance is None else full(num_steps, distance)
    return {
        "loss": full(num_steps, loss),
        "learning_rate": eta,
        "gamma": cosine,
        "distance": far,
        "gradient_norm": norm,
        "inner_product": cosine * norm * far,
        "rsi": cosine * norm / far,
        "error_bound": norm / far,
        "local_lr": cosine * far / norm,
        "null_gamma": null,
        "null_gamma_closed": to_come**-0.5,
        "null_rsi": null * norm / null_distance,
        "null_error_bound": norm / null_distance,
        "null_local_lr": null * null_distance / norm,
        "null_distance": null_distance,
    }


def full(num_steps: int, values: ArrayLike) -> NDArray[np.float64]:
    """One value per step, from a number or from one value per step."""
    return np.broadcast_to(np.asarray(values, dtype=float), (num_steps,)).copy()


def jitter(seed: float) -> float:
    """The factor of a seed, near 1; their mean over SEEDS is 1."""
    return 1 + JITTER * (seed - 1)


def labelled(columns: Mapping[str, Mapping[Any, ArrayLike]], num_steps: int) -> pd.DataFrame:
    """A long table: column -> label -> one value per step."""
    names = list(next(iter(columns.values())))
    steps = np.tile(np.arange(num_steps), len(names))
    values = {
        column: np.concatenate([full(num_steps, by_label[name]) for name in names])
        for column, by_label in columns.items()
    }
    labels = np.repeat(np.array([str(name) for name in names], dtype=object), num_steps)
    return pd.DataFrame({"step": steps, "label": labels, **values})


def planted_sweep(runs: Sequence[PlantedRun]) -> Sweep:
    """The runs as a sweep."""
    return sweep_from("planted", _Memory(runs))


class _Memory:
    """A source of tables that were never written."""

    where = "memory"

    def __init__(self, runs: Sequence[PlantedRun]) -> None:
        self._runs = {f"r{index}": run for index, run in enumerate(runs)}
        self._steps: dict[str, pd.DataFrame] = {}

    def plan(self) -> dict[str, Any]:
        runs = self._runs.values()
        axes: dict[str, dict[str, None]] = {}
        for run in runs:
            axes.setdefault(run.ablation, {}).update(dict.fromkeys(run.axes))
        return {
            "name": "planted",
            "ablations": {label: {"axes": list(names)} for label, names in axes.items()},
            "runs": [_entry(run_id, run) for run_id, run in self._runs.items()],
        }

    def spec(self) -> str | None:
        return None

    def manifest(self, run_id: str) -> dict[str, Any] | None:
        run = self._runs[run_id]
        return {
            "status": run.status,
            "replay_exact": run.replay_exact,
            "regime": run.regime,
            "num_steps": run.length,
            "steps_per_epoch": run.steps_per_epoch,
            "diverged_at_step": 1 if run.status == "diverged" else None,
            "metrics": dict(run.metrics),
            "schedule": dict(run.schedule),
            "files": {f"{name}.parquet": "" for name in ("steps", *run.tables)},
        }

    def state(self, run_id: str, trajectory_id: str) -> tuple[str, str]:
        return "not started", "not started"

    def column_names(self, run_id: str, name: str) -> Sequence[str]:
        table = self.table(run_id, name, None)
        return () if table is None else list(table.columns)

    def table(self, run_id: str, name: str, columns: Sequence[str] | None) -> pd.DataFrame | None:
        run = self._runs[run_id]
        if name != "steps":
            return run.tables.get(name)
        if not run.steps:
            return None
        if run_id not in self._steps:
            step = np.arange(run.length)
            place = {"run_id": run_id, "step": step, "epoch": step // run.steps_per_epoch}
            self._steps[run_id] = pd.DataFrame({**place, **run.steps})
        table = self._steps[run_id]
        return table if columns is None else table[[c for c in table.columns if c in columns]]


def _entry(run_id: str, run: PlantedRun) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "trajectory_id": run_id,
        "config": {**run.config, **run.axes},
        "ablations": [run.ablation],
        "axes": dict(run.axes),
        "num_steps": run.length,
        "steps_per_epoch": run.steps_per_epoch,
    }
