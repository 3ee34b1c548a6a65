"""What probes with gradients of their own share: the path sums of any gradient at w_t."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from geometry.probes.contract import ProbeContext, StepBlock, StepView
from geometry.probes.path import path_products
from geometry.reductions import Scratch


def write_path_sums(
    context: ProbeContext,
    step: StepView,
    gradient: Tensor,
    reference: Tensor,
    out: Tensor,
    *others: Tensor,
) -> None:
    """<g, D>, ‖g‖^2, ‖D‖^2 with D = w_t - w*, then <g, x> and ‖x‖^2 of every other vector x.

    Shape: gradient, reference and others [P]; out [3 + 2 others], float64.
    """
    view = replace(step, gradient=gradient)

    def body(span: slice, scratch: Scratch) -> Sequence[tuple[Tensor, Tensor]]:
        block = StepBlock(view, span, scratch)
        blocks = [other[span] for other in others]
        crossed = [pair for x in blocks for pair in ((block.gradient, x), (x, x))]
        return [*path_products(block, reference), *crossed]

    context.reducer.sums(out.numel(), body, out)
