"""What path quantities say of the next step: contraction, rate, update, straightness."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from geometry import path
from tests.geometry.fields import DIMENSION, W_STAR, Field, G, W, quantities, randn, spd, walk

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


def test_update_identity_of_steps_longer_than_the_way_left_rounds_as_the_steps_do() -> None:
    """One step past w* in float32, from 1e-4 on one side to 1 on the other."""
    reference = randn(DIMENSION, seed=7).float()
    displacement, update = 1e-5 * randn(DIMENSION, seed=8).float(), randn(DIMENSION, seed=9).float()
    before = reference + displacement
    after = before + update
    near, far, step = (
        vector.double() for vector in (before - reference, after - reference, after - before)
    )
    residual = path.update_identity(near.norm(), far.norm(), step.norm(), near @ step)
    assert 0 < residual.abs() < 1e-6
    assert (near.norm() / step.norm()).square() < 1e-9
