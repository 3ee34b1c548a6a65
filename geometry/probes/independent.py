"""What sampling noise leaves of a correlation: an independent minibatch at the same w_t (G20)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from geometry import path
from geometry.probes.contract import Cadence, Column, Probe, ProbeOptions, StepView
from geometry.surface import Batch, BatchKind


class IndependentMinibatchProbe(Probe):
    """cos(G_t, G'_t), G'_t the gradient of a minibatch that is independent of the step's, at w_t.

    If the weights stood still, the correlation of successive gradients would be this; a measured
    correlation is read as a share of it, and where it is 0 minibatch correlations show nothing. Its
    mean estimates `geometry.correlation.independent_correlation`.
    """

    name: ClassVar[str] = "independent_minibatch"
    table: ClassVar[str] = "independent_minibatch"
    default_every: ClassVar[Cadence] = 10
    """Ours: a tenth more gradients."""
    needs_reference: ClassVar[bool] = False
    needs_update: ClassVar[bool] = False
    columns: ClassVar[tuple[Column, ...]] = (
        Column("independent_correlation", "1", "cos(G_t, G'_t), G'_t of an independent minibatch"),
        Column("independent_product", "loss^2/weight^2", "<G_t, G'_t>: unbiased for ‖grad L‖^2"),
    )

    @classmethod
    def batches(cls, options: ProbeOptions) -> frozenset[BatchKind]:
        """A minibatch of its own for every step."""
        return frozenset({"fresh"})

    @classmethod
    def extra_gradients(cls, options: ProbeOptions, batches_per_pass: int) -> float:
        """One."""
        return 1.0

    @classmethod
    def num_vectors(cls, options: ProbeOptions) -> int:
        """The other gradient."""
        return 1

    @property
    def num_primitives(self) -> int:
        """<G, G'>, ‖G‖^2, ‖G'‖^2."""
        return 3

    def measure(self, step: StepView, out: Tensor) -> None:
        """The other gradient and the sums."""
        own, other = step.gradient, torch.empty_like(step.weights)
        self.surface().gradient(Batch("fresh", step.step), step.weights, other)

        def body(span: slice, _: object) -> list[tuple[Tensor, Tensor]]:
            left, right = own[span], other[span]
            return [(left, right), (left, left), (right, right)]

        self.context.reducer.sums(3, body, out)

    def derive(self, primitives: Tensor) -> Sequence[Tensor]:
        """The cosine, and the product as it is."""
        product, squared, other_squared = primitives.unbind(1)
        return path.gamma(product, squared.sqrt(), other_squared.sqrt()), product
