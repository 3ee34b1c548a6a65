"""The weights themselves: the point that a synthetic objective is minimised over."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from trainables.errors import UserError
from trainables.models.contract import ModelConfig


class Vector(ModelConfig):
    """One weight vector w [d]; calling the network returns it."""

    name: ClassVar[str] = "vector"
    data_kind: ClassVar[str] = "objective"

    std: float = Field(default=1.0, ge=0)
    """Standard deviation of the initial weights, drawn from a normal distribution around 0."""
    start: tuple[float, ...] = ()
    """All initial weights one by one, in the place of drawn ones."""

    def build(self, input_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
        """w_0, drawn or as given.

        Raises:
            UserError: `start` has another number of weights than the objective.
        """
        dimension = math.prod(input_shape)
        if self.start and len(self.start) != dimension:
            raise UserError(
                f"model.start: {len(self.start)} weights for an objective of {dimension}; "
                f"give {dimension}, or set data.dimension={len(self.start)}"
            )
        if self.start:
            return Point(torch.tensor(self.start, dtype=torch.float32))
        return Point(self.std * torch.randn(dimension))


class Point(nn.Module):
    """A module whose output is its parameter."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights)

    def forward(self) -> Tensor:
        """The weights, [d]."""
        return self.weights
