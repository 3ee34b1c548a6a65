"""The preconditioner probe: what Adam's null model needs besides norms (INVENTORY D9 iii)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from geometry.probes.contract import Column, StepBlock, SumsProbe


class PreconditionerProbe(SumsProbe):
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

    def products(self, block: StepBlock) -> Sequence[tuple[Tensor, Tensor]]:
        """<G, PG> and ‖PG‖^2."""
        gradient, scaling = block.gradient, block.step.preconditioner
        if scaling is None:
            return (gradient, gradient), (gradient, gradient)
        scaled = block.formed(
            "scaled gradient", lambda out: scaling(block.span, out).mul_(gradient)
        )
        return (gradient, scaled), (scaled, scaled)

    def derive(self, primitives: Tensor) -> Sequence[Tensor]:
        """The inner product as it is, and the norm."""
        inner, scaled_squared = primitives.unbind(1)
        return inner, scaled_squared.sqrt()
