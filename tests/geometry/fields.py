"""Gradient fields with known geometry, walks along them, and path quantities by plain sums."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from geometry import path

Field = Callable[[Tensor], Tensor]

DIMENSION = 40


def randn(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def quantities(gradient: Tensor, weights: Tensor, reference: Tensor) -> list[Tensor]:
    """RSI, EB, gamma, local_lr of vectors [..., P], by float64 sums."""
    displacement = weights - reference
    inner = (gradient * displacement).sum(-1)
    norm = gradient.square().sum(-1).sqrt()
    distance = displacement.square().sum(-1).sqrt()
    return [
        path.rsi(inner, distance),
        path.error_bound(norm, distance),
        path.gamma(inner, norm, distance),
        path.local_lr(inner, norm),
    ]


def naive(gradient: list[float], weights: list[float], reference: list[float]) -> list[float]:
    """The definitions of P1 section 3, written down element by element."""
    displacement = [w - r for w, r in zip(weights, reference, strict=True)]
    inner = math.fsum(g * d for g, d in zip(gradient, displacement, strict=True))
    norm = math.sqrt(math.fsum(g * g for g in gradient))
    distance = math.sqrt(math.fsum(d * d for d in displacement))
    rsi, error_bound = inner / distance**2, norm / distance
    return [rsi, error_bound, rsi / error_bound, rsi / error_bound**2]


def spd(eigenvalues: Tensor) -> Tensor:
    """A symmetric matrix with these eigenvalues in a random basis."""
    basis: Tensor = torch.linalg.qr(randn(len(eigenvalues), len(eigenvalues), seed=9)).Q
    return basis @ eigenvalues.diag() @ basis.T


def walk(field: Field, start: Tensor, learning_rate: float, num_steps: int) -> Tensor:
    """The weights [T + 1, P] of vanilla SGD along a gradient field."""
    weights = [start]
    for _ in range(num_steps):
        weights.append(weights[-1] - learning_rate * field(weights[-1]))
    return torch.stack(weights)


G, W, W_STAR = randn(7, DIMENSION, seed=1), randn(7, DIMENSION, seed=2), randn(DIMENSION, seed=3)
