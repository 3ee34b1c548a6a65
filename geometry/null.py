"""The null model: what gamma, RSI and EB are when every gradient is a step of a random walk.

If all gradients of a run are orthogonal to each other, w* = w_T still correlates with each of them,
because each has moved the weights towards it. The null model is that correlation: what a measured
gamma must exceed to say anything about the loss. Independent isotropic gradients are orthogonal up
to a spread of sqrt((T - t) / dimension).

Notation: T steps; eta_t, G_t the learning rate and the gradient of step t; D_t = w_t - w*. All
tensors are float64, shape [T], whole runs in the order of their steps: a null value at step t needs
the steps after t up to w* and, with momentum, those before it.

How far G_t moves the weights from step t on, in units of itself, is its reach c_t (`reach`). With
N_t = ‖D_t‖ under the null (`_null_distance`):

    gamma_null    = c_t <G_t, P_t G_t> / (‖G_t‖ N_t)
    RSI_null      = c_t <G_t, P_t G_t> / N_t^2
    EB_null       = ‖G_t‖ / N_t
    local_lr_null = c_t <G_t, P_t G_t> / ‖G_t‖^2

P_t is the preconditioner, the identity for SGD. Values are NaN where the measured ones are
(path.py): where G_t = 0, and where nothing moves the weights any more (N_t = 0). A step with
eta_t = 0 and no momentum has reach 0, so its null gamma, RSI and local_lr are 0. A gradient norm
that is NaN makes the steps that depend on it NaN. Weight decay is left out: it is no random step.

Source: P1 ("No Wrong Turns"), section 6, eq. 8, is the closed form; the forms that know step sizes,
gradient norms, momentum and preconditioner are ours.
"""

from __future__ import annotations

from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from geometry import path


class NullPath(NamedTuple):
    """The path quantities under the null model, each [T], float64; see path.py for definitions."""

    gamma: Tensor
    rsi: Tensor
    error_bound: Tensor
    local_lr: Tensor


def closed_form_gamma(num_steps: int) -> Tensor:
    """(T - t)^(-1/2), the null gamma_t for equal step sizes and gradient norms.

    Shape: [T], t = 0..T-1, so that it ends with 1. Raises ValueError for T < 0.
    Source: P1 section 6, eq. 8.
    """
    if num_steps < 0:
        raise ValueError(f"num_steps must be 0 or more, not {num_steps}")
    return torch.arange(num_steps, 0, -1, dtype=torch.float64).rsqrt()


def closed_form(num_steps: int, learning_rate: float) -> NullPath:
    """RSI = 1 / (eta (T-t)), EB = (T-t)^(-1/2) / eta, gamma = (T-t)^(-1/2), local_lr = eta.

    `learning_rate` is eta of SGD, or eta / (1 - beta) of momentum far from the end; 1 gives eq. 8
    itself, whose "gradients" are the steps x_t - x_{t+1}.
    Shape: each [T]. Raises ValueError unless eta > 0. Source: P1 section 6, eq. 8.
    """
    if not learning_rate > 0:
        raise ValueError(f"learning_rate must be positive, not {learning_rate}")
    cosine = closed_form_gamma(num_steps)
    eta = torch.full_like(cosine, learning_rate)
    return NullPath(cosine, cosine.square() / eta, cosine / eta, eta)


def reach(learning_rate: Tensor, *, beta: float) -> Tensor:
    """c_t = sum_{r=t}^{T-1} eta_r beta^(r-t): how far G_t moves the weights, by step T.

    The effective learning rate of momentum: eta / (1 - beta) far from the end of a constant
    schedule, eta_t itself for beta = 0.
    Shape: [T] -> [T]. Raises ValueError if beta is not in [0, 1).
    """
    _check_decay("beta", beta)
    return _discounted_sum(learning_rate.flip(0), beta).flip(0)


def nesterov_reach(learning_rate: Tensor, *, beta: float) -> Tensor:
    """c'_t = eta_t + beta c_t: the reach of a gradient under Nesterov's update eta (G + beta v).

    Shape: [T] -> [T]. Raises ValueError if beta is not in [0, 1).
    """
    return learning_rate + beta * reach(learning_rate, beta=beta)


def adam_reach(learning_rate: Tensor, *, beta1: float) -> Tensor:
    """c_t = sum_{r=t}^{T-1} eta_r (1 - beta1) beta1^(r-t) / (1 - beta1^(r+1)).

    The reach of P_t G_t under Adam, bias correction included; eta_t for beta1 = 0.
    Shape: [T] -> [T]. Raises ValueError if beta1 is not in [0, 1).
    """
    _check_decay("beta1", beta1)
    steps = torch.arange(1, len(learning_rate) + 1, dtype=torch.float64)
    return reach(learning_rate * (1 - beta1) / (1 - beta1**steps), beta=beta1)


def momentum(
    learning_rate: Tensor, gradient_norm: Tensor, *, beta: float, nesterov: bool = False
) -> NullPath:
    """The null of SGD (beta = 0), momentum and Nesterov, aware of step sizes and gradient norms.

    N_t^2 = sum_{s>=t} c_s^2 ‖G_s‖^2 + b_t^2 sum_{s<t} beta^(2(t-s)) ‖G_s‖^2,  P = identity;
    c = `reach` and b = c; for Nesterov c = `nesterov_reach` and b = beta `reach`. The second sum
    is what the momentum buffer remembers: by it gamma ends at sqrt(1 - beta^2) instead of 1.
    Shape: learning_rate [T], gradient_norm [T] -> each [T].
    Raises ValueError if the lengths differ or beta is not in [0, 1).
    """
    buffer_reach = reach(learning_rate, beta=beta)
    gradient_reach = buffer_reach
    if nesterov:
        gradient_reach = nesterov_reach(learning_rate, beta=beta)
        buffer_reach = beta * buffer_reach
    distance = _null_distance(gradient_norm, gradient_reach, buffer_reach, beta)
    return _null_path(gradient_reach * gradient_norm.square(), gradient_norm, distance)


def adam(
    learning_rate: Tensor,
    gradient_norm: Tensor,
    preconditioned_inner: Tensor,
    preconditioned_norm: Tensor,
    *,
    beta1: float,
) -> NullPath:
    """The null of Adam and AdamW, aware of the diagonal preconditioner P_t of each step.

    N_t^2 = sum_{s>=t} c_s^2 ‖P_s G_s‖^2 + c_t^2 sum_{s<t} beta1^(2(t-s)) ‖P_s G_s‖^2 with
    c = `adam_reach`. It takes P_s for P_r at the steps r > s in which the first moment still holds
    G_s, so it is exact for beta1 = 0 or a constant P, where all <G_t, P_s G_s> with s != t are 0.
    preconditioned_inner is <G_t, P_t G_t>, preconditioned_norm is ‖P_t G_t‖.
    Shape: every argument [T] -> each [T].
    Raises ValueError if the lengths differ or beta1 is not in [0, 1).
    """
    coefficient = adam_reach(learning_rate, beta1=beta1)
    distance = _null_distance(preconditioned_norm, coefficient, coefficient, beta1)
    return _null_path(coefficient * preconditioned_inner, gradient_norm, distance)


def of_scaled_gradients(walk: NullPath, scale: Tensor) -> NullPath:
    """The null of G_t, from that of the walk that s_t G_t makes: clipping takes s_t < 1.

    gamma is the same; RSI and EB are divided by s_t, local_lr is multiplied by it.
    Shape: walk each [T], scale [T], positive -> each [T].
    """
    return NullPath(walk.gamma, walk.rsi / scale, walk.error_bound / scale, walk.local_lr * scale)


def _null_path(inner_product: Tensor, gradient_norm: Tensor, distance: Tensor) -> NullPath:
    # The measured quantities' own functions, so that the null is undefined where they are.
    return NullPath(
        gamma=path.gamma(inner_product, gradient_norm, distance),
        rsi=path.rsi(inner_product, distance),
        error_bound=path.error_bound(gradient_norm, distance),
        local_lr=path.local_lr(inner_product, gradient_norm),
    )


def _null_distance(
    norm: Tensor, gradient_reach: Tensor, buffer_reach: Tensor, decay: float
) -> Tensor:
    """‖D_t‖ for orthogonal gradients: what is still to come, and what the buffer holds."""
    if norm.shape != gradient_reach.shape or norm.dim() != 1:
        raise ValueError(
            f"a null model needs columns of one length, not {list(gradient_reach.shape)} "
            f"learning rates and {list(norm.shape)} norms"
        )
    to_come = (gradient_reach * norm).square().flip(0).cumsum(0).flip(0)
    # The sum over s <= t less its newest term would cancel: shift the sum over s <= t - 1 instead.
    remembered = decay**2 * _discounted_sum(norm.square(), decay**2).roll(1)
    remembered[:1] = 0
    return (to_come + buffer_reach.square() * remembered).sqrt()


def _discounted_sum(values: Tensor, factor: float) -> Tensor:
    """y_t = sum_{s<=t} factor^(t-s) x_s by the recursion y_t = x_t + factor y_{t-1}."""
    # Python floats are IEEE doubles and take 0.1 s for 1e6 steps; torch has no linear recurrence.
    sums = accumulate(values.tolist(), lambda total, value: value + factor * total)
    return torch.tensor(list(sums), dtype=torch.float64)


def _check_decay(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ValueError(f"{name} must be in [0, 1), not {value}")
