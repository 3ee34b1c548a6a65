"""Path quantities against closed forms, identities and a naive reference in Python floats."""

from __future__ import annotations

import math

import pytest
import torch

from geometry import path
from tests.geometry.fields import DIMENSION, W_STAR, G, W, naive, quantities, randn, spd


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
    residual = path.update_identity(distance, distance, norm, inner)
    assert residual.isnan().tolist() == [False, False, True, False]
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
