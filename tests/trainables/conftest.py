"""Tiny real trainings: the embedded digits, small networks, a few steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sweeps.identity import identities
from trainables.config import RunConfig
from trainables.curves import stored_curve
from trainables.job import Job, Place, Progress, RunJob
from trainables.passes import work
from trainables.store import Store
from trainables.trajectory import Trajectory

TRAJECTORY_ID = "t"

BASE: dict[str, Any] = {
    "data": {"name": "digits", "train_examples": 96, "validation_examples": 20},
    "model": {"name": "mlp", "hidden": [8, 8]},
    "batch_size": 32,
    "learning_rate": 0.05,
    "budget": {"epochs": 3},
}
"""Three epochs of three steps."""

CNN = {"name": "cnn", "channels": [4, 8], "hidden": [8], "batch_norm": True}
AUGMENTED = {**BASE["data"], "crop_padding": 1, "flip": True}

STATEFUL: dict[str, dict[str, Any]] = {
    "plain sgd": {"optimizer": "sgd"},
    "momentum": {},
    "nesterov": {"optimizer": "nesterov"},
    "adam": {"optimizer": {"name": "adam", "weight_decay": 0.01}, "learning_rate": 0.01},
    "adamw": {"optimizer": "adamw", "learning_rate": 0.01},
    "dropout": {"model": {"name": "mlp", "hidden": [8, 8], "dropout": 0.3}},
    "augmentation": {"data": AUGMENTED},
    "schedule": {"schedule": {"name": "warmup_cosine", "warmup_epochs": 1}},
    "batch norm": {"model": CNN, "memory_format": "contiguous"},
    "channels last": {"model": CNN, "memory_format": "channels_last", "data": AUGMENTED},
    "bf16": {"precision": "bf16", "optimizer": "adam", "learning_rate": 0.01},
    "everything": {
        "model": CNN,
        "data": AUGMENTED,
        "precision": "bf16",
        "memory_format": "channels_last",
        "optimizer": "nesterov",
        "schedule": {"name": "milestones", "epochs": [1, 2]},
    },
}
"""Every kind of state and randomness that a replay must bring back."""


def do_followed(config: RunConfig, place: Place) -> str | None:
    """Do the run that a run's schedule follows, as a launch does first; None if it follows none."""
    followed = config.followed()
    if followed is None:
        return None
    run_id, trajectory_id = identities(followed)
    list(work(Job(trajectory_id, (RunJob(run_id, followed),)), place))
    return run_id


@pytest.fixture
def tiny() -> Callable[..., RunConfig]:
    """A small run; options replace those of `BASE`."""

    def build(**options: Any) -> RunConfig:
        return RunConfig.parse({**BASE, **options})

    return build


@pytest.fixture(params=STATEFUL)
def stateful(request: pytest.FixtureRequest) -> RunConfig:
    """One run per kind of state and randomness."""
    return RunConfig.parse({**BASE, **STATEFUL[request.param]})


@pytest.fixture
def trajectory(tmp_path: Path) -> Callable[[RunConfig], Trajectory]:
    """A config's trajectory at t = 0, in a process set up as a pass does."""

    def build(config: RunConfig, num_threads: int = 1) -> Trajectory:
        device = torch.device("cpu")
        place = Place(Store(tmp_path / "followed"), tmp_path, device, num_threads)
        follows = do_followed(config, place)
        curve = None if follows is None else stored_curve(place.store, follows)
        torch.set_num_threads(num_threads)
        torch.use_deterministic_algorithms(True)
        return Trajectory(config, config.task.bind(config, tmp_path, device), device, curve)

    return build


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store(tmp_path / "store")


@pytest.fixture
def finish(tmp_path: Path) -> Callable[..., list[Progress]]:
    """Do the named runs of one trajectory to the end."""

    def do(
        store: Store,
        *,
        num_threads: int = 1,
        checkpoint_seconds: float = 10.0,
        trajectory_id: str = TRAJECTORY_ID,
        **configs: RunConfig,
    ) -> list[Progress]:
        runs = tuple(RunJob(run_id, config) for run_id, config in configs.items())
        place = Place(store, tmp_path, torch.device("cpu"), num_threads, checkpoint_seconds)
        follows = do_followed(runs[0].config, place)
        return list(work(Job(trajectory_id, runs, follows=follows), place))

    return do
