"""The path probe: RSI, EB and gamma of the gradient against the reference (P1 section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from geometry import path
from geometry.probes.contract import Column, StepBlock, SumsProbe

PATH_COLUMNS = (
    Column("distance", "weight", "‖w_t - w*‖"),
    Column("gradient_norm", "loss/weight", "‖G_t‖"),
    Column("inner_product", "loss", "<G_t, w_t - w*>"),
    Column(
        "rsi",
        "loss/weight^2",
        "<G_t, w_t - w*> / ‖w_t - w*‖^2",
        ratio=(("inner_product",), ("distance", "distance")),
    ),
    Column(
        "error_bound",
        "loss/weight^2",
        "‖G_t‖ / ‖w_t - w*‖",
        ratio=(("gradient_norm",), ("distance",)),
    ),
    Column(
        "gamma",
        "1",
        "cos(G_t, w_t - w*)",
        ratio=(("inner_product",), ("gradient_norm", "distance")),
    ),
    Column(
        "local_lr",
        "weight^2/loss",
        "<G_t, w_t - w*> / ‖G_t‖^2, the locally optimal step size",
        ratio=(("inner_product",), ("gradient_norm", "gradient_norm")),
    ),
)

NUM_PATH_SUMS = 3


def path_products(block: StepBlock, reference: Tensor) -> Sequence[tuple[Tensor, Tensor]]:
    """The products whose sums are <G, D>, ‖G‖^2 and ‖D‖^2, with D = w_t - w*."""
    gradient, displacement = block.gradient, block.displacement(reference)
    return (gradient, displacement), (gradient, gradient), (displacement, displacement)


def path_columns(inner: Tensor, gradient_squared: Tensor, distance_squared: Tensor) -> list[Tensor]:
    """`PATH_COLUMNS` from the three sums, each of the same shape."""
    norm, distance = gradient_squared.sqrt(), distance_squared.sqrt()
    return [
        distance,
        norm,
        inner,
        path.rsi(inner, distance),
        path.error_bound(norm, distance),
        path.gamma(inner, norm, distance),
        path.local_lr(inner, norm),
    ]


class PathProbe(SumsProbe):
    """RSI, EB, gamma and the locally optimal step size at every step (P1 algorithm 1, l. 9-10)."""

    name: ClassVar[str] = "path"
    needs_reference: ClassVar[bool] = True
    needs_update: ClassVar[bool] = False
    columns: ClassVar[tuple[Column, ...]] = PATH_COLUMNS

    @property
    def num_primitives(self) -> int:
        """The three sums."""
        return NUM_PATH_SUMS

    def products(self, block: StepBlock) -> Sequence[tuple[Tensor, Tensor]]:
        """<G, D>, ‖G‖^2, ‖D‖^2."""
        return path_products(block, self.reference())

    def derive(self, primitives: Tensor) -> Sequence[Tensor]:
        """The path columns."""
        return path_columns(*primitives.unbind(1))
