"""The null model's closed forms, levels, end values, and where it is undefined."""

from __future__ import annotations

import math

import pytest
import torch

from geometry import null
from tests.geometry.walks import (
    SGD_LIKE,
    constant,
    cosine,
    dot,
    isotropic_gradients,
    orthogonal_gradients,
    walk,
)

# Closed forms, levels and end values.


def test_closed_form_values() -> None:
    gamma = null.closed_form_gamma(4)
    expected = torch.tensor([0.5, 3**-0.5, 2**-0.5, 1.0], dtype=torch.float64)
    torch.testing.assert_close(gamma, expected, rtol=1e-15, atol=0)
    assert len(null.closed_form_gamma(0)) == 0


def test_closed_form_levels_of_cifar() -> None:
    """INVENTORY H1: T = 29640 at t = 0, T/2, 0.9 T."""
    gamma = null.closed_form_gamma(29640)
    levels = [round(float(gamma[t]), 4) for t in (0, 14820, 26676)]
    assert levels == [0.0058, 0.0082, 0.0184]


def test_closed_form_is_the_aware_null_of_constant_steps() -> None:
    aware = null.momentum(constant(50), torch.full((50,), 7.0, dtype=torch.float64), beta=0.0)
    for left, right in zip(aware, null.closed_form(50, 0.1), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-13, atol=0)


def test_momentum_far_from_the_end_is_the_closed_form_of_the_effective_learning_rate() -> None:
    aware = null.momentum(constant(20_000), torch.ones(20_000, dtype=torch.float64), beta=0.9)
    for left, right in zip(aware, null.closed_form(20_000, 1.0), strict=True):
        # Ratio 1.002 while T - t >> 1 / (1 - beta), INVENTORY H1.
        torch.testing.assert_close(left[1000:10_000], right[1000:10_000], rtol=2e-3, atol=0)


def test_vanilla_sgd_ends_with_gamma_one_and_rsi_of_one_over_eta() -> None:
    """INVENTORY D1j: exact, in the measured run and in the null."""
    run = walk(lambda p: torch.optim.SGD(p), isotropic_gradients(5, 50).double(), constant(5))
    expected = null.momentum(run.learning_rate, run.gradient_norm, beta=0.0)
    for ends in (run.measured, expected):
        values = [float(column[-1]) for column in ends]
        assert values == pytest.approx([1.0, 10.0, 10.0, 0.1], rel=1e-12)


@pytest.mark.parametrize(
    ("beta", "nesterov", "end"),
    [(0.9, False, math.sqrt(1 - 0.81)), (0.5, False, math.sqrt(0.75)), (0.9, True, 0.7149)],
)
def test_momentum_and_nesterov_end_below_one(beta: float, nesterov: bool, end: float) -> None:
    """INVENTORY D1j, D9: .436 and .715 for beta = .9, after a long constant run."""
    ones = torch.ones(400, dtype=torch.float64)
    gamma = null.momentum(0.1 * ones, 3 * ones, beta=beta, nesterov=nesterov).gamma
    assert float(gamma[-1]) == pytest.approx(end, abs=5e-5)


def test_gamma_does_not_depend_on_the_units_of_loss_and_weight() -> None:
    lr, norm = cosine(60), torch.linspace(1, 3, 60, dtype=torch.float64)
    gamma, rsi, error_bound, local_lr = null.momentum(lr, norm, beta=0.9)
    scaled = null.momentum(5 * lr, 7 * norm, beta=0.9)
    for left, right in zip(scaled, (gamma, rsi / 5, error_bound / 5, 5 * local_lr), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-13, atol=0)


def test_local_lr_of_the_null_is_the_reach() -> None:
    """INVENTORY H1: eta_t for SGD, eta / (1 - beta) for momentum far from the end."""
    norm = torch.rand(300, dtype=torch.float64) + 0.5
    torch.testing.assert_close(null.momentum(cosine(300), norm, beta=0.0).local_lr, cosine(300))
    local_lr = null.momentum(constant(300), norm, beta=0.9).local_lr
    torch.testing.assert_close(local_lr, null.reach(constant(300), beta=0.9))
    assert float(local_lr[0]) == pytest.approx(1.0)
    assert float(local_lr[-2]) == pytest.approx(0.19)


def test_reach_by_its_definition() -> None:
    lr = cosine(30).tolist()
    direct = [sum(lr[r] * 0.8 ** (r - t) for r in range(t, 30)) for t in range(30)]
    assert null.reach(cosine(30), beta=0.8).tolist() == pytest.approx(direct, rel=1e-13)
    nesterov = [lr[t] + 0.8 * direct[t] for t in range(30)]
    assert null.nesterov_reach(cosine(30), beta=0.8).tolist() == pytest.approx(nesterov, rel=1e-13)
    adam = [
        sum(lr[r] * 0.2 * 0.8 ** (r - t) / (1 - 0.8 ** (r + 1)) for r in range(t, 30))
        for t in range(30)
    ]
    assert null.adam_reach(cosine(30), beta1=0.8).tolist() == pytest.approx(adam, rel=1e-13)


# The bridge between the papers (INVENTORY H2), on a real loss and in float64.


@pytest.mark.parametrize("beta", [0.0, 0.9])
def test_bridge_from_the_path_to_gradient_correlations(beta: float) -> None:
    """<G_t, D_t> = sum_{s>=t} c_s <G_t, G_s> + c_t beta <G_t, v_{t-1}>, v the momentum buffer."""
    num_steps, lr = 40, cosine(40)
    weights = torch.linspace(-2, 2, 30, dtype=torch.float64)
    buffer = torch.zeros_like(weights)
    visited, gradients, buffers = [], [], []
    # Noise keeps the run from converging, where D_t is lost in the rounding of the weights.
    for eta, noise in zip(lr.tolist(), isotropic_gradients(num_steps, 30).double(), strict=True):
        gradient = weights - 4 * torch.sin(2 * weights) + noise
        visited.append(weights)
        gradients.append(gradient)
        buffers.append(buffer)
        buffer = beta * buffer + gradient
        weights = weights - eta * buffer
    gradient, displacement = torch.stack(gradients), torch.stack(visited) - weights
    reach = null.reach(lr, beta=beta)
    later = torch.ones(num_steps, num_steps, dtype=torch.float64).triu()
    bridge = (gradient @ gradient.T * later) @ reach
    bridge += reach * beta * dot(gradient, torch.stack(buffers))
    scale = gradient.norm(dim=1) * displacement.norm(dim=1)
    residual = (dot(gradient, displacement) - bridge).abs() / scale
    assert residual.max() < 1e-12


# Undefined values and misuse.


def test_a_learning_rate_of_zero_and_a_zero_gradient() -> None:
    lr = torch.tensor([0.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    norm = torch.tensor([1.0, 0.0, 2.0, 1.0], dtype=torch.float64)
    gamma, rsi, error_bound, local_lr = null.momentum(lr, norm, beta=0.0)
    # Step 0 does not move, step 1 has no gradient, step 2 is the last to move, step 3 is at w*.
    nan = math.nan
    for measured, expected in (
        (gamma, [0.0, nan, 1.0, nan]),
        (rsi, [0.0, 0.0, 1.0, nan]),
        (error_bound, [0.5, 0.0, 1.0, nan]),
        (local_lr, [0.0, nan, 1.0, 0.0]),
    ):
        expected_tensor = torch.tensor(expected, dtype=torch.float64)
        torch.testing.assert_close(measured, expected_tensor, equal_nan=True)


def test_the_null_is_undefined_exactly_where_the_run_is() -> None:
    gradients = orthogonal_gradients(30)
    gradients[[3, 20]] = 0
    lr = constant(30)
    lr[-4:] = 0
    for name in ("sgd", "momentum"):
        build, beta, nesterov = SGD_LIKE[name]
        run = walk(build, gradients, lr)
        expected = null.momentum(lr, run.gradient_norm, beta=beta, nesterov=nesterov)
        for measured, value in zip(run.measured, expected, strict=True):
            torch.testing.assert_close(measured, value, rtol=1e-11, atol=1e-14, equal_nan=True)


def test_a_gradient_that_is_nan_makes_nan_of_the_steps_that_depend_on_it() -> None:
    norm = torch.tensor([1.0, math.nan, 1.0, 1.0], dtype=torch.float64)
    sgd = null.momentum(constant(4), norm, beta=0.0).gamma
    assert sgd[:2].isnan().all()
    momentum = null.momentum(constant(4), norm, beta=0.9).gamma
    assert momentum.isnan().all()


@pytest.mark.parametrize("beta", [-0.1, 1.0, math.nan])
def test_a_decay_out_of_range_is_refused(beta: float) -> None:
    ones = torch.ones(3, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"beta must be in \[0, 1\), not"):
        null.momentum(ones, ones, beta=beta)
    with pytest.raises(ValueError, match=r"beta1 must be in \[0, 1\), not"):
        null.adam(ones, ones, ones, ones, beta1=beta)


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match=r"not \[3\] learning rates and \[1\] norms"):
        null.momentum(torch.ones(3), torch.ones(1), beta=0.9)


def test_misuse_of_the_closed_form_is_refused() -> None:
    with pytest.raises(ValueError, match="num_steps must be 0 or more, not -1"):
        null.closed_form_gamma(-1)
    with pytest.raises(ValueError, match=r"learning_rate must be positive, not 0"):
        null.closed_form(3, 0.0)


def test_an_empty_run_has_an_empty_null() -> None:
    empty = torch.empty(0, dtype=torch.float64)
    assert all(column.shape == (0,) for column in null.momentum(empty, empty, beta=0.9))
    assert all(column.shape == (0,) for column in null.adam(*[empty] * 4, beta1=0.9))


def test_long_runs_keep_their_precision() -> None:
    # The closed form at T = 200,000 beside the sums; a difference of prefix sums loses the end.
    ones = torch.ones(200_000, dtype=torch.float64)
    gamma = null.momentum(1e-3 * ones, ones, beta=0.0).gamma
    torch.testing.assert_close(gamma, null.closed_form_gamma(200_000), rtol=1e-11, atol=0)
