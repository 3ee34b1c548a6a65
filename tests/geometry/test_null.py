"""The null model against torch.optim: exact on orthogonal gradients, statistical on random ones."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from geometry import null
from tests.geometry.walks import (
    SCHEDULES,
    SGD_LIKE,
    adam_null,
    constant,
    cosine,
    isotropic_gradients,
    orthogonal_gradients,
    walk,
)

# Exact: orthogonal gradients.


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", SGD_LIKE)
def test_sgd_momentum_and_nesterov_are_exact_for_orthogonal_gradients(
    name: str, schedule: Callable[[int], Tensor]
) -> None:
    build, beta, nesterov = SGD_LIKE[name]
    run = walk(build, orthogonal_gradients(80), schedule(80))
    expected = null.momentum(run.learning_rate, run.gradient_norm, beta=beta, nesterov=nesterov)
    for measured, value in zip(run.measured, expected, strict=True):
        torch.testing.assert_close(measured, value, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_adam_is_exact_for_orthogonal_gradients_without_a_first_moment(
    schedule: Callable[[int], Tensor],
) -> None:
    run = walk(
        lambda p: torch.optim.Adam(p, betas=(0.0, 0.9)), orthogonal_gradients(80), schedule(80)
    )
    turned = run.preconditioned_inner / (run.gradient_norm * run.preconditioned_norm)
    assert (turned < 0.99).any(), "the preconditioner must turn the gradients, or it is not tested"
    for measured, value in zip(run.measured, adam_null(run, beta1=0.0), strict=True):
        torch.testing.assert_close(measured, value, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("beta1", [0.5, 0.9])
def test_adam_is_exact_for_orthogonal_gradients_and_a_constant_preconditioner(
    beta1: float, schedule: Callable[[int], Tensor]
) -> None:
    # epsilon outweighs the second moment by 1e10, so P is constant to 1e-10.
    run = walk(
        lambda p: torch.optim.Adam(p, betas=(beta1, 0.999), eps=1e10),
        orthogonal_gradients(80),
        schedule(80),
    )
    for measured, value in zip(run.measured, adam_null(run, beta1=beta1), strict=True):
        torch.testing.assert_close(measured, value, rtol=1e-8, atol=0)


def test_adam_with_the_identity_as_preconditioner_and_no_bias_left_is_scaled_momentum() -> None:
    # A first step so late that the bias correction is over: only the last steps are compared.
    lr, norm = cosine(300), torch.linspace(1, 2, 300, dtype=torch.float64)
    adam = null.adam(lr, norm, norm.square(), norm, beta1=0.5)
    momentum = null.momentum(0.5 * lr, norm, beta=0.5)
    for left, right in zip(adam, momentum, strict=True):
        torch.testing.assert_close(left[60:], right[60:], rtol=1e-14, atol=0)
    assert not torch.allclose(adam.local_lr[:3], momentum.local_lr[:3])


# Statistical: independent isotropic gradients (INVENTORY D9; spread sqrt((T - t) / dimension)).


def check_ratio(measured: Tensor, expected: Tensor, *, low: float, high: float) -> None:
    """The mean over all steps within (low, high), and the last 20 steps close one by one."""
    ratio = measured / expected
    assert low < ratio.mean() < high
    assert (ratio[-20:] - 1).abs().max() < 0.1


@pytest.mark.parametrize("schedule", [constant, cosine])
@pytest.mark.parametrize("name", ["sgd", "momentum", "nesterov"])
def test_walks_of_sgd_momentum_and_nesterov_follow_the_null(
    name: str, schedule: Callable[[int], Tensor]
) -> None:
    build, beta, nesterov = SGD_LIKE[name]
    run = walk(build, isotropic_gradients(200, 20_000), schedule(200))
    gamma = null.momentum(run.learning_rate, run.gradient_norm, beta=beta, nesterov=nesterov).gamma
    check_ratio(run.measured.gamma, gamma, low=0.985, high=1.015)


@pytest.mark.parametrize("growth", [0.2, 1.0, 5.0])
@pytest.mark.parametrize("schedule", [constant, cosine])
def test_walks_of_adam_follow_the_null_at_constant_growing_and_shrinking_norms(
    schedule: Callable[[int], Tensor], growth: float
) -> None:
    scale = growth ** torch.linspace(0, 1, 200)
    run = walk(
        lambda p: torch.optim.Adam(p), isotropic_gradients(200, 20_000, scale), schedule(200)
    )
    gamma = null.adam(
        run.learning_rate,
        run.gradient_norm,
        run.preconditioned_inner,
        run.preconditioned_norm,
        beta1=0.9,
    ).gamma
    check_ratio(run.measured.gamma, gamma, low=0.96, high=1.02)


def test_unit_steps_of_a_walk_follow_the_closed_form() -> None:
    """INVENTORY C22: the mean of gamma sqrt(T - t) is in [0.98, 1.02] at d = 20000, T = 200."""
    gradients = torch.nn.functional.normalize(isotropic_gradients(200, 20_000), dim=1)
    run = walk(lambda p: torch.optim.SGD(p), gradients, constant(200))
    scaled = run.measured.gamma / null.closed_form_gamma(200)
    assert 0.98 < scaled.mean() < 1.02
    assert scaled.std() == pytest.approx(0.07, abs=0.02)
