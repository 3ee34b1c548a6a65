"""The loss surface: losses, gradients and curvature of named batches, at any weights.

For probes that need more than the step's own gradient. What they ask for here is paid for in extra
gradients, and disturbs nothing: a surface leaves weights, gradients, module buffers, modes and
random generators of the training as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

BatchKind = Literal["fixed", "fresh", "held_out", "full"]


@dataclass(frozen=True)
class Batch:
    """Which examples a loss is the mean of; every kind is a pure function of `number`.

    fixed: a training minibatch of an epoch that no training reaches, so that number i is the same
    examples with the same augmentation for the whole run. fresh: the same of another such epoch,
    read with the step as its number, so that every step has one that is independent of its own.
    held_out: minibatch i of the validation examples, in order, without augmentation. full: all
    training examples, clean where the task can take them one by one, else one fixed epoch of
    minibatches.
    """

    kind: BatchKind
    number: int = 0


FULL = Batch("full")

LOSS_COST = 1 / 3
"""A forward pass alone, in gradients of the same batch: backward takes about twice as long."""
PRODUCT_COST = 2.0
"""A Hessian-vector product by differentiating twice, in gradients of the same batch."""


class Surface(Protocol):
    """L_B(w), the mean loss of batch B at flat weights w, in train mode, and its derivatives.

    `weights` is any flat vector of the layout, shape [P]; it is not written to. Results stay on the
    device: nothing waits for a value.
    """

    @property
    def batch_size(self) -> int:
        """Examples of a minibatch of fixed or held-out examples, b."""

    def loss(self, batch: Batch, weights: Tensor) -> Tensor:
        """L_B(w), float64, shape []."""

    def gradient(self, batch: Batch, weights: Tensor, out: Tensor) -> Tensor:
        """Write grad L_B(w) to `out`, shape [P], padding zero; returns L_B(w)."""

    def hessian_product(self, batch: Batch, weights: Tensor, vector: Tensor, out: Tensor) -> None:
        """Write H v to `out`, shape [P], padding zero; H is the Hessian of L_B at w, v `vector`."""
