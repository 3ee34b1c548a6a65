"""Gradients of several batches at the same w_t: the batch law without another trajectory (G05).

Fixed training minibatches with frozen augmentation (INVENTORY A19), and held-out ones, whose
gradients never moved the weights (G10). Each by itself, and from their Gram matrix what k of them
together would give, the gradient noise scale and the effective dimension of the noise (G06).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from geometry import gram, path
from geometry.probes.contract import (
    Cadence,
    Column,
    Probe,
    ProbeContext,
    ProbeOptions,
    StepBlock,
    StepView,
)
from geometry.probes.full_batch import BATCH_LOSS
from geometry.probes.path import PATH_COLUMNS, path_columns
from geometry.reductions import Scratch
from geometry.surface import Batch, BatchKind

NUM_TOTALS = 3
"""‖D‖^2, and of the sum s of the gradients <s, D> and ‖s‖^2."""


@dataclass(frozen=True)
class BatchesOptions(ProbeOptions):
    """How many batches."""

    num_batches: int = 10
    """Batches of the run's batch size (P1's published code: 10); one weight-sized vector each."""

    def __post_init__(self) -> None:
        """Refuse fewer than two, which have no Gram matrix to speak of."""
        if self.num_batches < 2:
            raise ValueError(f"num_batches: at least 2, not {self.num_batches}")


class BatchesProbe(Probe):
    """Path columns of K batches, labelled `batch i`, and of k of them together, `k x b`.

    The rows `k x b` follow from the Gram matrix: their gradient norm is the root of the mean square
    over all subsets of k batches, their inner product that of the mean of all. The noise columns
    are of the step and stand in each of its rows, as do the checks that RSI is additive and EB
    obeys the triangle inequality (P1 section 5), which form the sum of the gradients itself.
    """

    kind: ClassVar[BatchKind]
    default_every: ClassVar[Cadence] = 100
    """As P1's published code has it."""
    needs_reference: ClassVar[bool] = True
    needs_update: ClassVar[bool] = False
    options_type: ClassVar[type[ProbeOptions]] = BatchesOptions
    columns: ClassVar[tuple[Column, ...]] = (
        BATCH_LOSS,
        *PATH_COLUMNS,
        Column("noise_trace", "loss^2/weight^2", "tr S, S the covariance of an example's gradient"),
        Column("noise_scale", "examples", "tr S / ‖g‖^2, unbiased parts; the noise scale B_simple"),
        Column("effective_dimension", "1", "1 / mean cos^2 of independent noise vectors"),
        Column("additivity_residual", "1", "abs(<s, D> - sum_i <g_i, D>) / (‖s‖ ‖D‖), s = sum g_i"),
        Column("triangle_excess", "1", "‖s‖ / sum_i ‖g_i‖ - 1, at most 0 (triangle inequality)"),
    )

    def __init__(self, context: ProbeContext, options: ProbeOptions | None = None) -> None:
        super().__init__(context, options)
        self._num = _num_batches(self.options)
        self._gradients: Tensor | None = None

    @classmethod
    def batches(cls, options: ProbeOptions) -> frozenset[BatchKind]:
        """Its own kind."""
        return frozenset({cls.kind})

    @classmethod
    def extra_gradients(cls, options: ProbeOptions, batches_per_pass: int) -> float:
        """One per batch."""
        return _num_batches(options)

    @classmethod
    def num_vectors(cls, options: ProbeOptions) -> int:
        """The gradients."""
        return _num_batches(options)

    @property
    def labels(self) -> tuple[str, ...]:
        """Every batch, then every number of batches together."""
        numbers = range(self._num)
        return (*(f"batch {i}" for i in numbers), *(f"{i + 1} x b" for i in numbers))

    @property
    def num_primitives(self) -> int:
        """The losses, <g_i, D>, ‖D‖^2, <s, D>, ‖s‖^2 and the Gram matrix's upper triangle."""
        return 2 * self._num + NUM_TOTALS + self._num * (self._num + 1) // 2

    def measure(self, step: StepView, out: Tensor) -> None:
        """The gradients and their sums."""
        reference, surface = self.reference(), self.surface()
        if self._gradients is None:
            self._gradients = step.weights.new_empty(self._num, len(step.weights))
        gradients = self._gradients.unbind(0)
        for number, gradient in enumerate(gradients):
            out[number] = surface.gradient(Batch(self.kind, number), step.weights, gradient)
        end = 2 * self._num + NUM_TOTALS
        self._write_inner(step, gradients, reference, out[self._num : end])
        out[end:] = gram.pack(gram.gram_matrix(self._gradients))

    def _write_inner(
        self, step: StepView, gradients: Sequence[Tensor], reference: Tensor, out: Tensor
    ) -> None:
        def body(span: slice, scratch: Scratch) -> list[tuple[Tensor, Tensor]]:
            block, parts = StepBlock(step, span, scratch), [x[span] for x in gradients]
            displacement = block.displacement(reference)
            total = block.formed("total", lambda out: _sum(parts, out))
            pairs = [(gradient, displacement) for gradient in parts]
            return [*pairs, (displacement, displacement), (total, displacement), (total, total)]

        self.context.reducer.sums(self._num + NUM_TOTALS, body, out)

    def derive(self, primitives: Tensor) -> Sequence[Tensor]:
        """The columns, each [steps, labels]."""
        num_pairs = primitives.shape[1] - 2 * self._num - NUM_TOTALS
        sizes = [self._num, self._num, 1, 1, 1, num_pairs]
        losses, inner, distance_squared, *total, packed = torch.split(primitives, sizes, dim=1)
        matrices = gram.unpack(packed, self._num)
        squared = matrices.diagonal(dim1=1, dim2=2)
        squared = torch.cat([squared, gram.averaged_squared(matrices)], dim=1)
        columns = path_columns(_with_means(inner), squared, distance_squared.expand_as(squared))
        batch_size = self.surface().batch_size
        of_the_step = (
            gram.noise_trace(matrices, batch_size),
            gram.noise_scale(matrices, batch_size),
            gram.effective_dimension(matrices),
            *_checks(inner, matrices, distance_squared[:, 0], *(x[:, 0] for x in total)),
        )
        repeated = (values.unsqueeze(1).expand_as(squared) for values in of_the_step)
        return [_with_means(losses), *columns, *repeated]


def _sum(vectors: Sequence[Tensor], out: Tensor) -> Tensor:
    torch.add(vectors[0], vectors[1], out=out)
    for vector in vectors[2:]:
        out.add_(vector)
    return out


def _checks(
    inner: Tensor, matrices: Tensor, distance_squared: Tensor, total: Tensor, total_squared: Tensor
) -> tuple[Tensor, Tensor]:
    """The additivity residual and the triangle excess; NaN where the sum or D is 0."""
    norm, distance = total_squared.sqrt(), distance_squared.sqrt()
    residual = path.gamma((total - inner.sum(1)).abs(), norm, distance)
    parts = matrices.diagonal(dim1=1, dim2=2).sqrt().sum(1)
    return residual, (norm / parts - 1).masked_fill(norm == 0, math.nan)


class FixedBatchesProbe(BatchesProbe):
    """Fixed training minibatches, their augmentation frozen; the same ones for the whole run."""

    name: ClassVar[str] = "probe_batches"
    table: ClassVar[str] = "probe_batches"
    kind: ClassVar[BatchKind] = "fixed"


class HeldOutProbe(BatchesProbe):
    """Minibatches of validation examples: nothing of their gradients is in w*'s path."""

    name: ClassVar[str] = "held_out"
    table: ClassVar[str] = "held_out"
    kind: ClassVar[BatchKind] = "held_out"


def _num_batches(options: ProbeOptions) -> int:
    assert isinstance(options, BatchesOptions)
    return options.num_batches


def _with_means(values: Tensor) -> Tensor:
    """The values of K batches, and K times their mean: [steps, K] -> [steps, 2 K]."""
    return torch.cat([values, values.mean(1, keepdim=True).expand_as(values)], dim=1)
