"""The sinusoidal mixture: deterministic, and so far from convex that its path turns back."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from trainables.data.objective import Objective, ObjectiveConfig


class SinusoidalMixture(ObjectiveConfig):
    """f(w) = ‖w‖^2 + height * sum_i sin(a_i w_i)^2, with a_i normal with deviation 1.

    P1 gives neither dimension nor learning rate nor start: ours are d = 10, and for the presets a
    learning rate of 1e-2 and w_0 of deviation 3 (INVENTORY D11). The function is separable: in the
    limit of small learning rates every coordinate descends monotonically and gamma > 0 always.
    Source: P1 section 6, eq. 9, figures 5 and 15; "sin(a_i w_i)^2" read as the sine's square.
    """

    name: ClassVar[str] = "sinusoidal_mixture"
    citation: ClassVar[str] = 'P1 ("No Wrong Turns"), section 6, eq. 9'

    height: float = Field(default=100.0, ge=0)
    """Factor on the sines; P1: 100."""

    def objective(self, split: str) -> Objective:
        """The same function for both splits."""
        constants = {"frequencies": self.drawn(self.dimension, what="frequencies")}
        return Mixture(self.num_examples, self.height, constants)


class Mixture(Objective):
    """The function; every example sees all of it."""

    def __init__(self, num_examples: int, height: float, constants: dict[str, Tensor]) -> None:
        super().__init__(num_examples, constants)
        self._height = height

    def loss(self, weights: Tensor, examples: Tensor, draw: torch.Generator) -> Tensor:
        """The function's value: nothing is left out."""
        return self.value(weights)

    def mean(self, weights: Tensor, examples: slice | Tensor) -> Tensor:
        """The function's value."""
        return self.value(weights)

    def value(self, weights: Tensor) -> Tensor:
        """‖w‖^2 + height * sum_i sin(a_i w_i)^2."""
        sines = (self.constants["frequencies"] * weights).sin()
        return weights.square().sum() + self._height * sines.square().sum()
