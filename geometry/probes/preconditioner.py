"""The preconditioner probe: what Adam's null model needs besides norms (INVENTORY D9 iii)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from geometry.probes.contract import Column, Probe, StepView


class PreconditionerProbe(Probe):
    """<G_t, P_t G_t> and ‖P_t G_t‖, P_t the optimizer's diagonal scaling; P = 1 if it has none."""

    name: ClassVar[str] = "preconditioner"
    needs_reference: ClassVar[bool] = False
    needs_update: ClassVar[bool] = True
    columns: ClassVar[tuple[Column, ...]] = (
        Column("preconditioned_inner", "loss", "<G_t, P_t G_t>"),
        Column("preconditioned_norm", "weight", "‖P_t G_t‖"),
    )

    @property
    def num_primitives(self) -> int:
        """The two sums."""
        return 2

    def measure(self, step: StepView, out: Tensor) -> None:
        """<G, PG> and ‖PG‖^2."""
        scaling = step.preconditioner

        def body(block: slice, scratch: Sequence[Tensor]) -> Sequence[tuple[Tensor, Tensor]]:
            gradient = step.gradient[block]
            if scaling is None:
                return (gradient, gradient), (gradient, gradient)
            scaled = scaling(block, scratch[0]).mul_(gradient)
            return (gradient, scaled), (scaled, scaled)

        self.context.reducer.sums(2, body, out)

    def derive(self, primitives: Tensor) -> Sequence[Tensor]:
        """The inner product as it is, and the norm."""
        inner, scaled_squared = primitives.unbind(1)
        return inner, scaled_squared.sqrt()
