"""The update probe: geometry of the applied update U_t = w_{t+1} - w_t (INVENTORY A16)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from geometry.probes.contract import Column, StepBlock, SumsProbe


class UpdateProbe(SumsProbe):
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

    def products(self, block: StepBlock) -> Sequence[tuple[Tensor, Tensor]]:
        """‖U‖^2 and <U, D>."""
        update = block.update()
        return (update, update), (update, block.displacement(self.reference()))

    def derive(self, primitives: Tensor) -> Sequence[Tensor]:
        """The norm, and the inner product as it is."""
        update_squared, inner = primitives.unbind(1)
        return update_squared.sqrt(), inner
