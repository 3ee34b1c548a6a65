"""The bridge between the two papers: the locally optimal step size from gradient correlations.

For an update that is linear in gradients and weights, w_T is a linear function of what stands at
step t and of the gradients from there on, with scalars for coefficients:

    w_T = a_t w_t + b_t v_{t-1} + sum_{s>=t} k_s G_s          v_{t-1} the momentum buffer

so that with D_t = w_t - w_T, and w_T the reference,

    <G_t, D_t> = (1 - a_t) <G_t, w_t> - b_t <G_t, v_{t-1}> - sum_{s>=t} k_s <G_t, G_s>

Divided by eta_t ‖G_t‖^2 this is local_lr_t / eta_t (path.py). For plain SGD, a = 1, b = 0 and
k_s = -eta_s, and what is left is

    local_lr_t / eta_t - 1 = sum_{s>t} (eta_s / eta_t) <G_t, G_s> / ‖G_t‖^2

P1's step size is P2's lagged correlations, weighted and summed over the rest of the run.
Source: ours (INVENTORY H2); P1 section 3, eq. 5, and P2 section 2, eq. 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True)
class LinearUpdate:
    """v <- beta v + G + lambda w;  w <- w - eta v;  Nesterov: w <- w - eta (G + lambda w + beta v).

    beta = 0 is SGD. The weight decay lambda is coupled: it goes through the momentum buffer.
    """

    beta: float = 0.0
    nesterov: bool = False
    decays: bool = False
    """True if lambda is not 0."""

    @property
    def is_plain(self) -> bool:
        """True if the update is -eta G."""
        return self.beta == 0 and not self.decays


class Measured(NamedTuple):
    """What the bridge is built from, of a whole run; float64."""

    learning_rate: Tensor
    """eta_t, [T]."""
    weight_decay: Tensor
    """lambda_t, [T]."""
    products: Tensor
    """products[t, l] = <G_{t-l}, G_t>, [T, h], NaN where t < l; with h = T every pair is known."""
    inner_product: Tensor
    """<G_t, D_t>, [T]."""
    weight_product: Tensor
    """<G_t, w_t>, [T]."""
    buffer_product: Tensor
    """<G_t, v_{t-1}>, [T]."""


class Coefficients(NamedTuple):
    """a_t and b_t of w_t and v_{t-1}, and k_t of G_t, in w_T; each [T], float64."""

    weights: Tensor
    buffer: Tensor
    gradient: Tensor


class Bridge(NamedTuple):
    """The terms of local_lr_t / eta_t - 1, each [T], float64; NaN where eta_t or G_t is 0."""

    own: Tensor
    """-k_t / eta_t - 1: what G_t itself still moves by momentum and decay; 0 for plain SGD."""
    correlation: Tensor
    """-sum_{l>=1} k_{t+l} <G_t, G_{t+l}> / (eta_t ‖G_t‖^2), over the lags that are known."""
    momentum: Tensor
    """-b_t <G_t, v_{t-1}> / (eta_t ‖G_t‖^2): what the buffer brings from before t."""
    decay: Tensor
    """(1 - a_t) <G_t, w_t> / (eta_t ‖G_t‖^2): what weight decay takes away."""
    left_over: Tensor
    """1 - (1 + own + correlation + momentum + decay) eta_t ‖G_t‖^2 / <G_t, D_t>: the share of the
    inner product that is in lags beyond the known ones; with all lags known, the residual."""


def coefficients(update: LinearUpdate, learning_rate: Tensor, weight_decay: Tensor) -> Coefficients:
    """a_t, b_t, k_t by the recursion backwards from a_T = 1, b_T = 0.

    Shape: learning_rate [T], weight_decay [T] -> each [T].
    """
    a, b = 1.0, 0.0
    found: list[tuple[float, float, float]] = []
    for eta, decay in zip(
        reversed(learning_rate.tolist()), reversed(weight_decay.tolist()), strict=True
    ):
        from_buffer = b - a * eta * (update.beta if update.nesterov else 1.0)
        k = from_buffer - a * eta if update.nesterov else from_buffer
        a, b = a + k * decay, from_buffer * update.beta
        found.append((a, b, k))
    columns = torch.tensor(found[::-1], dtype=torch.float64).reshape(-1, 3)
    return Coefficients(*columns.unbind(1))


def bridge(update: LinearUpdate, measured: Measured) -> Bridge:
    """The terms of local_lr_t / eta_t - 1 and the share that they leave over; each [T].

    Raises ValueError if the columns differ in length.
    """
    lengths = {len(values) for values in measured}
    if len(lengths) > 1:
        raise ValueError(f"the bridge needs columns of one length, not {sorted(lengths)}")
    eta, products = measured.learning_rate, measured.products
    reach = coefficients(update, eta, measured.weight_decay)
    scale = eta * products[:, 0]
    scale = scale.masked_fill(scale == 0, math.nan)
    own = -reach.gradient * products[:, 0] / scale - 1
    correlation = -_weighted_sum(reach.gradient, products) / scale
    momentum = -reach.buffer * measured.buffer_product / scale
    decay = (1 - reach.weights) * measured.weight_product / scale
    explained = (1 + own + correlation + momentum + decay) * scale
    inner = measured.inner_product
    left_over = 1 - explained / inner.masked_fill(inner == 0, math.nan)
    return Bridge(own, correlation, momentum, decay, left_over)


def _weighted_sum(weight: Tensor, products: Tensor) -> Tensor:
    """sum_{l>=1} k_{t+l} <G_t, G_{t+l}> over the lags that are known."""
    total = torch.zeros_like(weight)
    num_steps, num_lags = products.shape
    for lag in range(1, min(num_lags, num_steps)):
        total[: num_steps - lag] += weight[lag:] * products[lag:, lag]
    return total
