"""The weight-decay probe: geometry of the decayed gradient G_t + lambda w_t (INVENTORY A15)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from geometry.probes.contract import Column, Probe, StepView


class WeightDecayProbe(Probe):
    """‖G_t + lambda w_t‖ and <G_t + lambda w_t, w_t - w*>; equal to G's own where lambda is 0."""

    name: ClassVar[str] = "weight_decay"
    needs_reference: ClassVar[bool] = True
    needs_update: ClassVar[bool] = False
    columns: ClassVar[tuple[Column, ...]] = (
        Column("decayed_gradient_norm", "loss/weight", "‖G_t + lambda w_t‖"),
        Column("decayed_inner_product", "loss", "<G_t + lambda w_t, w_t - w*>"),
    )

    @property
    def num_primitives(self) -> int:
        """The two sums."""
        return 2

    def measure(self, step: StepView, out: Tensor) -> None:
        """‖G + lambda w‖^2 and <G + lambda w, D>."""
        reference = self.reference()

        def body(block: slice, scratch: Sequence[Tensor]) -> Sequence[tuple[Tensor, Tensor]]:
            weights, gradient = step.weights[block], step.gradient[block]
            decayed = torch.add(gradient, weights, alpha=step.weight_decay, out=scratch[0])
            displacement = torch.sub(weights, reference[block], out=scratch[1])
            return (decayed, decayed), (decayed, displacement)

        self.context.reducer.sums(2, body, out)

    def derive(self, primitives: Tensor) -> Sequence[Tensor]:
        """The norm, and the inner product as it is."""
        decayed_squared, inner = primitives.unbind(1)
        return decayed_squared.sqrt(), inner
