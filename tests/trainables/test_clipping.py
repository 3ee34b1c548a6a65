"""Gradient clipping: after the measuring, and known to the null model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from geometry.flat import FlatParameters
from trainables.clipping import ClippedStep
from trainables.config import RunConfig
from trainables.errors import UserError
from trainables.job import Progress
from trainables.optimizers import SGD, Adam, Momentum, OptimizerConfig
from trainables.store import Store, read_table
from trainables.trajectory import Trajectory

Tiny = Callable[..., RunConfig]
Finish = Callable[..., list[Progress]]


def steps_of(store: Store, run_id: str) -> Any:
    return read_table(store.run(run_id).path / "steps.parquet")


def test_a_step_uses_the_clipped_gradient_and_leaves_the_measured_one() -> None:
    module = nn.Linear(30, 20).double()
    flat = FlatParameters(module)
    generator = torch.Generator().manual_seed(0)
    for max_norm, factor in ((0.25, 0.5), (2.0, 1.0)):
        module.weight.grad.normal_(generator=generator)  # type: ignore[union-attr]
        flat.gradients.mul_(0.5 / flat.gradients.norm())  # 0.25 halves it, 2 leaves it alone
        gradient, before = flat.gradients.clone(), flat.weights.clone()
        ClippedStep(flat, max_norm).take(torch.optim.SGD([flat.parameter], lr=1.0))
        torch.testing.assert_close(before - flat.weights, factor * gradient, rtol=1e-12, atol=1e-15)
        assert torch.equal(flat.gradients, gradient)
        flat.check()


def test_clipping_is_torchs_up_to_the_1e_minus_6_in_its_norm() -> None:
    module = nn.Linear(30, 20)
    flat = FlatParameters(module)
    flat.gradients.view(-1)[: 30 * 20] = torch.linspace(-1, 1, 600)
    before = flat.weights.clone()
    ClippedStep(flat, 0.25).take(torch.optim.SGD([flat.parameter], lr=1.0))
    taken = before - flat.weights
    nn.utils.clip_grad_norm_(module.parameters(), 0.25)
    torch.testing.assert_close(taken, flat.gradients, rtol=1e-5, atol=1e-7)


def test_a_clip_that_is_never_reached_changes_no_bit(
    tiny: Tiny, trajectory: Callable[[RunConfig], Trajectory]
) -> None:
    plain = trajectory(tiny(optimizer={"name": "adam"}))
    clipped = trajectory(tiny(optimizer={"name": "adam", "gradient_clip": 1e6}))
    for built in (plain, clipped):
        built.advance(5)
    assert plain.fingerprint() == clipped.fingerprint()


def test_the_measured_gradient_is_unclipped_and_the_update_is_not(
    tiny: Tiny, store: Store, finish: Finish
) -> None:
    clip = 0.05
    optimizer = {"name": "sgd", "gradient_clip": clip}
    finish(store, a=tiny(optimizer=optimizer, learning_rate=0.1))
    table = steps_of(store, "a")
    assert (table["gradient_norm"] > clip).all()
    assert table["update_norm"].to_numpy() == pytest.approx(0.1 * clip, rel=1e-5)
    manifest = store.run("a").manifest()
    assert manifest is not None
    assert manifest["replay_exact"]


def test_the_preconditioner_probe_sees_the_unclipped_gradient(
    tiny: Tiny, store: Store, finish: Finish
) -> None:
    optimizer = {"name": "adam", "beta1": 0.0, "gradient_clip": 0.05}
    finish(store, a=tiny(optimizer=optimizer, learning_rate=0.01))
    table = steps_of(store, "a")
    # beta1 = 0: the update is eta P_t s_t G_t
    scale = 0.05 / table["gradient_norm"]
    expected = 0.01 * scale * table["preconditioned_norm"]
    assert table["update_norm"].to_numpy() == pytest.approx(expected.to_numpy(), rel=1e-4)


def orthogonal_walk(optimizer: OptimizerConfig, gradients: Tensor) -> Tensor:
    """w_0..w_T of the optimizer's steps with those gradients, by torch.optim; [T + 1, P]."""
    flat = FlatParameters(nn.Linear(gradients.shape[1], 1, bias=False).double())
    step = ClippedStep(flat, optimizer.gradient_clip or 1e9)
    torch_optimizer = optimizer.build(flat.parameter)
    weights = [flat.weights.clone()]
    for gradient in gradients:
        flat.gradients.copy_(gradient)
        torch_optimizer.param_groups[0]["lr"] = 0.1
        step.take(torch_optimizer)
        weights.append(flat.weights.clone())
    return torch.stack(weights)


@pytest.mark.parametrize(
    "optimizer",
    [
        SGD(gradient_clip=0.8),
        Momentum(momentum=0.7, gradient_clip=0.8),
        Adam(beta1=0.0, gradient_clip=0.8),
        SGD(),
    ],
    ids=["sgd", "momentum", "adam", "unclipped"],
)
def test_the_null_is_exact_for_orthogonal_clipped_gradients(optimizer: OptimizerConfig) -> None:
    num_steps, size = 12, 256
    # the coordinates are disjoint, so that Adam's scaling keeps the gradients orthogonal
    gradients = torch.zeros(num_steps, size, dtype=torch.float64)
    for t in range(num_steps):
        gradients[t, 20 * t : 20 * t + 20] = 0.05 * (t + 1) * torch.linspace(1, 2, 20).double()
    norm = gradients.norm(dim=1)
    assert (norm < 0.8).any()
    assert (norm > 0.8).any()
    weights = orthogonal_walk(optimizer, gradients)
    displacement = weights[:-1] - weights[-1]
    inner, distance = (gradients * displacement).sum(1), displacement.norm(dim=1)
    rate = torch.full((num_steps,), 0.1, dtype=torch.float64)
    columns = {"learning_rate": rate, "gradient_norm": norm}
    if isinstance(optimizer, Adam):
        scaling = torch.stack([_adam_scaling(optimizer, gradients, t) for t in range(num_steps)])
        columns["preconditioned_inner"] = (gradients.square() * scaling).sum(1)
        columns["preconditioned_norm"] = (gradients * scaling).norm(dim=1)
    path = optimizer.null_path_clipped(columns)
    torch.testing.assert_close(path.gamma, inner / norm / distance, rtol=1e-10, atol=0)
    torch.testing.assert_close(path.rsi, inner / distance.square(), rtol=1e-10, atol=0)
    torch.testing.assert_close(path.error_bound, norm / distance, rtol=1e-10, atol=0)
    torch.testing.assert_close(path.local_lr, inner / norm.square(), rtol=1e-10, atol=0)


def _adam_scaling(optimizer: Adam, gradients: Tensor, step: int) -> Tensor:
    """P_t of clipped gradients that are zero in these coordinates before step t."""
    clip = optimizer.gradient_clip
    assert clip is not None
    clipped = gradients[step] * min(1.0, clip / float(gradients[step].norm()))
    correction = (1 - optimizer.beta2) / (1 - optimizer.beta2 ** (step + 1))
    return 1 / (clipped.abs() * correction**0.5 + optimizer.epsilon)


def test_a_clip_of_zero_is_refused() -> None:
    with pytest.raises(UserError, match=r"optimizer.gradient_clip: .*greater than 0, got 0"):
        RunConfig.parse({"optimizer": {"name": "adam", "gradient_clip": 0}})
