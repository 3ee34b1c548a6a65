"""The isotropic random walk: the null model itself, as a training."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from trainables.data.objective import Objective, ObjectiveConfig


class RandomWalk(ObjectiveConfig):
    """loss_t(w) = <u_t, w> with u_t uniform on the unit sphere, independent of w and of u_s.

    Its gradients are steps of a random walk: gamma_t = (T-t)^(-1/2) for SGD with a constant
    learning rate, up to a spread of sqrt((T-t) / d).
    Source: P1 section 6, eq. 8; the null model of this project, put through the whole of it.
    """

    name: ClassVar[str] = "random_walk"
    citation: ClassVar[str] = 'P1 ("No Wrong Turns"), section 6, eq. 8'

    dimension: int = Field(default=1000, ge=1)
    """d, the number of weights; the null model is exact for d far above the number of steps."""

    def objective(self, split: str) -> Objective:
        """No constants."""
        return Walk(self.num_examples, {})


class Walk(Objective):
    """A new direction at every step."""

    def loss(self, weights: Tensor, examples: Tensor, draw: torch.Generator) -> Tensor:
        """<u, w> for a direction of the step's own."""
        direction = torch.randn(len(weights), generator=draw, dtype=torch.float64)
        direction /= torch.linalg.vector_norm(direction)
        return (direction.to(weights) * weights).sum()

    def mean(self, weights: Tensor, examples: slice | Tensor) -> Tensor:
        """0, with gradient 0: the mean of <u, w> over all directions u."""
        return weights.mul(0).sum()

    def value(self, weights: Tensor) -> Tensor:
        """NaN: a walk minimises nothing."""
        return torch.full((), torch.nan, device=weights.device)
