"""How long a run is, and which step belongs to which epoch, where the batches grow too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

Growth = tuple[tuple[int, int], ...]
"""(epoch, b_e / b_0 from it on), ascending; empty where the batch size stays."""


@dataclass(frozen=True)
class Length:
    """A run of T steps: epoch e has S_e = floor(S_0 / (b_e / b_0)) of them.

    That is floor(n / b_e) exactly, for n training examples and b_e a multiple of b_0. Steps and
    epochs count from 0; the budget may cut the last epoch short.
    """

    num_steps: int
    """T."""
    steps_per_epoch: int
    """S_0, of the first epoch: none is longer."""
    growth: Growth = ()

    @cached_property
    def ends(self) -> NDArray[np.int64]:
        """One past the last step of every epoch; the last end is beyond T where T cuts it short."""
        ends, size, times = [0], self.steps_per_epoch, dict(self.growth)
        while ends[-1] < self.num_steps:
            if (epoch := len(ends) - 1) in times:
                size = max(1, self.steps_per_epoch // times[epoch])
            ends.append(ends[-1] + size)
        return np.array(ends[1:], dtype=np.int64)

    @property
    def num_epochs(self) -> int:
        """The number of epochs; one that is cut short counts."""
        return len(self.ends)

    @property
    def num_whole_epochs(self) -> int:
        """The number of epochs that are not cut short."""
        return int((self.ends <= self.num_steps).sum())

    @property
    def sizes(self) -> NDArray[np.int64]:
        """The number of steps of every epoch."""
        return np.diff(self.ends.clip(max=self.num_steps), prepend=0)

    def start(self, epoch: int) -> int:
        """The first step of one of its epochs; of those before the first, 0."""
        return 0 if epoch <= 0 else int(self.ends[epoch - 1])

    def epochs_of(self, steps: ArrayLike) -> NDArray[np.intp]:
        """The epoch of every step."""
        return np.searchsorted(self.ends, np.asarray(steps), side="right")

    def place(self, steps: ArrayLike) -> NDArray[np.float64]:
        """Steps in epochs: the middle of epoch e's steps is at e + 1/2."""
        if not self.growth:
            return np.asarray(steps, dtype=np.float64) / self.steps_per_epoch
        return np.interp(np.asarray(steps, dtype=np.float64), *self._starts)

    def steps_at(self, place: ArrayLike) -> NDArray[np.float64]:
        """The inverse of `place`."""
        if not self.growth:
            return np.asarray(place, dtype=np.float64) * self.steps_per_epoch
        starts, epochs = self._starts
        return np.interp(np.asarray(place, dtype=np.float64), epochs, starts)

    @cached_property
    def _starts(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Where epochs begin, and the last one would end; their numbers."""
        starts = np.concatenate([[0], self.ends]).astype(float)
        return starts, np.arange(len(starts), dtype=float)


def growth_of(config: Mapping[str, Any]) -> Growth:
    """How the batch size of a run's config grows."""
    own = config.get("batch_growth") or {}
    epochs, factor = own.get("epochs") or (), int(own.get("factor", 1))
    return tuple((int(epoch), factor ** (i + 1)) for i, epoch in enumerate(epochs))


def run_lengths(runs: pd.DataFrame) -> dict[str, Length]:
    """The length of every run of a table (run_id, num_steps, steps_per_epoch), by run_id.

    A column growth says how the batches grow; without it they do not.
    """
    grows = runs["growth"] if "growth" in runs.columns else [()] * len(runs)
    columns = (runs[name].astype(int) for name in ("num_steps", "steps_per_epoch"))
    rows = zip(runs["run_id"], *columns, grows, strict=True)
    return {str(run): Length(steps, first, tuple(own)) for run, steps, first, own in rows}
