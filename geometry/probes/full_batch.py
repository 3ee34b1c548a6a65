"""The full-batch gradient at w_t: the path quantities without sampling noise (INVENTORY A18, G11).

The authors' published code measures it after the epoch, against weights of before; here all is of
the same w_t, and of all training examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from geometry import path
from geometry.probes.contract import Cadence, Column, Probe, ProbeOptions, StepView
from geometry.probes.gradients import write_path_sums
from geometry.probes.path import NUM_PATH_SUMS, PATH_COLUMNS, path_columns
from geometry.surface import FULL, BatchKind

BATCH_LOSS = Column("loss", "loss", "mean loss of the batch at w_t, in train mode")


class FullBatchProbe(Probe):
    """The path columns of g = grad L(w_t) over all training examples, and cos(G_t, g)."""

    name: ClassVar[str] = "full_batch"
    table: ClassVar[str] = "full_batch"
    default_every: ClassVar[Cadence] = "epoch"
    needs_reference: ClassVar[bool] = True
    needs_update: ClassVar[bool] = False
    columns: ClassVar[tuple[Column, ...]] = (
        BATCH_LOSS,
        *PATH_COLUMNS,
        Column("minibatch_cosine", "1", "cos(G_t, g), G_t the gradient of the step's minibatch"),
    )

    @classmethod
    def batches(cls, options: ProbeOptions) -> frozenset[BatchKind]:
        """The whole training set."""
        return frozenset({"full"})

    @classmethod
    def extra_gradients(cls, options: ProbeOptions, batches_per_pass: int) -> float:
        """One pass."""
        return batches_per_pass

    @classmethod
    def num_vectors(cls, options: ProbeOptions) -> int:
        """The gradient."""
        return 1

    @property
    def num_primitives(self) -> int:
        """The loss, the path sums, <g, G> and ‖G‖^2."""
        return 1 + NUM_PATH_SUMS + 2

    def measure(self, step: StepView, out: Tensor) -> None:
        """One full-batch gradient and its sums."""
        reference, gradient = self.reference(), torch.empty_like(step.weights)
        out[0] = self.surface().gradient(FULL, step.weights, gradient)
        write_path_sums(self.context, step, gradient, reference, out[1:], step.gradient)

    def derive(self, primitives: Tensor) -> Sequence[Tensor]:
        """The loss, the path columns, the cosine."""
        loss, inner, squared, distance_squared, crossed, own_squared = primitives.unbind(1)
        cosine = path.gamma(crossed, squared.sqrt(), own_squared.sqrt())
        return [loss, *path_columns(inner, squared, distance_squared), cosine]
