"""Exponential warm-up to a change point, then half a cosine period: fixed, or geometry-adapted.

Notation: k counts steps (or epochs) from 0, K steps in all, h the window, f_k the factor of the
configured learning rate eta_0, t the change point, a step.

    warm-up   f_0 = 1,  f_k = exp(omega k) f_{k-1} = exp(omega k (k + 1) / 2)     k <= t
    decay     f_k = f_t (1 + cos(pi (k - t) / (K - t))) / 2                       k > t

Source: P2 section 5.2; INVENTORY D7, K21, K22.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from geometry.correlation import causal_mean_correlation, correlation
from geometry.reductions import RowReducer
from trainables.schedules.contract import Pace, ScheduleConfig, Training

LARGEST_EXPONENT = 700.0
"""exp of more overflows float64; any float32 weight is infinite long before."""

FALLBACK_SHARE = 0.1
"""Share of the training after which GAWU gives up waiting; ours, untuned (INVENTORY D7)."""

NUM_MINIBATCHES = 6
"""Minibatch gradients at w_0 behind GAWU's warning: 5 correlations; ours, untuned."""

NOISE_DEVIATIONS = 2.0
"""A mean correlation within this many of its standard deviations of 0 may have any sign; ours."""


class _WarmUp(ScheduleConfig):
    """What both warm-ups have in common."""

    depends_on_budget: ClassVar[bool] = True

    omega: float = Field(default=0.1, gt=0)
    """The warm-up's exponent per step or epoch (P2 section 5.2: 0.1)."""
    growth: Literal["recursive", "plain"] = "recursive"
    """recursive: f_k = exp(omega k) f_{k-1}, the paper's formula; plain: f_k = exp(omega k)."""
    unit: Literal["step", "epoch"] = "step"
    """What k counts in the warm-up (the paper says both); the decay is by step."""
    max_learning_rate: float | None = Field(default=None, gt=0)
    """The warm-up goes no higher than this; none: no cap."""

    def steps(self, count: int, training: Training) -> int:
        """A number of units in steps."""
        return training.calendar.start(count) if self.unit == "epoch" else count

    def warm_up(self, step: int, training: Training) -> float:
        """The factor f_k of a step of the warm-up, capped."""
        k = step if self.unit == "step" else training.calendar.place(step)[0]
        exponent = self.omega * (k if self.growth == "plain" else k * (k + 1) / 2)
        factor = math.exp(min(exponent, LARGEST_EXPONENT))
        if self.max_learning_rate is None:
            return factor
        return min(factor, self.max_learning_rate / training.learning_rate(step))


class WU(_WarmUp):
    """Warm-up to a change point chosen beforehand."""

    name: ClassVar[str] = "wu"

    change_point: int = Field(default=12, ge=0)
    """t, in units of k (P2 section 5.2: 5, 10, 12; 12 was the best of its grid)."""

    def start(self, training: Training) -> Pace:
        """The warm-up whose change point is known from the start."""
        return _FixedWarmUp(self, training)


class GAWU(_WarmUp):
    """Warm-up until the mean gradient correlation drops below zero after it has been positive.

    c_k = cos(g_{k-1}, g_k), g the gradient of the step's loss; m_k = mean(c_{k-h+2}, ..., c_k), the
    causal mean. t is the first k with m_k < 0 after some m_j > 0, j < k: zeros and undefined values
    between do not count. Known at step k before its update, so step t itself still takes f_t.
    """

    name: ClassVar[str] = "gawu"
    follows_gradients: ClassVar[bool] = True

    window: int = Field(default=5, ge=2)
    """h, the gradients of one mean (P2 section 2: 5; not restated for GAWU)."""
    latest_change_point: int | None = Field(default=None, ge=0)
    """t where the mean never drops, in units of k; none: a tenth of the steps."""

    def start(self, training: Training) -> Pace:
        """The warm-up that follows the gradients."""
        return _AdaptedWarmUp(self, training)


class _WarmUpPace(Pace):
    """Warm-up, change point, decay; subclasses find the change point."""

    def __init__(self, schedule: _WarmUp, training: Training) -> None:
        self._schedule = schedule
        self._training = training
        self.change_step: int | None = None
        """t, once it is known."""

    @property
    @abstractmethod
    def reason(self) -> str | None:
        """Why the change point is where it is."""

    def factor(self, step: int) -> float:
        change, training = self.change_step, self._training
        if change is None or step <= change:
            return self._schedule.warm_up(step, training)
        share = (step - change) / (training.num_steps - change)
        return self._schedule.warm_up(change, training) * (1 + math.cos(math.pi * share)) / 2

    def report(self) -> dict[str, Any]:
        """The change point and why it is there; None where the warm-up lasts to the end."""
        change, training = self.change_step, self._training
        names = ("change_step", "change_reason", "peak_learning_rate")
        values: tuple[Any, ...] = (None, None, None)
        if change is not None and change < training.num_steps:
            peak = self._schedule.warm_up(change, training) * training.learning_rate(change)
            values = (change, self.reason, peak)
        return {f"schedule_{name}": value for name, value in zip(names, values, strict=True)}


class _FixedWarmUp(_WarmUpPace):
    def __init__(self, schedule: WU, training: Training) -> None:
        super().__init__(schedule, training)
        self.change_step = schedule.steps(schedule.change_point, training)

    @property
    def reason(self) -> str:
        return "given"


class _AdaptedWarmUp(_WarmUpPace):
    """Keeps one gradient and h - 1 correlations, until the change point is found."""

    num_minibatches: ClassVar[int] = NUM_MINIBATCHES

    def __init__(self, schedule: GAWU, training: Training) -> None:
        super().__init__(schedule, training)
        latest = schedule.latest_change_point
        self._latest_step = (
            round(FALLBACK_SHARE * training.num_steps)
            if latest is None
            else schedule.steps(latest, training)
        )
        self._window = schedule.window
        self._dropped = False
        self._has_been_positive = False
        self._correlations: deque[float] = deque(maxlen=schedule.window - 1)
        self._previous: Tensor | None = None
        self._previous_squared = torch.zeros((), dtype=torch.float64)
        self._reducer: RowReducer | None = None

    @property
    def reason(self) -> str | None:
        if self.change_step is None:
            return None
        return "correlation below zero" if self._dropped else "fallback"

    def observe(self, step: int, gradient: Tensor) -> None:
        if self.change_step is not None:
            return
        self._add(gradient)
        mean = self.causal_mean()
        self._dropped = self._has_been_positive and mean < 0
        self._has_been_positive |= mean > 0
        if self._dropped or step >= self._latest_step:
            self.change_step = step
            self._previous = self._reducer = None

    def causal_mean(self) -> float:
        """m_k after step k; NaN until there are h - 1 correlations, or where one is undefined."""
        adjacent = torch.tensor([math.nan, *self._correlations], dtype=torch.float64)
        return causal_mean_correlation(adjacent, self._window)[-1].item()

    def _add(self, gradient: Tensor) -> None:
        """Append c_k, and keep g_k in the place of g_{k-1}, which is zero at k = 0."""
        previous = torch.zeros_like(gradient) if self._previous is None else self._previous
        self._previous = previous = previous.to(gradient.device)  # a checkpoint's is on the host
        self._reducer = self._reducer or RowReducer(len(gradient), gradient.device, gradient.dtype)
        sums = torch.empty(2, device=gradient.device, dtype=torch.float64)
        self._reducer.sums(
            2,
            lambda block, _: [
                (gradient[block], gradient[block]),
                (previous[block], gradient[block]),
            ],
            sums,
        )
        squared, product = sums.cpu()
        self._correlations.append(correlation(product, self._previous_squared, squared).item())
        self._previous_squared = squared
        previous.copy_(gradient)

    def state(self) -> dict[str, Tensor]:
        """The change point, the latch, the correlations, the last gradient."""
        change = -1 if self.change_step is None else self.change_step
        state = {
            "flags": torch.tensor([change, self._dropped, self._has_been_positive]),
            "correlations": torch.tensor(list(self._correlations), dtype=torch.float64),
            "previous_squared": self._previous_squared,
        }
        return state if self._previous is None else {**state, "previous": self._previous}

    def load(self, state: Mapping[str, Tensor]) -> None:
        change, dropped, positive = state["flags"].tolist()
        self.change_step = None if change < 0 else change
        self._dropped, self._has_been_positive = bool(dropped), bool(positive)
        self._correlations.clear()
        self._correlations.extend(state["correlations"].tolist())
        self._previous_squared = state["previous_squared"].clone()
        self._previous = state["previous"].clone() if "previous" in state else None

    def warning(self, correlations: Sequence[float]) -> str | None:
        """The mean correlation and the noise of a mean of h - 1 of them, if that is larger.

        Two independent minibatch gradients at the same weights correlate as much as any two steps'
        can; noise is 2 standard deviations over sqrt(h - 1).
        """
        values = torch.tensor(correlations, dtype=torch.float64)
        mean = values.mean().item()
        noise = NOISE_DEVIATIONS * values.std().item() / math.sqrt(self._window - 1)
        if mean > noise:
            return None
        return (
            f"schedule gawu: minibatch gradients at w_0 correlate by {mean:.2g}, not above the "
            f"noise of their mean over {self._window - 1} steps, {noise:.2g}: the change point is "
            "left to chance; give a larger batch_size"
        )
