"""Path quantities against closed forms, identities and a naive reference in Python floats."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
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


def test_equals_the_definitions_in_python_floats() -> None:
    for gradient, weights, *measured in zip(G, W, *quantities(G, W, W_STAR), strict=True):
        expected = naive(gradient.tolist(), weights.tolist(), W_STAR.tolist())
        assert [float(value) for value in measured] == pytest.approx(expected, rel=1e-12)


def test_hand_computed_value() -> None:
    # G = (3, 4), D = (2, 0): <G, D> = 6, norm 5, distance 2.
    rsi, error_bound, gamma, local_lr = quantities(
        torch.tensor([3.0, 4.0], dtype=torch.float64),
        torch.tensor([3.0, 1.0]),
        torch.tensor([1.0, 1.0]),
    )
    measured = [float(value) for value in (rsi, error_bound, gamma, local_lr)]
    assert measured == [1.5, 2.5, 0.6, 6 / 25]
    assert float(path.condition_number(gamma)) == pytest.approx(error_bound / rsi)


def test_gamma_is_rsi_over_error_bound_and_a_cosine() -> None:
    rsi, error_bound, gamma, local_lr = quantities(G, W, W_STAR)
    torch.testing.assert_close(gamma, rsi / error_bound)
    torch.testing.assert_close(local_lr, rsi / error_bound.square())
    torch.testing.assert_close(gamma, torch.cosine_similarity(G, W - W_STAR, dim=-1))
    assert (gamma.abs() <= 1).all()
    assert (gamma < 0).any(), "the case must contain both signs"
    assert (gamma > 0).any(), "the case must contain both signs"


def test_scaling_the_loss_scales_rsi_and_error_bound_and_leaves_gamma() -> None:
    rsi, error_bound, gamma, local_lr = quantities(G, W, W_STAR)
    scaled = quantities(3 * G, W, W_STAR)
    for measured, expected in zip(
        scaled, (3 * rsi, 3 * error_bound, gamma, local_lr / 3), strict=True
    ):
        torch.testing.assert_close(measured, expected)


def test_scaling_the_weights_scales_inversely() -> None:
    rsi, error_bound, gamma, local_lr = quantities(G, W, W_STAR)
    scaled = quantities(G, 3 * W, 3 * W_STAR)
    for measured, expected in zip(
        scaled, (rsi / 3, error_bound / 3, gamma, local_lr * 3), strict=True
    ):
        torch.testing.assert_close(measured, expected)


@pytest.mark.parametrize("what", ["rotation", "permutation"])
def test_rotating_or_permuting_all_vectors_together_changes_nothing(what: str) -> None:
    rotation = torch.linalg.qr(randn(DIMENSION, DIMENSION, seed=4)).Q
    order = torch.randperm(DIMENSION, generator=torch.Generator().manual_seed(5))
    matrix = rotation if what == "rotation" else torch.eye(DIMENSION, dtype=torch.float64)[order]
    moved = quantities(G @ matrix.T, W @ matrix.T, W_STAR @ matrix.T)
    for measured, expected in zip(moved, quantities(G, W, W_STAR), strict=True):
        torch.testing.assert_close(measured, expected)
    mixed_up = quantities(G @ matrix.T, W, W_STAR)
    assert not torch.allclose(mixed_up[0], quantities(G, W, W_STAR)[0])


def test_quadratic_bounds_rsi_and_error_bound_by_its_eigenvalues() -> None:
    hessian = spd(torch.linspace(0.5, 8, DIMENSION, dtype=torch.float64))
    rsi, error_bound, gamma, _ = quantities((W - W_STAR) @ hessian, W, W_STAR)
    assert (rsi >= 0.5).all()
    assert (rsi <= error_bound).all()
    assert (error_bound <= 8).all()
    assert (gamma > 0).all()


def test_isotropic_quadratic_is_exact() -> None:
    rsi, error_bound, gamma, local_lr = quantities(2.5 * (W - W_STAR), W, W_STAR)
    for measured, expected in ((rsi, 2.5), (error_bound, 2.5), (gamma, 1.0), (local_lr, 0.4)):
        torch.testing.assert_close(measured, torch.full_like(measured, expected))


def test_rsi_is_additive_and_error_bound_subadditive_at_the_same_weights() -> None:
    """INVENTORY A14, C14; P1 section 5."""
    other = randn(7, DIMENSION, seed=6)
    (rsi, eb, *_), (other_rsi, other_eb, *_) = (
        quantities(G, W, W_STAR),
        quantities(other, W, W_STAR),
    )
    total_rsi, total_eb, *_ = quantities(G + other, W, W_STAR)
    torch.testing.assert_close(total_rsi, rsi + other_rsi, rtol=1e-12, atol=1e-14)
    assert (total_eb < eb + other_eb).all()
    aligned_eb = quantities(3 * G, W, W_STAR)[1]
    torch.testing.assert_close(aligned_eb, eb + quantities(2 * G, W, W_STAR)[1])


def test_undefined_is_nan_and_never_a_number() -> None:
    #                       G = 0  D = 0  both   fine
    inner = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    norm = torch.tensor([0.0, 2.0, 0.0, 2.0], dtype=torch.float64)
    distance = torch.tensor([3.0, 0.0, 0.0, 3.0], dtype=torch.float64)
    assert path.rsi(inner, distance).isnan().tolist() == [False, True, True, False]
    assert path.error_bound(norm, distance).isnan().tolist() == [False, True, True, False]
    assert path.gamma(inner, norm, distance).isnan().tolist() == [True, True, True, False]
    assert path.local_lr(inner, norm).isnan().tolist() == [True, False, True, False]
    assert path.update_gamma(inner, norm, distance).isnan().tolist() == [True, True, True, False]
    assert path.update_identity(distance, distance, norm, inner).isnan().tolist() == [
        False,
        True,
        True,
        False,
    ]
    assert path.rsi(inner, distance)[0] == 0
    assert path.error_bound(norm, distance)[0] == 0


def test_nan_in_a_gradient_stays_nan() -> None:
    gradient = G.clone()
    gradient[0, 3] = math.nan
    for measured in quantities(gradient, W, W_STAR):
        assert measured.isnan().tolist() == [True, *[False] * 6]


def test_condition_number_is_undefined_without_a_positive_gamma() -> None:
    kappa = path.condition_number(
        torch.tensor([0.5, 1.0, 0.0, -0.5, math.nan], dtype=torch.float64)
    )
    assert kappa[:2].tolist() == [2.0, 1.0]
    assert kappa[2:].isnan().all()


# Dynamics: equations 4 to 7.


def curved(weights: Tensor) -> Tensor:
    """The gradient of a non-convex loss, sum w^2 / 2 + 2 cos(2 w)."""
    return weights - 4 * torch.sin(2 * weights)


@pytest.mark.parametrize("learning_rate", [0.01, 0.3])
def test_one_step_identity(learning_rate: float) -> None:
    """INVENTORY A10, C23; eq. 4, against the weights that SGD really reaches."""
    weights = walk(curved, randn(DIMENSION, seed=7), learning_rate, 30)
    distance = (weights - weights[-1]).norm(dim=1)
    gradient = curved(weights)
    inner = (gradient * (weights - weights[-1])).sum(1)
    rate = torch.tensor(learning_rate, dtype=torch.float64)
    expected = path.one_step_distance_squared(rate, inner, gradient.norm(dim=1), distance)
    torch.testing.assert_close(expected[:-1], distance[1:].square(), rtol=1e-10, atol=1e-13)
    rsi, eb, *_ = quantities(gradient[:-1], weights[:-1], weights[-1])
    factor = 1 - 2 * rate * rsi + rate**2 * eb**2
    torch.testing.assert_close(expected[:-1], factor * distance[:-1] ** 2, rtol=1e-10, atol=1e-13)


def test_one_step_identity_at_the_reference_itself() -> None:
    zero, two, rate = (torch.tensor(value, dtype=torch.float64) for value in (0.0, 2.0, 0.5))
    assert path.one_step_distance_squared(rate, zero, two, zero) == 1


def test_sgd_with_the_local_lr_contracts_by_the_sine_of_the_angle() -> None:
    """INVENTORY A11, C24; eq. 5 and 6: exact on any field, here a non-convex one."""
    weights, reference = randn(DIMENSION, seed=7), randn(DIMENSION, seed=8)
    for _ in range(20):
        _, _, gamma, local_lr = quantities(curved(weights), weights, reference)
        before = (weights - reference).norm()
        after = (weights - local_lr * curved(weights) - reference).norm()
        torch.testing.assert_close(after, path.contraction(gamma) * before, rtol=1e-12, atol=0)
        for nearby in (0.99, 1.01):
            other = weights - nearby * local_lr * curved(weights)
            assert (other - reference).norm() > after
        weights = weights - local_lr * curved(weights)


def test_contraction_closed_forms_and_rounding_beyond_one() -> None:
    gamma = torch.tensor([0.0, 0.6, -0.6, 1.0, 1 + 1e-9, math.nan], dtype=torch.float64)
    expected = torch.tensor([1.0, 0.8, 0.8, 0.0, 0.0, math.nan], dtype=torch.float64)
    torch.testing.assert_close(path.contraction(gamma), expected, equal_nan=True)


def test_steps_to_halve() -> None:
    """INVENTORY A11: within 13863 steps at gamma = 0.01, and not within 13862."""
    gamma = torch.tensor([0.01, 0.3], dtype=torch.float64)
    steps = path.steps_to_halve(gamma)
    assert math.ceil(steps[0]) == 13863
    torch.testing.assert_close(path.contraction(gamma) ** steps, torch.full_like(gamma, 0.5))
    ends = path.steps_to_halve(torch.tensor([0.0, 1.0, 1 + 1e-9, math.nan], dtype=torch.float64))
    assert ends[:3].tolist() == [math.inf, 0.0, 0.0]
    assert ends[3].isnan()


def rsi_eb_field(mu: float, bound: float) -> Field:
    """A linear field with RSI = mu and EB = bound at every point: it turns as it pulls."""
    turn = torch.zeros(DIMENSION, DIMENSION, dtype=torch.float64)
    for i in range(0, DIMENSION, 2):
        turn[i, i + 1], turn[i + 1, i] = 1, -1
    return lambda weights: mu * weights + math.sqrt(bound**2 - mu**2) * weights @ turn


def test_guaranteed_rate_is_attained_by_the_worst_problem() -> None:
    """INVENTORY A12, C24; eq. 7 holds with equality where RSI = mu and EB = L everywhere."""
    field = rsi_eb_field(0.4, 2.0)
    rsi, eb, *_ = quantities(field(W), W, torch.zeros(DIMENSION, dtype=torch.float64))
    rate = path.guaranteed_rate(rsi, eb)
    assert rate.applicable
    assert (rate.mu, rate.max_error_bound) == pytest.approx((0.4, 2.0))
    assert (rate.condition_number, rate.step_size) == pytest.approx((5.0, 0.1))
    assert rate.factor == pytest.approx(0.96)
    assert rate.step_size is not None
    assert rate.factor is not None
    squared = walk(field, W[0], rate.step_size, 50).square().sum(1)
    for before, after in pairwise(squared.tolist()):
        assert after == pytest.approx(rate.factor * before, rel=1e-12)


def test_guaranteed_rate_is_never_violated_on_a_strongly_convex_quadratic() -> None:
    hessian = spd(torch.linspace(0.5, 8, DIMENSION, dtype=torch.float64))
    eigenvectors = torch.linalg.eigh(hessian).eigenvectors.T
    points = torch.cat([eigenvectors, randn(500, DIMENSION, seed=5)])
    rsi, eb, *_ = quantities(points @ hessian, points, torch.zeros(DIMENSION, dtype=torch.float64))
    rate = path.guaranteed_rate(rsi, eb)
    assert (rate.mu, rate.max_error_bound) == pytest.approx((0.5, 8.0))
    assert rate.step_size == pytest.approx(0.5 / 64)
    assert rate.step_size is not None
    assert rate.factor is not None
    for start in (W[0], eigenvectors[0], eigenvectors[-1]):
        squared = walk(lambda w: hessian @ w, start, rate.step_size, 300).square().sum(1)
        bound = squared[0] * rate.factor ** torch.arange(301, dtype=torch.float64)
        assert (squared <= bound * (1 + 1e-12)).all()
        assert squared[-1] < squared[0] / 10


def test_guaranteed_rate_is_not_applicable_without_a_positive_rsi() -> None:
    rate = path.guaranteed_rate(torch.tensor([0.5, 0.0, 1.0]), torch.tensor([1.0, 2.0, 4.0]))
    assert not rate.applicable
    assert (rate.mu, rate.max_error_bound) == (0.0, 4.0)
    assert (rate.condition_number, rate.step_size, rate.factor) == (None, None, None)


def test_guaranteed_rate_leaves_undefined_steps_out_and_counts_them() -> None:
    rsi = torch.tensor([math.nan, 0.5, 1.0, 0.1], dtype=torch.float64)
    eb = torch.tensor([9.0, 2.0, 1.0, math.nan], dtype=torch.float64)
    rate = path.guaranteed_rate(rsi, eb)
    assert (rate.mu, rate.max_error_bound) == (0.5, 2.0)
    assert (rate.num_steps, rate.num_undefined) == (2, 2)


@pytest.mark.parametrize("values", [[], [math.nan, math.nan]])
def test_guaranteed_rate_of_nothing_is_none_and_not_nan(values: list[float]) -> None:
    rate = path.guaranteed_rate(torch.tensor(values), torch.tensor(values))
    assert not rate.applicable
    assert (rate.mu, rate.max_error_bound, rate.factor) == (None, None, None)
    assert (rate.num_steps, rate.num_undefined) == (0, len(values))


def test_guaranteed_rate_with_an_infinite_error_bound_guarantees_nothing() -> None:
    rate = path.guaranteed_rate(torch.tensor([1.0, 1.0]), torch.tensor([2.0, math.inf]))
    assert not rate.applicable
    assert rate.max_error_bound == math.inf


def test_guaranteed_rate_by_quantiles_ignores_the_outer_five_percent() -> None:
    """INVENTORY D4: the 5 % quantile of RSI, the 95 % quantile of EB."""
    rsi = torch.arange(101, dtype=torch.float64).flip(0) - 4
    eb = torch.arange(101, dtype=torch.float64) + 100
    assert not path.guaranteed_rate(rsi, eb).applicable
    rate = path.guaranteed_rate(rsi, eb, tail=0.05)
    assert (rate.mu, rate.max_error_bound) == (1.0, 195.0)
    assert rate.factor == pytest.approx(1 - 195**-2)


@pytest.mark.parametrize("tail", [-0.1, 0.5, math.nan])
def test_guaranteed_rate_refuses_a_tail_out_of_range(tail: float) -> None:
    with pytest.raises(ValueError, match=r"tail must be in \[0, 0.5\), not"):
        path.guaranteed_rate(torch.ones(2), torch.ones(2), tail=tail)


# The update: A16, A17.


@pytest.mark.parametrize(
    "build",
    [
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
        lambda p: torch.optim.AdamW(p, lr=0.1),
    ],
)
def test_update_identity_holds_for_any_optimizer(
    build: Callable[[list[Tensor]], torch.optim.Optimizer],
) -> None:
    """INVENTORY A17, C23: 1e-10 in float64."""
    weights = randn(DIMENSION, seed=7)
    optimizer = build([weights])
    visited = [weights.clone()]
    for _ in range(20):
        weights.grad = curved(weights)
        optimizer.step()
        visited.append(weights.clone())
    trajectory = torch.stack(visited)
    updates, displacement = trajectory.diff(dim=0), trajectory - trajectory[-1]
    distance, update_norm = displacement.norm(dim=1), updates.norm(dim=1)
    inner = (updates * displacement[:-1]).sum(1)
    residual = path.update_identity(distance[:-1], distance[1:], update_norm, inner)
    assert (residual.abs() < 1e-10).all()
    torch.testing.assert_close(
        path.update_gamma(inner, update_norm, distance[:-1]),
        torch.cosine_similarity(-updates, displacement[:-1], dim=1),
    )
    assert path.update_gamma(inner, update_norm, distance[:-1])[-1] == pytest.approx(1)


def test_update_identity_shows_a_wrong_distance_with_its_sign_and_size() -> None:
    one = torch.ones(1, dtype=torch.float64)
    # D = 2, U = -1 along it: the next distance is 1, and 3 would be off by (9 - 1) / 4.
    assert path.update_identity(2 * one, one, one, -2 * one) == 0
    assert path.update_identity(2 * one, 3 * one, one, -2 * one) == 2
    assert path.update_identity(2 * one, 0 * one, one, -2 * one) == -0.25


def test_update_gamma_of_vanilla_sgd_is_gamma() -> None:
    displacement, update = W - W_STAR, -0.3 * G
    inner, norm, distance = (
        (update * displacement).sum(1),
        update.norm(dim=1),
        displacement.norm(dim=1),
    )
    gamma = quantities(G, W, W_STAR)[2]
    torch.testing.assert_close(path.update_gamma(inner, norm, distance), gamma)


# -- Straightness -----------------------------------------------------------------------------


def test_equal_steps_in_a_straight_line_are_ballistic() -> None:
    left = torch.arange(64, 0, -1, dtype=torch.float64)
    distance, update_norm = 0.5 * left, torch.full((64,), 0.5, dtype=torch.float64)
    torch.testing.assert_close(path.straightness(distance, update_norm), left)
    assert path.path_exponent(distance) == pytest.approx(2)


def test_a_walk_of_independent_steps_is_diffusive() -> None:
    updates = randn(1024, 4000, seed=1)
    positions = torch.cat([torch.zeros(1, 4000, dtype=torch.float64), updates.cumsum(0)])
    distance = (positions[:-1] - positions[-1]).norm(dim=1)
    straight = path.straightness(distance, updates.norm(dim=1))
    assert straight.mean().item() == pytest.approx(1, abs=0.05)
    assert path.path_exponent(distance) == pytest.approx(1, abs=0.05)


def test_updates_that_take_each_other_back_lead_nowhere() -> None:
    distance = torch.tensor([0.0, 1.0, 0.0, 1.0], dtype=torch.float64)
    straight = path.straightness(distance, torch.ones(4, dtype=torch.float64))
    assert straight.tolist() == pytest.approx([0, 1 / 3, 0, 1])


def test_straightness_is_undefined_where_nothing_moves() -> None:
    distance, update_norm = torch.ones(3).double(), torch.tensor([1.0, 0.0, 0.0]).double()
    assert path.straightness(distance, update_norm).isnan().tolist() == [False, True, True]
    assert path.path_exponent(torch.tensor([4.0, 2.0]).double()) is None
    assert path.path_exponent(torch.zeros(100).double()) is None
