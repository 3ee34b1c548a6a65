"""Quadratics with a chosen spectrum, with or without gradient noise."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from trainables.data.objective import Objective, ObjectiveConfig


class Quadratic(ObjectiveConfig):
    """f(w) = 1/2 sum_i lambda_i w_i^2, its minimum at 0.

    The eigenvalues lie between `smallest` and `largest`, evenly or with even ratios, or are given
    one by one. Hessian and coordinates have the same axes: no rotation. A minibatch of b examples
    adds <xi, w>, xi normal with deviation gradient_noise / sqrt(b) per coordinate. Without noise
    gradient descent is w_t = (1 - eta lambda)^t w_0, coordinate by coordinate.
    """

    name: ClassVar[str] = "quadratic"
    citation: ClassVar[str] = "none needed"

    smallest: float = Field(default=0.1, ge=0)
    """The least eigenvalue."""
    largest: float = Field(default=1.0, gt=0)
    """The greatest eigenvalue: gradient descent diverges above a learning rate of 2 over it."""
    spacing: Literal["linear", "geometric"] = "linear"
    """Even differences or even ratios between neighbouring eigenvalues."""
    eigenvalues: tuple[Annotated[float, Field(ge=0)], ...] = ()
    """All eigenvalues, in the place of the three options above; as many as the dimension."""
    gradient_noise: float = Field(default=0.0, ge=0)
    """Standard deviation of one example's gradient noise, per coordinate."""

    @model_validator(mode="after")
    def _spectrum_fits(self) -> Quadratic:
        if self.eigenvalues and len(self.eigenvalues) != self.dimension:
            raise ValueError(
                f"{len(self.eigenvalues)} eigenvalues for {self.dimension} dimensions; "
                f"set dimension to {len(self.eigenvalues)}"
            )
        if self.spacing == "geometric" and self.smallest == 0 and not self.eigenvalues:
            raise ValueError("spacing geometric needs a smallest eigenvalue above 0")
        return self

    def objective(self, split: str) -> Objective:
        """The same function for both splits."""
        spectrum = torch.tensor(self.spectrum(), dtype=torch.float32)
        return Bowl(self.num_examples, self.gradient_noise, {"spectrum": spectrum})

    def spectrum(self) -> tuple[float, ...]:
        """The eigenvalues, [d]."""
        if self.eigenvalues:
            return self.eigenvalues
        ends = (self.smallest, self.largest)
        even = np.linspace if self.spacing == "linear" else np.geomspace
        return tuple(even(*ends, self.dimension).tolist())


class Bowl(Objective):
    """The function, with noise in a minibatch's gradient."""

    def __init__(self, num_examples: int, noise: float, constants: dict[str, Tensor]) -> None:
        super().__init__(num_examples, constants)
        self._noise = noise

    def loss(self, weights: Tensor, examples: Tensor, draw: torch.Generator) -> Tensor:
        """The function's value plus <xi, w>."""
        value = self.value(weights)
        if not self._noise:
            return value
        noise = torch.randn(len(weights), generator=draw).to(weights.device)
        slope: Tensor = (noise * weights).sum() * (self._noise / len(examples) ** 0.5)
        return value + slope

    def mean(self, weights: Tensor, examples: slice | Tensor) -> Tensor:
        """The function's value."""
        return self.value(weights)

    def value(self, weights: Tensor) -> Tensor:
        """1/2 sum_i lambda_i w_i^2."""
        value: Tensor = (self.constants["spectrum"] * weights.square()).sum() / 2
        return value
