"""Fixed schedules: pure functions of the step that scale the configured learning rate."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar

from pydantic import Field, model_validator

from trainables.schedules.contract import Pace, ScheduleConfig, Training


class FixedSchedule(ScheduleConfig):
    """eta_t = learning_rate * factor(t). A factor of 0 is allowed (P1's warm-up starts with it)."""

    @abstractmethod
    def factor(self, step: int, training: Training) -> float:
        """The factor of step t in 0..num_steps-1; a pure function, called once per step."""

    def scales_weight_decay(self) -> bool:
        """True if the weight decay is multiplied by the same factor."""
        return False

    def start(self, training: Training) -> Pace:
        """The pace that asks `factor`."""
        return _FixedPace(self, training)


class _FixedPace(Pace):
    def __init__(self, schedule: FixedSchedule, training: Training) -> None:
        self._schedule = schedule
        self._training = training

    def factor(self, step: int) -> float:
        return self._schedule.factor(step, self._training)

    def weight_decay_factor(self, step: int) -> float:
        return self.factor(step) if self._schedule.scales_weight_decay() else 1.0


class Constant(FixedSchedule):
    """factor(t) = 1."""

    name: ClassVar[str] = "constant"
    depends_on_budget: ClassVar[bool] = False

    def factor(self, step: int, training: Training) -> float:
        """1 at every step."""
        return 1.0


class LinearDecay(FixedSchedule):
    """factor(t) = 1 - t / T: linear from 1, reaching 0 one step after the last."""

    name: ClassVar[str] = "linear_decay"
    depends_on_budget: ClassVar[bool] = True

    def factor(self, step: int, training: Training) -> float:
        """1 - t / T."""
        return 1.0 - step / training.num_steps


class WarmupCosine(FixedSchedule):
    """Linear warm-up over W steps from exactly 0, then half a cosine period to 0 at step T.

    factor(t) = t / W for t < W, else (1 + cos(pi (t - W) / (T - W))) / 2, per step.
    Source: P1 appendix A.4 (ImageNet) and the authors' LambdaLR, INVENTORY B0.
    """

    name: ClassVar[str] = "warmup_cosine"
    depends_on_budget: ClassVar[bool] = True

    warmup_epochs: float = Field(default=3.0, ge=0)
    """Length of the warm-up in epochs (P1 appendix A.4: 3), all as long as the first one."""

    def factor(self, step: int, training: Training) -> float:
        """The warm-up's line, then the cosine."""
        num_steps = training.num_steps
        warmup = min(round(self.warmup_epochs * training.calendar.steps_per_epoch), num_steps)
        if step < warmup:
            return step / warmup
        return 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / (num_steps - warmup)))


class Milestones(FixedSchedule):
    """factor(t) = gamma^(number of milestone epochs <= epoch of t); epochs count from 0."""

    name: ClassVar[str] = "milestones"
    depends_on_budget: ClassVar[bool] = False

    epochs: tuple[int, ...]
    """The epochs from which on the factor is multiplied by `decay`, ascending."""
    decay: float = Field(default=0.1, gt=0)
    """The multiplier at each milestone (P1 appendix A.4, Vaihingen: 0.1)."""
    weight_decay: bool = False
    """The weight decay is multiplied at each milestone too (P1 appendix A.4, Vaihingen)."""

    @model_validator(mode="after")
    def _ascending(self) -> Milestones:
        if list(self.epochs) != sorted(set(self.epochs)) or any(e < 0 for e in self.epochs):
            raise ValueError(f"milestone epochs must ascend from 0 on, not {list(self.epochs)}")
        return self

    def factor(self, step: int, training: Training) -> float:
        """`decay` to the number of milestones passed."""
        epoch, _ = training.calendar.place(step)
        passed = sum(milestone <= epoch for milestone in self.epochs)
        return float(self.decay**passed)

    def scales_weight_decay(self) -> bool:
        """If it was asked for."""
        return self.weight_decay
