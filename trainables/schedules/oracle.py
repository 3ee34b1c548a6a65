"""The oracle: a second run that takes the steps which the first one measured to be the best."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor

from trainables.errors import UserError
from trainables.registry import member_of
from trainables.schedules.contract import Curve, Pace, ScheduleConfig, Training
from trainables.schedules.fixed import Constant


def _schedules() -> dict[str, type[ScheduleConfig]]:
    from trainables.schedules.registry import SCHEDULES  # which holds the oracle itself

    return SCHEDULES


class Oracle(ScheduleConfig):
    """eta_t = min(max_learning_rate, max(0, scale * m_t)), m_t the followed run's mean local_lr.

    The followed run is the same run with schedule `of`. Its l_t = <G_t, w_t - w*> / ‖G_t‖^2 is the
    length of the step along -G_t that ends nearest to its w* (P1 section 3), and m_t the mean of
    l_s over the last `smooth_steps` steps, max(0, t - k + 1) <= s <= t. Where l_t is undefined the
    last defined value stands, before the first one the first. Where m_t is negative, w* lies
    behind: the step is 0. The learning rate itself is that of the followed run alone.
    Source of the idea: INVENTORY G22; the rule is ours.
    """

    name: ClassVar[str] = "oracle"
    depends_on_budget: ClassVar[bool] = True  # l_t looks at w*, the end of the budget

    of: Annotated[ScheduleConfig, *member_of("schedule", _schedules)] = Constant()
    """The schedule of the run that is followed."""
    scale: float = Field(default=1.0, gt=0)
    """The share of the locally optimal step that is taken; 1 - momentum makes up for momentum."""
    smooth_steps: int = Field(default=1, ge=1)
    """k, the steps of one mean; 1: the curve as it was measured."""
    max_learning_rate: float | None = Field(default=None, gt=0)
    """eta_t goes no higher than this; none: no cap."""

    @model_validator(mode="after")
    def _follows_a_run_of_its_own_pace(self) -> Oracle:
        if self.of.followed() is not None:
            raise ValueError(
                f"of: {self.of.name} follows a run itself; give a schedule such as constant"
            )
        return self

    def followed(self) -> ScheduleConfig:
        """The schedule `of`."""
        return self.of

    def start(self, training: Training) -> Pace:
        """The pace along the stored curve.

        Raises:
            UserError: there is no curve, or none of a run as long as this one.
        """
        if training.curve is None:
            raise UserError(
                f"schedule {self.name} follows a finished run of a sweep, and there is none here; "
                f"give another schedule, such as {self.of.name}"
            )
        return _OraclePace(self.rates(training.curve, training.num_steps), training)

    def rates(self, curve: Curve, num_steps: int) -> Tensor:
        """eta_t for t = 0..T-1, float64 [T]; raises UserError."""
        if len(curve.local_lr) != num_steps:
            raise UserError(
                f"schedule {self.name}: run {curve.run_id} has {len(curve.local_lr)} steps, this "
                f"one {num_steps}; give both the same budget"
            )
        smooth = trailing_mean(self._filled(curve), self.smooth_steps)
        return (self.scale * smooth).clamp(min=0.0, max=self.max_learning_rate)

    def _filled(self, curve: Curve) -> Tensor:
        defined = curve.local_lr.isfinite().nonzero().squeeze(1)
        if not len(defined):
            raise UserError(
                f"schedule {self.name}: the local learning rate of run {curve.run_id} is undefined "
                "at every step; give a run whose weights move"
            )
        steps = torch.arange(len(curve.local_lr))
        last = torch.searchsorted(defined, steps, right=True) - 1
        return curve.local_lr[defined[last.clamp(min=0)]]


def trailing_mean(values: Tensor, window: int) -> Tensor:
    """Mean of x_s over max(0, t - window + 1) <= s <= t; float64 [T] -> [T]."""
    if window == 1:
        return values
    sums = torch.cat([values.new_zeros(1), values.cumsum(0)])
    end = torch.arange(1, len(values) + 1)
    start = (end - window).clamp(min=0)
    return (sums[end] - sums[start]) / (end - start)


class _OraclePace(Pace):
    def __init__(self, rates: Tensor, training: Training) -> None:
        assert training.curve is not None, "`start` has refused that"
        self._curve = training.curve
        self._rates = rates.tolist()
        self._training = training

    def factor(self, step: int) -> float:
        rate: float = self._rates[step]
        return rate / self._training.learning_rate(step)

    def report(self) -> dict[str, Any]:
        """The run that is followed, the digest of its curve, and the share of steps of length 0."""
        return {
            "schedule_follows": self._curve.run_id,
            "schedule_curve": self._curve.digest(),
            "schedule_share_of_zeros": self._rates.count(0.0) / len(self._rates),
        }
