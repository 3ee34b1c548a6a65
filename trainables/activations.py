"""What a network keeps between its forward and backward pass, counted without allocating it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

SIZES = (2, 4)
"""Batch sizes whose difference is taken; batch normalisation refuses a single example."""


def example_bytes(build_model: Callable[[], nn.Module], input_shape: Sequence[int]) -> int:
    """Bytes saved for the backward pass per example: (saved(4) - saved(2)) / 2, float32.

    What does not grow with the batch, such as weights, cancels. A tensor that several operations
    save is counted for each of them, so the result is an upper bound. `input_shape` is that of one
    input, without the batch dimension. Nothing is allocated: everything is on the meta device.
    """
    with torch.device("meta"):
        model = build_model().train()
        few, more = (_saved(model, torch.empty(size, *input_shape)) for size in SIZES)
    return (more - few) // (SIZES[1] - SIZES[0])


def _saved(model: nn.Module, inputs: Tensor) -> int:
    total = 0

    def pack(tensor: Tensor) -> Tensor:
        nonlocal total
        total += tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(inputs)
    return total
