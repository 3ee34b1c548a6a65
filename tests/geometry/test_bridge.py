"""The bridge against trainings by hand in float64: every term by itself, and nothing left over."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from geometry import path
from geometry.bridge import Bridge, LinearUpdate, Measured, bridge, coefficients
from geometry.null import nesterov_reach, reach

F64 = torch.float64
NUM_STEPS, SIZE = 40, 12


@dataclass
class Training:
    """A minibatch training on noisy quadratics, its vectors kept."""

    update: LinearUpdate
    learning_rate: Tensor
    weight_decay: Tensor
    gradients: Tensor
    weights: Tensor
    buffers: Tensor
    """v_{t-1}, the buffer as step t finds it."""
    final: Tensor

    @property
    def inner_product(self) -> Tensor:
        return (self.gradients * (self.weights - self.final)).sum(1)

    def products(self, num_lags: int) -> Tensor:
        products = torch.full((NUM_STEPS, num_lags), math.nan, dtype=F64)
        for lag in range(num_lags):
            pairs = self.gradients[lag:] * self.gradients[: NUM_STEPS - lag]
            products[lag:, lag] = pairs.sum(1)
        return products

    def bridge(self, num_lags: int) -> Bridge:
        measured = Measured(
            self.learning_rate,
            self.weight_decay,
            self.products(num_lags),
            self.inner_product,
            (self.gradients * self.weights).sum(1),
            (self.gradients * self.buffers).sum(1),
        )
        return bridge(self.update, measured)


def train(update: LinearUpdate) -> Training:
    """torch.optim.SGD itself, learning rate and weight decay under a schedule."""
    generator = torch.Generator().manual_seed(0)
    curvature = torch.rand(SIZE, dtype=F64, generator=generator)
    learning_rate = 0.05 + 0.1 * torch.rand(NUM_STEPS, dtype=F64, generator=generator)
    weights = torch.randn(SIZE, dtype=F64, generator=generator).requires_grad_()
    optimizer = torch.optim.SGD([weights], momentum=update.beta, nesterov=update.nesterov)
    weight_decay = torch.linspace(0.2, 0.1, NUM_STEPS, dtype=F64) * update.decays
    rows: list[tuple[Tensor, Tensor, Tensor]] = []
    for eta, decay in zip(learning_rate.tolist(), weight_decay.tolist(), strict=True):
        noise = 0.3 * torch.randn(SIZE, dtype=F64, generator=generator)
        weights.grad = curvature * weights.detach() + noise
        buffer = optimizer.state[weights].get("momentum_buffer")
        kept = torch.zeros(SIZE, dtype=F64) if buffer is None else buffer.clone()
        rows.append((weights.grad.clone(), weights.detach().clone(), kept))
        optimizer.param_groups[0] |= {"lr": eta, "weight_decay": decay}
        optimizer.step()
    vectors = [torch.stack(column) for column in zip(*rows, strict=True)]
    return Training(update, learning_rate, weight_decay, *vectors, weights.detach())


UPDATES = {
    "sgd": LinearUpdate(),
    "sgd, decay": LinearUpdate(decays=True),
    "momentum": LinearUpdate(beta=0.9),
    "momentum, decay": LinearUpdate(beta=0.8, decays=True),
    "nesterov": LinearUpdate(beta=0.9, nesterov=True),
    "nesterov, decay": LinearUpdate(beta=0.7, nesterov=True, decays=True),
}


@pytest.mark.parametrize("name", UPDATES)
def test_with_all_lags_the_terms_are_the_locally_optimal_step_size(name: str) -> None:
    training = train(UPDATES[name])
    terms = training.bridge(NUM_STEPS)
    norm = training.gradients.norm(dim=1)
    expected = path.local_lr(training.inner_product, norm) / training.learning_rate - 1
    total = terms.own + terms.correlation + terms.momentum + terms.decay
    torch.testing.assert_close(total, expected, rtol=1e-11, atol=1e-11)
    # relative to an inner product that may be small against its own terms
    assert float(terms.left_over.abs().max()) < 1e-10


def test_plain_sgd_is_the_weighted_sum_of_lagged_correlations_and_nothing_else() -> None:
    training = train(LinearUpdate())
    terms, eta = training.bridge(NUM_STEPS), training.learning_rate
    for values in (terms.own, terms.momentum, terms.decay):
        torch.testing.assert_close(values, torch.zeros(NUM_STEPS, dtype=F64))
    for t in range(NUM_STEPS):
        later = range(t + 1, NUM_STEPS)
        own = training.gradients[t]
        dots = (float(eta[s] / eta[t] * (own @ training.gradients[s])) for s in later)
        assert float(terms.correlation[t]) == pytest.approx(
            sum(dots) / float(own @ own), rel=1e-12, abs=1e-12
        )


@pytest.mark.parametrize("num_lags", [2, 5, 20])
@pytest.mark.parametrize("name", UPDATES)
def test_what_is_left_over_is_the_share_of_the_lags_beyond(name: str, num_lags: int) -> None:
    training = train(UPDATES[name])
    known, every = training.bridge(num_lags), training.bridge(NUM_STEPS)
    beyond = every.correlation - known.correlation
    scale = training.learning_rate * training.gradients.square().sum(1)
    torch.testing.assert_close(
        known.left_over, beyond * scale / training.inner_product, rtol=1e-9, atol=1e-9
    )
    assert float(known.left_over[: NUM_STEPS - num_lags].abs().max()) > 1e-3
    assert float(known.left_over[NUM_STEPS - num_lags :].abs().max()) < 1e-10


def test_coefficients_are_the_reaches_of_the_null_model() -> None:
    eta, none = torch.linspace(0.1, 0.02, 30, dtype=F64), torch.zeros(30, dtype=F64)
    found = coefficients(LinearUpdate(beta=0.9), eta, none)
    torch.testing.assert_close(-found.gradient, reach(eta, beta=0.9))
    torch.testing.assert_close(-found.buffer, 0.9 * reach(eta, beta=0.9))
    found = coefficients(LinearUpdate(beta=0.9, nesterov=True), eta, none)
    torch.testing.assert_close(-found.gradient, nesterov_reach(eta, beta=0.9))
    torch.testing.assert_close(-found.buffer, 0.81 * reach(eta, beta=0.9))
    torch.testing.assert_close(found.weights, torch.ones(30, dtype=F64))


def test_coefficients_of_decay_are_products_of_what_it_leaves() -> None:
    eta, decay = torch.linspace(0.1, 0.02, 6, dtype=F64), torch.linspace(0.5, 0.2, 6, dtype=F64)
    found = coefficients(LinearUpdate(decays=True), eta, decay)
    left = (1 - decay * eta).tolist()
    for t in range(6):
        assert float(found.weights[t]) == pytest.approx(math.prod(left[t:]))
        assert float(found.gradient[t]) == pytest.approx(-float(eta[t]) * math.prod(left[t + 1 :]))


def test_a_step_without_gradient_or_learning_rate_is_undefined() -> None:
    training = train(LinearUpdate(beta=0.9))
    training.gradients[3] = 0
    training.learning_rate[5] = 0
    for values in training.bridge(5):
        assert values.isnan().nonzero()[:, 0].tolist() == [3, 5]


def test_columns_of_different_lengths_are_refused() -> None:
    one, two = torch.zeros(1), torch.zeros(2)
    with pytest.raises(ValueError, match=r"needs columns of one length, not \[1, 2\]"):
        bridge(LinearUpdate(), Measured(two, two, torch.zeros(1, 1), one, one, one))
