"""The update probe: geometry of the applied update U_t = w_{t+1} - w_t (INVENTORY A16)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from geometry.probes.contract import Column, Probe, StepView


class UpdateProbe(Probe):
    """‖U_t‖ and <U_t, w_t - w*>, whose sign is normally negative."""

    name: ClassVar[str] = "update"
    needs_reference: ClassVar[bool] = True
    needs_update: ClassVar[bool] = True
    columns: ClassVar[tuple[Column, ...]] = (
        Column("update_norm", "weight", "‖w_{t+1} - w_t‖"),
        Column("update_inner_product", "weight^2", "<w_{t+1} - w_t, w_t - w*>"),
    )

    @property
    def num_primitives(self) -> int:
        """The two sums."""
        return 2

    def measure(self, step: StepView, out: Tensor) -> None:
        """‖U‖^2 and <U, D>."""
        reference = self.reference()

        def body(block: slice, scratch: Sequence[Tensor]) -> Sequence[tuple[Tensor, Tensor]]:
            weights = step.weights[block]
            update = torch.sub(step.weights_after[block], weights, out=scratch[0])
            displacement = torch.sub(weights, reference[block], out=scratch[1])
            return (update, update), (update, displacement)

        self.context.reducer.sums(2, body, out)

    def derive(self, primitives: Tensor) -> Sequence[Tensor]:
        """The norm, and the inner product as it is."""
        update_squared, inner = primitives.unbind(1)
        return update_squared.sqrt(), inner
