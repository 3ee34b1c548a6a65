"""Whether minibatch gradients say enough about the loss for a schedule that follows them."""

from __future__ import annotations

import itertools

import torch

from geometry.correlation import correlation
from geometry.surface import Batch
from trainables.surface import TrajectorySurface
from trainables.trajectory import Trajectory


def warnings_of(trajectory: Trajectory) -> dict[str, str]:
    """`schedule_warning`, one line, where the batch is too small for the schedule; else empty.

    A full batch has no noise and is not judged.
    """
    number = trajectory.pace.num_minibatches
    if not number or trajectory.chunks:
        return {}
    warning = trajectory.pace.warning(minibatch_correlations(trajectory, number))
    return {} if warning is None else {"schedule_warning": warning}


def minibatch_correlations(trajectory: Trajectory, number: int) -> list[float]:
    """cos(G_i, G_{i+1}) of `number` independent minibatches, all at the weights as they stand.

    Costs `number` gradients and two weight-sized vectors besides; disturbs nothing.
    """
    surface, weights = TrajectorySurface(trajectory), trajectory.flat.weights
    pairs = itertools.pairwise(_gradient(surface, weights, index) for index in range(number))
    return [_correlation(first, second) for first, second in pairs]


def _gradient(surface: TrajectorySurface, weights: torch.Tensor, index: int) -> torch.Tensor:
    gradient = torch.empty_like(weights)
    surface.gradient(Batch("fixed", index), weights, gradient)
    return gradient


def _correlation(first: torch.Tensor, second: torch.Tensor) -> float:
    product, *squared = (
        (x * y).sum(dtype=torch.float64) for x, y in ((first, second), (first,) * 2, (second,) * 2)
    )
    return correlation(product, *squared).item()
