"""Walks of real optimizers over gradients that are given, measured from their ends."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from geometry import null, path

Optimizer = Callable[[list[Tensor]], torch.optim.Optimizer]

BLOCK = 3
"""Coordinates per gradient of the orthogonal walks: more than one, so that Adam can turn them."""


class Walk(NamedTuple):
    """What a run of an optimizer measures against its own end, each [T]."""

    measured: null.NullPath
    learning_rate: Tensor
    gradient_norm: Tensor
    preconditioned_inner: Tensor
    preconditioned_norm: Tensor


def walk(build: Optimizer, gradients: Tensor, learning_rate: Tensor) -> Walk:
    """Run an optimizer over given gradients [T, P], all in float64 sums, and look back from w*."""
    weights = torch.zeros(gradients.shape[1], dtype=gradients.dtype)
    optimizer = build([weights])
    visited, scaled = [], []
    for gradient, lr in zip(gradients, learning_rate.tolist(), strict=True):
        visited.append(weights.clone())
        optimizer.param_groups[0]["lr"] = lr
        weights.grad = gradient.clone()
        optimizer.step()
        scaled.append(gradient * preconditioner(optimizer))
    displacement, preconditioned = torch.stack(visited) - weights, torch.stack(scaled)
    inner, norm = dot(gradients, displacement), dot(gradients, gradients).sqrt()
    distance = dot(displacement, displacement).sqrt()
    measured = null.NullPath(
        path.gamma(inner, norm, distance),
        path.rsi(inner, distance),
        path.error_bound(norm, distance),
        path.local_lr(inner, norm),
    )
    inner_scaled = dot(gradients, preconditioned)
    return Walk(
        measured, learning_rate, norm, inner_scaled, dot(preconditioned, preconditioned).sqrt()
    )


def dot(x: Tensor, y: Tensor) -> Tensor:
    return (x.double() * y.double()).sum(-1)


def preconditioner(optimizer: torch.optim.Optimizer) -> Tensor:
    """Adam's diagonal 1 / (sqrt(v_hat) + eps) as of the last step; 1 for SGD."""
    (group,) = optimizer.param_groups
    if "betas" not in group:
        return torch.ones(())
    (slots,) = optimizer.state.values()
    corrected: Tensor = slots["exp_avg_sq"] / (1 - group["betas"][1] ** slots["step"].item())
    return torch.reciprocal(corrected.sqrt() + group["eps"])


def orthogonal_gradients(num_steps: int) -> Tensor:
    """[T, BLOCK * T] float64: gradient t is zero outside its own block of coordinates."""
    generator = torch.Generator().manual_seed(0)
    blocks = torch.randn(num_steps, BLOCK, generator=generator, dtype=torch.float64)
    gradients = torch.zeros(num_steps, num_steps, BLOCK, dtype=torch.float64)
    gradients[torch.arange(num_steps), torch.arange(num_steps)] = blocks
    return gradients.flatten(1)


def isotropic_gradients(num_steps: int, dimension: int, scale: Tensor | None = None) -> Tensor:
    """[T, P] float32: independent Gaussian gradients, times a scale per step."""
    generator = torch.Generator().manual_seed(1)
    gradients = torch.randn(num_steps, dimension, generator=generator)
    return gradients if scale is None else gradients * scale[:, None].float()


def constant(num_steps: int) -> Tensor:
    return torch.full((num_steps,), 0.1, dtype=torch.float64)


def cosine(num_steps: int) -> Tensor:
    """Half a period from 0.1 to 0."""
    phase = torch.arange(num_steps, dtype=torch.float64) * math.pi / num_steps
    return 0.05 * (1 + phase.cos())


def warm_up(num_steps: int) -> Tensor:
    """A learning rate of exactly 0 first, a linear warm-up, then constant."""
    return (torch.arange(num_steps, dtype=torch.float64) / 50).clamp(max=1)


SCHEDULES = [constant, cosine, warm_up]

SGD_LIKE: dict[str, tuple[Optimizer, float, bool]] = {
    "sgd": (lambda p: torch.optim.SGD(p), 0.0, False),
    "momentum": (lambda p: torch.optim.SGD(p, momentum=0.9), 0.9, False),
    "nesterov": (lambda p: torch.optim.SGD(p, momentum=0.9, nesterov=True), 0.9, True),
    "little momentum": (lambda p: torch.optim.SGD(p, momentum=0.5), 0.5, False),
}


def adam_null(run: Walk, beta1: float) -> null.NullPath:
    return null.adam(
        run.learning_rate,
        run.gradient_norm,
        run.preconditioned_inner,
        run.preconditioned_norm,
        beta1=beta1,
    )
