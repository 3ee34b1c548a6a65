"""The asymmetric linear model: convex, and so stochastic that its path turns back."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from trainables.data.objective import Objective, ObjectiveConfig


class AsymmetricLinear(ObjectiveConfig):
    """A linear model that is to stay below its targets: v_i(w) = max(0, <w, x_i> - y_i).

    loss rmse: sqrt(mean_i v_i^2) of the minibatch, as P1's text has it; squares: mean_i v_i^2, up
    to the number of examples its eq. 9. x_i and y_i are normal with deviation 1; P1 gives neither
    scale nor dimension nor learning rate, so the defaults are ours (INVENTORY D10). At weights
    without a violation in the minibatch the gradient is 0, and gamma undefined.
    Source: P1 section 6, figures 5 and 14.
    """

    name: ClassVar[str] = "asymmetric_linear"
    citation: ClassVar[str] = 'P1 ("No Wrong Turns"), section 6, eq. 9'

    dimension: int = Field(default=2, ge=1)
    """d, the number of weights; ours: 2, as P1 shows level sets."""
    loss: Literal["rmse", "squares"] = "rmse"
    """The root of the minibatch's mean square, or the mean square."""

    def objective(self, split: str) -> Objective:
        """Points of the split's own."""
        inputs = self.drawn(self.num_examples, self.dimension, what=f"{split} inputs")
        targets = self.drawn(self.num_examples, what=f"{split} targets")
        kind = RootMeanSquare if self.loss == "rmse" else MeanSquare
        return kind(self.num_examples, {"inputs": inputs, "targets": targets})


class MeanSquare(Objective):
    """mean_i max(0, <w, x_i> - y_i)^2 over the minibatch."""

    def loss(self, weights: Tensor, examples: Tensor, draw: torch.Generator) -> Tensor:
        """Of the minibatch's points."""
        return self.mean(weights, examples)

    def mean(self, weights: Tensor, examples: slice | Tensor) -> Tensor:
        """Of those points."""
        inputs, targets = self.constants["inputs"], self.constants["targets"]
        return self._of(inputs[examples] @ weights - targets[examples])

    def value(self, weights: Tensor) -> Tensor:
        """Of all points."""
        return self._of(self.constants["inputs"] @ weights - self.constants["targets"])

    def _of(self, residuals: Tensor) -> Tensor:
        return residuals.relu().square().mean()


class RootMeanSquare(MeanSquare):
    """The root of the mean square; its gradient is 0 where it is 0."""

    def _of(self, residuals: Tensor) -> Tensor:
        # by the norm, whose derivative at 0 torch defines as 0; that of sqrt(0) is not finite
        norm: Tensor = torch.linalg.vector_norm(residuals.relu())
        return norm / float(len(residuals) ** 0.5)
