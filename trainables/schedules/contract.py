"""The contract of a schedule: options, and the pace that they set on one trajectory."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from trainables.length import Calendar
from trainables.registry import Member


@dataclass(frozen=True)
class Curve:
    """The locally optimal learning rates of a stored run, which a schedule may follow."""

    run_id: str
    local_lr: Tensor
    """<G_t, w_t - w*> / ‖G_t‖^2 of that run, float64 [T] on the host; NaN where undefined."""

    def digest(self) -> str:
        """SHA-256 of the values' bytes, hexadecimal: another curve is another training."""
        return hashlib.sha256(self.local_lr.numpy().tobytes()).hexdigest()


@dataclass(frozen=True)
class Training:
    """What a schedule knows of the training whose learning rate it sets."""

    num_steps: int
    """T."""
    calendar: Calendar
    """Which step belongs to which epoch."""
    learning_rate: Callable[[int], float]
    """Of a step, the configured learning rate at its batch size, which factors multiply."""
    curve: Curve | None = None
    """That of the run which the schedule follows; None if it follows none."""


class Pace(ABC):
    """A schedule at work on one trajectory: eta_t = learning_rate * factor(t).

    A pace may follow the gradients. What it keeps of them is part of the trajectory's state, so
    that a replay and a resumed pass take the same steps.
    """

    num_minibatches: ClassVar[int] = 0
    """Minibatch gradients at w_0 whose correlations `warning` judges; 0: it judges none."""

    @abstractmethod
    def factor(self, step: int) -> float:
        """The factor of step t; of a pace that follows gradients, once it has seen steps 0..t-1."""

    def weight_decay_factor(self, step: int) -> float:
        """lambda_t / lambda, the weight decay's own factor; 1 unless the schedule says other."""
        return 1.0

    def observe(self, step: int, gradient: Tensor) -> None:  # noqa: B027  (most see nothing)
        """See G_t, flat, shape [P], before update t; called at every step in order."""

    def state(self) -> dict[str, Tensor]:
        """What it keeps from step to step, by name; empty for most."""
        return {}

    def load(self, state: Mapping[str, Tensor]) -> None:  # noqa: B027  (as little as `state`)
        """Take up what `state` gave."""

    def report(self) -> dict[str, Any]:
        """What has happened so far, as plain values for the runs table; names begin `schedule_`."""
        return {}

    def warning(self, correlations: Sequence[float]) -> str | None:
        """What is wrong with following gradients of this batch size, in one line; None: nothing.

        `correlations` are those of successive independent minibatch gradients at w_0.
        """
        return None


class ScheduleConfig(Member, ABC):
    """Options of one schedule."""

    depends_on_budget: ClassVar[bool]
    """True if the factors change with the number of steps: then budgets are not prefixes."""
    follows_gradients: ClassVar[bool] = False
    """True if the factors depend on the gradients seen."""

    def followed(self) -> ScheduleConfig | None:
        """The schedule of the run whose local learning rates it follows; None: it follows none."""
        return None

    @abstractmethod
    def start(self, training: Training) -> Pace:
        """The schedule at work on a trajectory that stands at t = 0."""
