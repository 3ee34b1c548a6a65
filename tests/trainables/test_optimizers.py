"""Optimizers: their documented formulas in float64, their preconditioner, their null model."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from geometry import null
from trainables.errors import UserError
from trainables.optimizers import (
    OPTIMIZERS,
    SGD,
    Adam,
    AdamW,
    Momentum,
    Nesterov,
    OptimizerConfig,
)
from trainables.registry import build, lookup

RATES = (0.1, 0.05, 0.2, 0.1)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


START, GRADIENTS = randn(6, seed=1), randn(4, 6, seed=2)


def stepped(config: OptimizerConfig) -> Tensor:
    """The weights after each of four steps, by the optimizer that is built."""
    param = torch.nn.Parameter(START.clone())
    optimizer = config.build(param)
    weights = []
    for rate, gradient in zip(RATES, GRADIENTS, strict=True):
        param.grad = gradient.clone()
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        weights.append(param.detach().clone())
    return torch.stack(weights)


def by_hand(update: Callable[[int, float, Tensor, Tensor], Tensor]) -> Tensor:
    """The weights after each of four steps, by a formula for the update."""
    weights = [START]
    for step, (rate, gradient) in enumerate(zip(RATES, GRADIENTS, strict=True)):
        weights.append(weights[-1] + update(step, rate, gradient, weights[-1]))
    return torch.stack(weights[1:])


def test_sgd_is_its_formula() -> None:
    expected = by_hand(lambda _, rate, g, w: -rate * (g + 0.3 * w))
    torch.testing.assert_close(stepped(SGD(weight_decay=0.3)), expected)


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_and_nesterov_are_their_formulas(nesterov: bool) -> None:
    velocity = torch.zeros(6, dtype=torch.float64)

    def update(_: int, rate: float, g: Tensor, w: Tensor) -> Tensor:
        decayed = g + 0.3 * w
        velocity.mul_(0.8).add_(decayed)
        return -rate * (decayed + 0.8 * velocity if nesterov else velocity)

    config = (Nesterov if nesterov else Momentum)(momentum=0.8, weight_decay=0.3)
    torch.testing.assert_close(stepped(config), by_hand(update))


@pytest.mark.parametrize("decoupled", [False, True])
def test_adam_and_adamw_are_their_formulas(decoupled: bool) -> None:
    first, second = torch.zeros(2, 6, dtype=torch.float64)

    def update(step: int, rate: float, g: Tensor, w: Tensor) -> Tensor:
        decayed = g if decoupled else g + 0.3 * w
        first.mul_(0.7).add_(0.3 * decayed)
        second.mul_(0.9).add_(0.1 * decayed.square())
        root = (second / (1 - 0.9 ** (step + 1))).sqrt() + 1e-3
        moved = -rate * first / (1 - 0.7 ** (step + 1)) / root
        return moved - rate * 0.3 * w if decoupled else moved

    options = {"beta1": 0.7, "beta2": 0.9, "epsilon": 1e-3, "weight_decay": 0.3}
    config = (AdamW if decoupled else Adam).model_validate(options)
    torch.testing.assert_close(stepped(config), by_hand(update))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_with_a_rate_of_zero_stands_still(name: str) -> None:
    param = torch.nn.Parameter(START.clone())
    optimizer = OPTIMIZERS[name]().build(param)
    param.grad = GRADIENTS[0].clone()
    assert optimizer.param_groups[0]["lr"] == 0, "a pass sets it at every step"
    optimizer.step()
    assert torch.equal(param, START)


HALVES = (slice(0, 2), slice(2, 6))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_preconditioner_scales_the_first_update(name: str) -> None:
    # Without history every optimizer's direction is P_0 G_0, up to its constant factor.
    config = OPTIMIZERS[name](weight_decay=0.0)
    param = torch.nn.Parameter(START.clone())
    optimizer = config.build(param)
    optimizer.param_groups[0]["lr"] = 1.0
    param.grad = GRADIENTS[0].clone()
    optimizer.step()
    scaling = config.preconditioner(optimizer)
    direction = GRADIENTS[0]
    if scaling is not None:
        direction = torch.cat([scaling(half, torch.empty_like(START[half])) for half in HALVES])
        direction *= GRADIENTS[0]
    ratio = (START - param.detach()) / direction
    torch.testing.assert_close(ratio, ratio[0].expand(6))


def test_adams_preconditioner_follows_its_second_moment() -> None:
    # beta1 = 0: every update is exactly -eta P_t G_t
    config = Adam(beta1=0.0, beta2=0.9)
    param = torch.nn.Parameter(START.clone())
    optimizer = config.build(param)
    for rate, gradient in zip(RATES, GRADIENTS, strict=True):
        before = param.detach().clone()
        param.grad = gradient.clone()
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        scaling = config.preconditioner(optimizer)
        assert scaling is not None
        scales = torch.cat([scaling(half, torch.empty_like(START[half])) for half in HALVES])
        torch.testing.assert_close(param.detach() - before, -rate * scales * gradient)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_has_a_null_model_from_its_probes_columns(name: str) -> None:
    norm = randn(50, seed=3).abs() + 1
    columns = {"learning_rate": torch.full((50,), 0.1, dtype=torch.float64), "gradient_norm": norm}
    columns |= {"preconditioned_inner": norm.square(), "preconditioned_norm": norm}
    path = OPTIMIZERS[name]().null_path(columns)
    for values in path:
        assert values.shape == (50,)
        assert values.dtype == torch.float64
    gamma = path.gamma
    assert ((gamma > 0) & (gamma <= 1 + 1e-12)).all()
    # constant rate, identity as preconditioner: far from the end it is near the closed form
    assert float(gamma[25]) == pytest.approx(float(null.closed_form_gamma(50)[25]), rel=0.3)


def test_the_null_models_are_those_of_the_optimizers_own_coefficients() -> None:
    columns = {"learning_rate": randn(9).abs(), "gradient_norm": randn(9, seed=1).abs()}
    rate, norm = columns.values()
    for config, beta, nesterov in (
        (SGD(), 0.0, False),
        (Momentum(momentum=0.7), 0.7, False),
        (Nesterov(momentum=0.7), 0.7, True),
    ):
        expected = null.momentum(rate, norm, beta=beta, nesterov=nesterov)
        for found, value in zip(config.null_path(columns), expected, strict=True):
            assert torch.equal(found, value)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "sgd",
            {"weight_decay": -1},
            "optimizer.weight_decay: .*greater than or equal to 0, got -1",
        ),
        ("momentum", {"momentum": 1}, "optimizer.momentum: .*less than 1, got 1"),
        ("nesterov", {"momentum": 0}, "optimizer.momentum: .*greater than 0, got 0"),
        ("adam", {"momentum": 0.9}, "optimizer.momentum: unknown key 'momentum'"),
        ("adam", {"beta3": 0.9}, "unknown key 'beta3'; did you mean beta"),
    ],
)
def test_bad_options_are_one_line(name: str, options: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        build(OPTIMIZERS[name], options, "optimizer")
    assert "\n" not in str(caught.value)


def test_an_unknown_optimizer_lists_the_known() -> None:
    with pytest.raises(
        UserError, match="unknown optimizer 'rmsprop'; known: adam, adamw, momentum"
    ):
        lookup("optimizer", OPTIMIZERS, "rmsprop")
