"""The path quantities without the rows of parameters that no training example reaches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from geometry import path
from geometry.probes.contract import Column, ProbeContext, ProbeOptions, StepBlock, SumsProbe


class UsedRowsProbe(SumsProbe):
    """RSI, EB and gamma against D_t without the rows whose gradient is 0 at every step.

    Those are an embedding's rows of words that never occur. Weight decay alone moves them, Adam at
    its full learning rate (INVENTORY H4): they lengthen D_t and take no part in <G_t, D_t>. Where
    every row is used the columns are the path's own. The null model knows no weight decay, so
    null_gamma is that of used_gamma as well.
    """

    name: ClassVar[str] = "used_rows"
    needs_reference: ClassVar[bool] = True
    needs_update: ClassVar[bool] = False
    columns: ClassVar[tuple[Column, ...]] = (
        Column("used_distance", "weight", "‖w_t - w*‖ over the used rows"),
        Column("used_rsi", "loss/weight^2", "<G_t, w_t - w*> / ‖w_t - w*‖^2 over the used rows"),
        Column("used_error_bound", "loss/weight^2", "‖G_t‖ / ‖w_t - w*‖ over the used rows"),
        Column("used_gamma", "1", "cos(G_t, w_t - w*) over the used rows"),
    )

    def __init__(self, context: ProbeContext, options: ProbeOptions | None = None) -> None:
        super().__init__(context, options)
        self._used = torch.ones_like(self.reference(), dtype=torch.bool)
        unused = context.unused_rows()
        for segment in context.layout.segments:
            if segment.name in unused:
                segment.view(self._used)[unused[segment.name]] = False

    @property
    def num_primitives(self) -> int:
        """The three sums."""
        return 3

    def products(self, block: StepBlock) -> Sequence[tuple[Tensor, Tensor]]:
        """<G, D>, ‖G‖^2 and ‖D‖^2 with D zero in the unused rows, where G is."""
        displacement, used = block.displacement(self.reference()), self._used[block.span]
        kept = block.formed("used displacement", lambda out: torch.mul(displacement, used, out=out))
        return (block.gradient, kept), (block.gradient, block.gradient), (kept, kept)

    def derive(self, primitives: Tensor) -> Sequence[Tensor]:
        """Distance, RSI, EB and gamma."""
        inner, gradient_squared, distance_squared = primitives.unbind(1)
        norm, distance = gradient_squared.sqrt(), distance_squared.sqrt()
        return (
            distance,
            path.rsi(inner, distance),
            path.error_bound(norm, distance),
            path.gamma(inner, norm, distance),
        )
