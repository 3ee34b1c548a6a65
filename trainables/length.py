"""How long a training is: its budget, its growing batches, which step belongs to which epoch."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from trainables.registry import Options


@dataclass(frozen=True)
class Calendar:
    """Which step belongs to which epoch: epoch e has S_e steps, the first of them sum_{f<e} S_f.

    S_e changes only at the phases' first epochs, and the last phase has no end. Steps and epochs
    count from 0.
    """

    phases: tuple[tuple[int, int], ...]
    """(first epoch, steps per epoch from it on), in ascending order, the first at epoch 0."""

    @classmethod
    def constant(cls, steps_per_epoch: int) -> Calendar:
        """The calendar of a training whose epochs are all as long."""
        return cls(((0, steps_per_epoch),))

    @property
    def steps_per_epoch(self) -> int:
        """Steps of the first epoch. None is longer, since batches only grow."""
        return self.phases[0][1]

    @cached_property
    def _first_epochs(self) -> list[int]:
        return [epoch for epoch, _ in self.phases]

    @cached_property
    def _first_steps(self) -> list[int]:
        """The step at which each phase begins."""
        steps = [0]
        for (epoch, length), later in zip(self.phases, self._first_epochs[1:], strict=False):
            steps.append(steps[-1] + (later - epoch) * length)
        return steps

    def place(self, step: int) -> tuple[int, int]:
        """The epoch of a step, and how many steps of that epoch lie before it."""
        phase = bisect_right(self._first_steps, step) - 1
        epoch, length = self.phases[phase]
        epochs, index = divmod(step - self._first_steps[phase], length)
        return epoch + epochs, index

    def start(self, epoch: int) -> int:
        """The first step of an epoch: how many steps all the epochs before it have."""
        phase = bisect_right(self._first_epochs, epoch) - 1
        first, length = self.phases[phase]
        return self._first_steps[phase] + (epoch - first) * length

    def epochs_of(self, steps: NDArray[np.int64]) -> NDArray[np.int64]:
        """The epoch of every step; any shape."""
        phase = np.searchsorted(self._first_steps, steps, side="right") - 1
        epochs, lengths = np.array(self.phases, dtype=np.int64).T
        first = np.array(self._first_steps, dtype=np.int64)
        found: NDArray[np.int64] = epochs[phase] + (steps - first[phase]) // lengths[phase]
        return found


class BatchGrowth(Options):
    """b_e = batch_size * factor^(number of `epochs` <= e), the batch size of epoch e.

    An epoch of larger minibatches has fewer steps: each still sees every training example at most
    once, and all but those of the last, smaller minibatch. Source of the idea: Smith, Kindermans,
    Ying, Le, "Don't Decay the Learning Rate, Increase the Batch Size" (ICLR 2018).
    """

    epochs: tuple[int, ...] = ()
    """The epochs, from 1 on and ascending, from which on the batch size is multiplied."""
    factor: int = Field(default=1, ge=1)
    """The multiplier at each of them; 1: the batch size does not grow."""

    @model_validator(mode="before")
    @classmethod
    def _none_in_one_way(cls, value: object) -> object:
        """One identity for all ways to say that it does not grow."""
        if isinstance(value, Mapping) and value.get("factor") == 1:
            return {}
        return value

    @model_validator(mode="after")
    def _complete(self) -> BatchGrowth:
        if list(self.epochs) != sorted(set(self.epochs)) or any(e < 1 for e in self.epochs):
            raise ValueError(f"epochs must ascend from 1 on, not {list(self.epochs)}")
        if bool(self.epochs) != (self.factor > 1):
            raise ValueError("give both, epochs such as [10, 20] and factor such as 2, or neither")
        return self

    def __bool__(self) -> bool:
        """True if the batch size grows at all."""
        return bool(self.epochs)

    def growth(self, epoch: int) -> int:
        """b_e / b_0."""
        return int(self.factor ** bisect_right(self.epochs, epoch))


class Budget(Options):
    """Length of the training, in epochs or in steps (exactly one of them)."""

    epochs: int | None = Field(default=None, ge=1)
    """Number of passes over the training examples."""
    steps: int | None = Field(default=None, ge=1)
    """Number of optimizer steps."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Budget:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give exactly one of epochs and steps, at least 1")
        return self

    def num_steps(self, calendar: Calendar) -> int:
        """T, the number of optimizer steps."""
        return self.steps if self.steps is not None else calendar.start(self.epochs or 0)
