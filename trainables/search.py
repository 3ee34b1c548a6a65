"""A tuning trial: the reference pass of one configuration, epoch by epoch, that keeps nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from geometry.recorder import Recorder
from trainables.config import RunConfig
from trainables.environment import make_deterministic
from trainables.job import drive
from trainables.record import Evaluation
from trainables.trajectory import Trajectory

SPLITS = ("train", "validation")
"""The test split is for the configuration that was chosen."""


@dataclass(frozen=True)
class TrialProgress:
    """An evaluation on the way: epoch from 0, its values by name, whether it is the last one."""

    epoch: int
    evaluation: Evaluation
    done: bool


class TrialDiverged(Exception):
    """A trial's loss is no number: it has no value, and says so."""

    def __init__(self, step: int) -> None:
        super().__init__(f"diverged at step {step}")
        self.step = step


def search_trial(
    config: RunConfig, data_root: Path, device: torch.device, num_threads: int
) -> Iterator[TrialProgress]:
    """Train to the end of the budget; yields where an evaluation is due.

    Evaluations are due as in the reference pass, and at the budget's end. Nothing is measured and
    nothing is stored: the chosen configuration is trained again by the sweep itself.

    Raises:
        TrialDiverged: a loss was not finite.
    """
    make_deterministic(config, num_threads)
    task = config.task.bind(config, data_root, device)
    trajectory = Trajectory(config, task, device)
    num_steps = config.budget.num_steps(task.calendar)
    losses = Recorder([], task.steps_per_epoch, device)
    for step in drive(trajectory, [num_steps], [], [losses]):
        _check(losses)
        epoch, _ = task.calendar.place(step - 1)
        at_epoch_end = task.calendar.place(step)[1] == 0
        due = at_epoch_end and (epoch + 1) % config.evaluate_every_epochs == 0
        if due or step == num_steps:
            yield TrialProgress(epoch, _evaluate(trajectory), step == num_steps)


def _check(losses: Recorder) -> None:
    steps, values, _ = losses.flush()
    broken = steps[~torch.isfinite(values)].tolist()
    if broken:
        raise TrialDiverged(broken[0])


def _evaluate(trajectory: Trajectory) -> Evaluation:
    values = {
        f"{split}_{name}": value
        for split in SPLITS
        for name, value in trajectory.evaluate(split).items()
    }
    return {name: value for name, value in values.items() if math.isfinite(value)}
