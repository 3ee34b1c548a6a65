"""Loss surfaces whose gradients and curvature are known in closed form."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from geometry.probes.registry import PROBES
from geometry.surface import Batch


def further_references(vector: Callable[[int], Tensor]) -> dict[str, Tensor]:
    """A drawn vector for every reference that some probe asks for by default."""
    default = (probe.other_references(probe.options_type()) for probe in PROBES.values())
    labels = dict.fromkeys(reference.label for part in default for reference in part)
    return {label: vector(50 + number) for number, label in enumerate(labels)}


class Quadratic:
    """L_B(w) = (w - c_B)^T H (w - c_B) / 2, with a drawn centre c_B per batch; a `Surface`.

    `hessian` is [P, P], or [P] for a diagonal one; the padding of a layout must be zero in it.
    """

    batch_size = 8

    def __init__(self, hessian: Tensor, *, spread: float = 1.0) -> None:
        self.hessian = hessian
        self.spread = spread
        self.num_gradients = 0
        self.num_products = 0

    def centre(self, batch: Batch) -> Tensor:
        """c_B, drawn from the batch's name."""
        seed = ["fixed", "fresh", "held_out", "full"].index(batch.kind) + 1
        generator = torch.Generator().manual_seed(10**6 * seed + batch.number)
        drawn = torch.randn(len(self.hessian), generator=generator, dtype=torch.float64)
        return self.spread * drawn.to(self.hessian)

    def times(self, vector: Tensor) -> Tensor:
        """H v."""
        return self.hessian * vector if self.hessian.dim() == 1 else self.hessian @ vector

    def loss(self, batch: Batch, weights: Tensor) -> Tensor:
        """L_B(w)."""
        away = weights - self.centre(batch)
        return 0.5 * (away.double() @ self.times(away).double())

    def gradient(self, batch: Batch, weights: Tensor, out: Tensor) -> Tensor:
        """H (w - c_B)."""
        self.num_gradients += 1
        out.copy_(self.times(weights - self.centre(batch)))
        return self.loss(batch, weights)

    def hessian_product(self, batch: Batch, weights: Tensor, vector: Tensor, out: Tensor) -> None:
        """H v, the same everywhere."""
        self.num_products += 1
        out.copy_(self.times(vector))
