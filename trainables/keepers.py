"""Vectors that the reference pass keeps besides w*: running averages, the best iterate."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from geometry.probes.contract import OtherReference, StepView
from trainables.record import Evaluation, Kept, ReferenceRecord
from trainables.trajectory import Trajectory, fingerprint

VALIDATION_LOSS = "validation_loss"
"""What the best iterate has least of: every task has it, and less is better for every task."""


class Keeper(ABC):
    """An observer of the reference pass that keeps one vector for each of its budgets' ends.

    Its state travels through the pass's checkpoints; a pass that resumes from one without it
    starts again at t = 0.
    """

    needs_update = False

    def __init__(self, reference: OtherReference, ends: Collection[int]) -> None:
        self.label = reference.label
        self.ends = frozenset(ends)
        self._vector = torch.empty(0)

    @property
    def run_id(self) -> str:
        """Its name in a checkpoint."""
        return f"kept.{self.label}"

    def covered(self, record: ReferenceRecord) -> bool:
        """True if the record has the vector of every end."""
        return all(record.kept_vector(self.label, end) for end in self.ends)

    def before_update(self, view: StepView, loss: Tensor) -> None:  # noqa: B027
        """See w_t; not every keeper looks."""

    def after_update(self, view: StepView) -> None:  # noqa: B027
        """Not called: `needs_update` is false."""

    def at_boundary(self, trajectory: Trajectory, evaluation: Evaluation) -> None:  # noqa: B027
        """See the weights at an epoch's or a budget's end, with what the cadence evaluates."""

    @abstractmethod
    def kept(self, trajectory: Trajectory) -> tuple[Kept, Tensor]:
        """The vector of the budget that ends here, and its record."""

    def _kept(self, end: int, step: int, vector: Tensor) -> tuple[Kept, Tensor]:
        name = self.label.replace(" ", "-")
        kept = Kept(
            label=self.label,
            end=end,
            step=step,
            file=f"references/{end}-{name}.safetensors",
            fingerprint=fingerprint(vector),
        )
        return kept, vector

    def state(self) -> dict[str, Tensor]:
        """What it holds, for a checkpoint."""
        return {f"{self.run_id}/state/vector": self._vector}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take up what `state` gave."""
        self._vector = state[f"{self.run_id}/state/vector"]


class RunningAverage(Keeper):
    """e_t = d e_{t-1} + (1 - d) w_t, e_0 = w_0; kept at t = T, w_T included."""

    def __init__(self, reference: OtherReference, ends: Collection[int]) -> None:
        super().__init__(reference, ends)
        self._weight = 1 - reference.number

    def before_update(self, view: StepView, loss: Tensor) -> None:
        """Take w_t in."""
        if view.step == 0:
            self._vector = view.weights.clone()
        else:
            self._vector = self._vector.to(view.weights.device)
            self._vector.lerp_(view.weights, self._weight)

    def kept(self, trajectory: Trajectory) -> tuple[Kept, Tensor]:
        """e_T."""
        average = torch.lerp(self._vector, trajectory.flat.weights, self._weight)
        return self._kept(trajectory.step, trajectory.step, average)


class BestIterate(Keeper):
    """The weights at the evaluated epoch end of least validation loss, the first of equal ones.

    A budget without an evaluated epoch end has its own end for it.
    """

    def __init__(self, reference: OtherReference, ends: Collection[int]) -> None:
        super().__init__(reference, ends)
        self._loss = math.inf
        self._step = 0

    def at_boundary(self, trajectory: Trajectory, evaluation: Evaluation) -> None:
        """Keep the weights if they are better than all before."""
        loss = evaluation.get(VALIDATION_LOSS, math.inf)
        if loss < self._loss:
            self._loss, self._step = loss, trajectory.step
            self._vector = trajectory.flat.weights.clone()

    def kept(self, trajectory: Trajectory) -> tuple[Kept, Tensor]:
        """The best so far."""
        if not len(self._vector):
            return self._kept(trajectory.step, trajectory.step, trajectory.flat.weights)
        return self._kept(trajectory.step, self._step, self._vector)

    def state(self) -> dict[str, Tensor]:
        """The vector, its loss and its step."""
        best = torch.tensor([self._loss, self._step], dtype=torch.float64)
        return {**super().state(), f"{self.run_id}/state/best": best}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take up what `state` gave."""
        super().load(state)
        loss, step = state[f"{self.run_id}/state/best"].tolist()
        self._loss, self._step = loss, int(step)


KEEPERS: dict[str, type[Keeper]] = {"ema": RunningAverage, "best_validation": BestIterate}
"""Kind of reference -> what keeps it; the other kinds are weights that a pass has anyway."""


def keepers_for(wanted: Mapping[OtherReference, Collection[int]]) -> list[Keeper]:
    """The keepers of those references, each with the ends of the budgets that ask for it."""
    return [KEEPERS[r.kind](r, ends) for r, ends in wanted.items() if r.kind in KEEPERS]
