"""Sharpness: the Hessian's leading eigenvalue beside the step size's stability limit (G18)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from geometry.probes.contract import Column, ProbeOptions, StepView
from geometry.probes.one_batch import OneBatchOptions, OneBatchProbe
from geometry.surface import PRODUCT_COST

START_SEED = 0
"""Seed of the power iteration's first vector: the same at every step of every run."""


@dataclass(frozen=True)
class SharpnessOptions(OneBatchOptions):
    """The loss whose Hessian it is, and how long the power iteration goes on."""

    iterations: int = 20
    """Hessian-vector products per measurement; ours, untuned: the residual says if they suffice."""

    def __post_init__(self) -> None:
        """Refuse no iteration at all."""
        if self.iterations < 1:
            raise ValueError(f"iterations: at least 1, not {self.iterations}")


class SharpnessProbe(OneBatchProbe):
    """lambda = v^T H v after n power iterations, its residual, and 2 / eta_t.

    lambda is the eigenvalue of largest modulus: negative where negative curvature dominates. Every
    measurement starts from the same vector, so that it is a function of w_t alone. Gradient descent
    on a quadratic is stable for lambda < 2 / eta_t.
    """

    name: ClassVar[str] = "sharpness"
    table: ClassVar[str] = "sharpness"
    needs_reference: ClassVar[bool] = False
    options_type: ClassVar[type[OneBatchOptions]] = SharpnessOptions
    columns: ClassVar[tuple[Column, ...]] = (
        Column("sharpness", "loss/weight^2", "the Hessian's eigenvalue of largest modulus"),
        Column("sharpness_residual", "1", "‖H v - lambda v‖ / abs(lambda); 0 once converged"),
        Column("stability_limit", "loss/weight^2", "2 / eta_t; NaN at a learning rate of 0"),
    )

    @classmethod
    def extra_gradients(cls, options: ProbeOptions, batches_per_pass: int) -> float:
        """The products, each as many gradients as its batch has minibatches."""
        own = _own(options)
        return own.iterations * PRODUCT_COST * own.num_minibatches(batches_per_pass)

    @classmethod
    def num_vectors(cls, options: ProbeOptions) -> int:
        """The vector and its product."""
        return 2

    @property
    def num_primitives(self) -> int:
        """v^T H v, ‖H v‖^2 and the limit."""
        return 3

    def measure(self, step: StepView, out: Tensor) -> None:
        """The power iteration; the last product gives the Rayleigh quotient and the residual."""
        options = _own(self.options)
        vector, product = self._start(step.weights), torch.empty_like(step.weights)
        sums = out.new_empty(2)
        self._normalise(vector, sums)
        for number in range(options.iterations):
            self.surface().hessian_product(options.chosen(), step.weights, vector, product)
            if number + 1 < options.iterations:
                vector, product = product, vector
                self._normalise(vector, sums)
        self.context.reducer.sums(
            2, lambda span, _: [(vector[span], product[span]), (product[span], product[span])], sums
        )
        out[:2] = sums
        out[2] = 2 / step.learning_rate if step.learning_rate else math.nan

    def _start(self, weights: Tensor) -> Tensor:
        """A normal vector, padding zero, drawn on the CPU: the same on every device."""
        generator = torch.Generator().manual_seed(START_SEED)
        start = torch.zeros(len(weights), dtype=weights.dtype)
        for segment in self.context.layout.segments:
            end = segment.offset + segment.numel
            start[segment.offset : end] = torch.randn(segment.numel, generator=generator)
        return start.to(weights.device)

    def _normalise(self, vector: Tensor, sums: Tensor) -> None:
        """Scale v to ‖v‖ = 1; a zero vector stays: the loss is flat, and its eigenvalue 0."""
        self.context.reducer.sums(1, lambda span, _: [(vector[span], vector[span])], sums[:1])
        norm = sums[0].sqrt()
        vector.div_(torch.where(norm > 0, norm, torch.ones_like(norm)))

    def derive(self, primitives: Tensor) -> Sequence[Tensor]:
        """The eigenvalue, ‖H v - lambda v‖^2 = ‖H v‖^2 - lambda^2 by ‖v‖ = 1, the limit."""
        value, squared, limit = primitives.unbind(1)
        residual = (squared - value.square()).clamp(min=0).sqrt()
        size = value.abs()
        return value, residual / size.masked_fill(size == 0, math.nan), limit


def _own(options: ProbeOptions) -> SharpnessOptions:
    assert isinstance(options, SharpnessOptions)
    return options
