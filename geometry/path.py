"""Path quantities: how a gradient lies towards the reference w*, from three primitives per step.

Notation: D_t = w_t - w*, G_t the minibatch gradient at w_t, U_t = w_{t+1} - w_t, all at step t
before update t. Primitives, float64, shape [steps] or any other shape (all functions here are
elementwise unless they say otherwise):

    inner_product         <G_t, D_t>
    gradient_norm         ‖G_t‖
    distance              ‖D_t‖
    update_norm           ‖U_t‖
    update_inner_product  <U_t, D_t>

Undefined values are NaN and never a number: RSI and the error bound are defined for w_t != w* only,
a cosine for two vectors that are not zero. NaN in a primitive stays NaN.
Source: P1 = "No Wrong Turns: The Simple Geometry of Neural Networks Optimization Paths", section 3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor


def rsi(inner_product: Tensor, distance: Tensor) -> Tensor:
    """RSI_t = <G_t, D_t> / ‖D_t‖^2, the restricted secant inequality's ratio.

    Range: the real numbers, in units of 1 / learning rate; NaN where D_t = 0.
    Source: P1 section 3, eq. 2 with the measured gradient and w* = w_T.
    """
    return _ratio(inner_product, distance.square())


def error_bound(gradient_norm: Tensor, distance: Tensor) -> Tensor:
    """EB_t = ‖G_t‖ / ‖D_t‖, the error bound's ratio.

    Range: [0, inf), in units of 1 / learning rate; at least abs(RSI_t); NaN where D_t = 0.
    Source: P1 section 3, eq. 3 with the measured gradient and w* = w_T.
    """
    return _ratio(gradient_norm, distance)


def gamma(inner_product: Tensor, gradient_norm: Tensor, distance: Tensor) -> Tensor:
    """gamma_t = RSI_t / EB_t = <G_t, D_t> / (‖G_t‖ ‖D_t‖) = cos(G_t, D_t).

    Range: [-1, 1] up to the rounding of the primitives; NaN where G_t = 0 or D_t = 0.
    Source: P1 section 3.
    """
    return _ratio(inner_product, gradient_norm * distance)


def condition_number(gamma: Tensor) -> Tensor:
    """kappa_t = EB_t / RSI_t = 1 / gamma_t, the local condition number.

    Range: [1, inf); NaN where gamma_t <= 0: no condition number has a sign.
    The condition number of a whole run, sup EB / inf RSI, is in `GuaranteedRate`.
    Source: P1 section 3.
    """
    return gamma.masked_fill(gamma <= 0, math.nan).reciprocal()


def local_lr(inner_product: Tensor, gradient_norm: Tensor) -> Tensor:
    """eta*_t = argmin_eta ‖w_t - eta G_t - w*‖ = RSI_t / EB_t^2 = <G_t, D_t> / ‖G_t‖^2.

    Range: the real numbers, a learning rate; negative where RSI is; NaN where G_t = 0.
    Source: P1 section 3, eq. 5 (the locally optimal step size).
    """
    return _ratio(inner_product, gradient_norm.square())


def one_step_distance_squared(
    learning_rate: Tensor, inner_product: Tensor, gradient_norm: Tensor, distance: Tensor
) -> Tensor:
    """‖w_t - eta G_t - w*‖^2 = (1 - 2 eta RSI_t + eta^2 EB_t^2) ‖D_t‖^2.

    Computed as ‖D_t‖^2 - 2 eta <G_t, D_t> + eta^2 ‖G_t‖^2, which is defined at D_t = 0 too.
    What ‖D_{t+1}‖^2 must be after a step of vanilla SGD; with weight decay, use the primitives
    of G_t + lambda w_t.
    Range: [0, inf) up to rounding. Source: P1 section 3, eq. 4.
    """
    step_norm = learning_rate * gradient_norm
    return distance.square() - 2 * learning_rate * inner_product + step_norm.square()


def contraction(gamma: Tensor) -> Tensor:
    """‖D_{t+1}‖ / ‖D_t‖ = sqrt(1 - gamma_t^2) after an SGD step of size `local_lr`.

    Range: [0, 1]. A gamma that rounding has put beyond 1 counts as 1.
    Source: P1 section 3, eq. 6.
    """
    return (1 - gamma.square()).clamp(min=0).sqrt()


def steps_to_halve(gamma: Tensor) -> Tensor:
    """Steps until ‖D‖ is half of ‖D_t‖: 2 ln 2 / -ln(1 - gamma_t^2).

    Range: [0, inf], as if gamma_t and the step size `local_lr` held on; inf where gamma_t = 0.
    Example: 13862.3 for gamma = 0.01. Source: P1 section 3, from eq. 6.
    """
    return 2 * math.log(2) / -torch.log1p(-gamma.square().clamp(max=1))


def update_gamma(update_inner_product: Tensor, update_norm: Tensor, distance: Tensor) -> Tensor:
    """cos(-U_t, D_t) = -<U_t, D_t> / (‖U_t‖ ‖D_t‖): how well the update aims at w*.

    The sign makes it comparable with gamma: for vanilla SGD, U_t = -eta G_t, they are equal.
    Range: [-1, 1] up to the rounding of the primitives; NaN where U_t = 0 or D_t = 0.
    """
    return _ratio(-update_inner_product, update_norm * distance)


def update_identity(
    distance: Tensor, next_distance: Tensor, update_norm: Tensor, update_inner_product: Tensor
) -> Tensor:
    """Relative residual of ‖D_{t+1}‖^2 = ‖D_t‖^2 + 2 <U_t, D_t> + ‖U_t‖^2.

    The identity holds for every optimizer, with weight decay and with clipping, so the residual
    shows errors of the measurement alone. It is signed, and relative to the larger of ‖D_t‖^2 and
    ‖U_t‖^2: a path that passes close by w* in long steps rounds as its steps do.
    `next_distance` is ‖D_{t+1}‖, 0 for the last step of a run.
    Range: 0 up to rounding; NaN where D_t = U_t = 0.
    """
    expected = distance.square() + 2 * update_inner_product + update_norm.square()
    scale = torch.maximum(distance.square(), update_norm.square())
    return _ratio(next_distance.square() - expected, scale)


def straightness(distance: Tensor, update_norm: Tensor) -> Tensor:
    """‖D_t‖^2 / sum_{s >= t} ‖U_s‖^2, of a whole run that ends at w*.

    About 1 for a random walk, whose updates are orthogonal on the average; T - t for T - t equal
    updates in a straight line; below 1 where updates take each other back.
    Shape: both [T] -> [T]. Range: [0, T - t]; NaN where no update is left that moves.
    Source: INVENTORY G02.
    """
    left = update_norm.square().flip(0).cumsum(0).flip(0)
    return _ratio(distance.square(), left)


def path_exponent(distance: Tensor) -> float | None:
    """The p in ‖D_t‖^2 ~ (T - t)^p, of a whole run that ends at w*: 1 diffusive, 2 ballistic.

    Least squares on logarithms at T - t = 1, 2, 4, ..., so that every scale counts the same.
    Shape: [T]. None if fewer than three of these distances are positive numbers.
    Source: INVENTORY G02; the choice of steps is ours.
    """
    num_steps = len(distance)
    left = [2**power for power in range(num_steps.bit_length())]
    chosen = distance[[num_steps - steps for steps in left]].square()
    usable = chosen.isfinite() & (chosen > 0)
    if int(usable.sum()) < 3:
        return None
    logs = torch.tensor(left, dtype=torch.float64).log()[usable]
    centred = logs - logs.mean()
    return float((centred * chosen[usable].log()).sum() / centred.square().sum())


@dataclass(frozen=True, kw_only=True)
class GuaranteedRate:
    """The convergence that the measured bounds of a run guarantee to SGD (P1 section 3, eq. 7).

    A field is None where it is undefined; no field is ever NaN.
    """

    num_steps: int
    """Steps on which the bounds rest."""
    num_undefined: int
    """Steps left out because RSI or EB is NaN."""
    mu: float | None = None
    """inf_t RSI_t or its lower quantile; None if no step is defined."""
    max_error_bound: float | None = None
    """L = sup_t EB_t or its upper quantile; None if no step is defined."""
    applicable: bool = False
    """True if mu > 0 and L is finite; else nothing is guaranteed and the fields below are None."""
    condition_number: float | None = None
    """kappa = L / mu, the condition number of the run."""
    step_size: float | None = None
    """The fixed step size mu / L^2."""
    factor: float | None = None
    """1 - mu^2 / L^2, so that ‖D_t‖^2 <= factor^t ‖D_0‖^2."""


def guaranteed_rate(rsi: Tensor, error_bound: Tensor, *, tail: float = 0.0) -> GuaranteedRate:
    """‖D_t‖^2 <= (1 - mu^2 / L^2)^t ‖D_0‖^2 for SGD with the fixed step size mu / L^2.

    mu = inf_t RSI_t and L = sup_t EB_t for `tail` = 0. With `tail` = 0.05, mu is the 5 % quantile
    of RSI and L the 95 % quantile of EB (nearest rank): no guarantee, but not the work of one step.
    Shape: rsi [steps], error_bound [steps]. Raises ValueError if `tail` is not in [0, 0.5).
    Source: P1 section 3, eq. 7; the quantile version is ours.
    """
    if not 0 <= tail < 0.5:
        raise ValueError(f"tail must be in [0, 0.5), not {tail}")
    defined = ~(rsi.isnan() | error_bound.isnan())
    num_steps = int(defined.sum())
    rate = GuaranteedRate(num_steps=num_steps, num_undefined=defined.numel() - num_steps)
    if num_steps == 0:
        return rate
    mu = _quantile(rsi[defined], tail)
    bound = _quantile(error_bound[defined], 1 - tail)
    rate = replace(rate, mu=mu, max_error_bound=bound)
    return _guarantee(rate, mu, bound) if mu > 0 and math.isfinite(bound) else rate


def _guarantee(rate: GuaranteedRate, mu: float, bound: float) -> GuaranteedRate:
    kappa = bound / mu
    return replace(
        rate,
        applicable=True,
        condition_number=kappa,
        step_size=1 / (kappa * bound),
        # kappa < 1 can only be rounding: RSI <= EB at every step.
        factor=max(0.0, 1 - 1 / (kappa * kappa)),
    )


def _quantile(values: Tensor, q: float) -> float:
    # torch.quantile takes 16 M elements at most, and makes NaN of infinite neighbours.
    ordered = values.sort().values
    return float(ordered[round(q * (len(ordered) - 1))])


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    # x / 0 would be inf, which aggregates would take for a value.
    return numerator / denominator.masked_fill(denominator == 0, math.nan)
