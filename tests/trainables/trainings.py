"""What a schedule is told of a training, for tests that run none."""

from __future__ import annotations

import torch

from trainables.length import Calendar
from trainables.schedules.contract import Curve, Training


def training(
    num_steps: int,
    steps_per_epoch: int,
    learning_rate: float = 0.1,
    curve: tuple[float, ...] | None = None,
) -> Training:
    """A training of equal batches; the curve is planted, by default 1 throughout."""
    local_lr = torch.tensor(curve or (1.0,) * num_steps, dtype=torch.float64)
    return Training(
        num_steps,
        Calendar.constant(steps_per_epoch),
        lambda step: learning_rate,
        Curve("planted", local_lr),
    )
