"""The weight-decay probe: geometry of the decayed gradient G_t + lambda w_t (INVENTORY A15)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from geometry.probes.contract import Column, StepBlock, SumsProbe


class WeightDecayProbe(SumsProbe):
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

    def products(self, block: StepBlock) -> Sequence[tuple[Tensor, Tensor]]:
        """‖G + lambda w‖^2 and <G + lambda w, D>."""
        decay = block.step.weight_decay
        decayed = block.formed(
            "decayed gradient",
            lambda out: torch.add(block.gradient, block.weights, alpha=decay, out=out),
        )
        return (decayed, decayed), (decayed, block.displacement(self.reference()))

    def derive(self, primitives: Tensor) -> Sequence[Tensor]:
        """The norm, and the inner product as it is."""
        decayed_squared, inner = primitives.unbind(1)
        return decayed_squared.sqrt(), inner
