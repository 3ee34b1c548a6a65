"""The synthetic task: values and gradients against closed forms, and whole runs against theirs."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from geometry import null
from trainables.config import RunConfig
from trainables.data.asymmetric_linear import AsymmetricLinear
from trainables.data.objective import Objective
from trainables.data.quadratic import Quadratic
from trainables.data.sinusoidal_mixture import SinusoidalMixture
from trainables.errors import UserError
from trainables.job import Progress
from trainables.models.vector import Vector
from trainables.randomness import generator, seeded
from trainables.store import Store, read_table

Finish = Callable[..., list[Progress]]

CPU = torch.device("cpu")


def synthetic(data: dict[str, Any], **options: Any) -> RunConfig:
    """A run on an objective: SGD, ten steps an epoch unless the options say otherwise."""
    defaults: dict[str, Any] = {
        "task": "synthetic",
        "model": "vector",
        "optimizer": "sgd",
        "batch_size": 10,
        "learning_rate": 0.01,
        "budget": {"steps": 400},
        "evaluate_every_epochs": 100,
    }
    return RunConfig.parse({**defaults, "data": data, **options})


@pytest.fixture
def steps_of(store: Store, finish: Finish) -> Callable[[RunConfig], pd.DataFrame]:
    """The steps table of a run, both passes done."""

    def run(config: RunConfig) -> pd.DataFrame:
        name = f"run{len(list(store.root.glob('runs/*')))}"
        finish(store, trajectory_id=name, **{name: config})
        manifest = store.run(name).manifest()
        assert manifest is not None
        assert manifest["replay_exact"] is True
        return read_table(store.run(name).path / "steps.parquet")

    return run


def gradient(objective: Objective, weights: torch.Tensor, examples: list[int]) -> torch.Tensor:
    weights = weights.clone().requires_grad_()
    loss = objective.loss(weights, torch.tensor(examples), generator(0))
    return torch.autograd.grad(loss, weights)[0]


# --- the asymmetric linear model (P1 eq. 9) ----------------------------------------------------


@pytest.mark.parametrize("loss", ["rmse", "squares"])
def test_the_asymmetric_linear_model_counts_only_what_is_above_its_target(loss: Any) -> None:
    objective = AsymmetricLinear(dimension=3, loss=loss).objective("train")
    inputs, targets = (objective.constants[name].tolist() for name in ("inputs", "targets"))
    weights = torch.tensor([0.5, -1.0, 2.0])
    above = [
        max(0.0, sum(x * w for x, w in zip(inputs[i], weights.tolist(), strict=True)) - targets[i])
        for i in (4, 7, 9)
    ]
    expected = sum(v * v for v in above) / 3
    assert sum(v > 0 for v in above) not in (0, 3)
    expected = math.sqrt(expected) if loss == "rmse" else expected
    found = objective.loss(weights, torch.tensor([4, 7, 9]), generator(0)).item()
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("loss", ["rmse", "squares"])
def test_where_every_output_is_below_its_target_the_gradient_is_zero(loss: Any) -> None:
    objective = AsymmetricLinear(loss=loss).objective("train")
    satisfied = objective.constants["targets"].gt(0).nonzero().flatten().tolist()
    assert torch.equal(gradient(objective, torch.zeros(2), satisfied[:5]), torch.zeros(2))


def test_steps_without_a_violation_are_undefined_and_counted_and_move_nothing(
    steps_of: Callable[[RunConfig], pd.DataFrame],
) -> None:
    steps = steps_of(synthetic({"name": "asymmetric_linear"}, batch_size=1))
    still = steps["gradient_norm"] == 0
    assert 0.2 < still.mean() < 0.7  # INVENTORY D10: 43 % of steps
    assert steps["gamma"].isna().tolist() == (still | (steps["distance"] == 0)).tolist()
    assert (steps.loc[still, "update_norm"] == 0).all()


def negative_share(steps: pd.DataFrame) -> float:
    return float((steps["gamma"].dropna() < 0).mean())


def test_the_asymmetric_linear_models_path_turns_back_in_few_dimensions_alone(
    steps_of: Callable[[RunConfig], pd.DataFrame],
) -> None:
    few = steps_of(synthetic({"name": "asymmetric_linear"}, budget={"steps": 800}))
    many = {"name": "asymmetric_linear", "dimension": 100, "num_examples": 1000}
    assert negative_share(few) > 0.2  # INVENTORY D10: 33 %
    assert (few["rsi"].dropna() < 0).any()
    assert negative_share(steps_of(synthetic(many))) < 0.02  # 0.4 %


@pytest.mark.parametrize("loss", ["rmse", "squares"])
def test_the_full_batch_is_all_points_at_once(
    loss: str, steps_of: Callable[[RunConfig], pd.DataFrame]
) -> None:
    data = {"name": "asymmetric_linear", "loss": loss}
    budget = {"steps": 30}
    full = steps_of(synthetic(data, batch_size="full", chunk=100, budget=budget))
    all_points = steps_of(synthetic(data, batch_size=100, budget=budget))
    for column in ("loss", "gradient_norm", "distance"):
        assert full[column].to_numpy() == pytest.approx(all_points[column].to_numpy(), rel=1e-4)
    assert full["epoch"].tolist() == list(range(30))


def test_a_full_batch_has_no_noise(steps_of: Callable[[RunConfig], pd.DataFrame]) -> None:
    """w_t = (1 - eta lambda)^t w_0 for each coordinate, whatever the noise of one example."""
    data = {"name": "quadratic", "dimension": 2, "eigenvalues": [0.5, 2.0], "gradient_noise": 3.0}
    model = {"name": "vector", "start": [3.0, -1.0]}
    options: dict[str, Any] = {"batch_size": "full", "chunk": 100, "learning_rate": 0.3}
    steps = steps_of(synthetic(data, model=model, budget={"steps": 20}, **options))
    t = np.arange(20)
    expected = 0.25 * 9 * (1 - 0.15) ** (2 * t) + (1 - 0.6) ** (2 * t)
    assert steps["loss"].to_numpy() == pytest.approx(expected, rel=1e-4, abs=1e-9)


def test_the_mean_of_a_random_walk_goes_nowhere(
    steps_of: Callable[[RunConfig], pd.DataFrame],
) -> None:
    walk = {"name": "random_walk", "dimension": 50}
    steps = steps_of(synthetic(walk, batch_size="full", chunk=100, budget={"steps": 5}))
    assert (steps["gradient_norm"] == 0).all()
    assert steps["gamma"].isna().all()


def test_validation_points_are_others() -> None:
    data = AsymmetricLinear().load(Path())
    inputs = [objective.constants["inputs"] for objective in (data.train, data.validation)]
    assert not torch.equal(*inputs)
    assert abs(torch.stack(inputs).std().item() - 1) < 0.1


# --- the sinusoidal mixture (P1 eq. 9) ---------------------------------------------------------


def test_the_sinusoidal_mixtures_gradient_is_its_closed_form() -> None:
    objective = SinusoidalMixture().objective("train")
    weights = 3 * torch.randn(10, generator=generator(1), dtype=torch.float64)
    a = objective.constants["frequencies"].double()
    expected = 2 * weights + 100 * a * torch.sin(2 * a * weights)
    objective.constants["frequencies"] = a
    assert torch.allclose(gradient(objective, weights, [0]), expected, rtol=1e-12)
    value = weights.square().sum() + 100 * (a * weights).sin().square().sum()
    assert objective.value(weights).item() == pytest.approx(value.item(), rel=1e-12)


@pytest.mark.parametrize("dimension", [2, 10])
def test_the_sinusoidal_mixture_never_turns_back_in_the_limit_of_small_learning_rates(
    dimension: int, steps_of: Callable[[RunConfig], pd.DataFrame]
) -> None:
    data = {"name": "sinusoidal_mixture", "dimension": dimension}
    model = {"name": "vector", "std": 3}
    assert negative_share(steps_of(synthetic(data, model=model, learning_rate=1e-4))) == 0


def test_the_sinusoidal_mixture_turns_back_at_a_learning_rate_of_a_hundredth(
    steps_of: Callable[[RunConfig], pd.DataFrame],
) -> None:
    steps = steps_of(synthetic({"name": "sinusoidal_mixture"}, model={"name": "vector", "std": 3}))
    assert negative_share(steps) > 0.1  # INVENTORY D11: 30 %
    assert (steps["rsi"].dropna() < 0).any()


# --- quadratics --------------------------------------------------------------------------------


def test_gradient_descent_on_a_quadratic_is_its_closed_form(
    steps_of: Callable[[RunConfig], pd.DataFrame],
) -> None:
    eigenvalues, start, rate = np.array([0.5, 1.0, 3.0]), np.array([1.0, -2.0, 0.5]), 0.2
    steps = steps_of(
        synthetic(
            {"name": "quadratic", "dimension": 3, "eigenvalues": eigenvalues.tolist()},
            model={"name": "vector", "start": start.tolist()},
            learning_rate=rate,
            budget={"steps": 20},
        )
    )
    weights = start * (1 - rate * eigenvalues) ** np.arange(21)[:, None]
    gradients, away = eigenvalues * weights[:-1], weights[:-1] - weights[-1]
    inner = (gradients * away).sum(1)
    squared, norm = (away**2).sum(1), np.sqrt((gradients**2).sum(1))
    assert steps["loss"].to_numpy() == pytest.approx((eigenvalues * weights[:-1] ** 2).sum(1) / 2)
    assert steps["distance"].to_numpy() == pytest.approx(np.sqrt(squared), rel=1e-5)
    assert steps["gamma"].to_numpy() == pytest.approx(inner / np.sqrt(squared) / norm, rel=1e-5)
    assert steps["rsi"].to_numpy() == pytest.approx(inner / squared, rel=1e-5)
    assert steps["local_lr"].to_numpy() == pytest.approx(inner / norm**2, rel=1e-5)


def test_rsi_and_error_bound_lie_within_the_spectrum(
    steps_of: Callable[[RunConfig], pd.DataFrame],
) -> None:
    data = {"name": "quadratic", "smallest": 0.2, "largest": 2.0}
    steps = steps_of(synthetic(data, learning_rate=0.4, budget={"steps": 300}))
    kept = steps.iloc[:100]  # w* is the minimum up to 0.92^400, far below the distance by then
    assert kept["rsi"].ge(0.2 * (1 - 1e-4)).all()
    assert (kept["error_bound"] >= kept["rsi"] * (1 - 1e-6)).all()
    assert kept["error_bound"].le(2.0 * (1 + 1e-4)).all()


def test_a_quadratics_spectrum_is_the_one_asked_for() -> None:
    linear = Quadratic(dimension=4, smallest=1, largest=4).spectrum()
    geometric = Quadratic(dimension=4, smallest=1, largest=8, spacing="geometric").spectrum()
    assert linear == pytest.approx((1, 2, 3, 4))
    assert geometric == pytest.approx((1, 2, 4, 8))
    objective = Quadratic(dimension=4, smallest=1, largest=4).objective("train")
    hessian = torch.autograd.functional.hessian(objective.value, torch.ones(4))
    assert torch.equal(hessian, torch.diag(torch.tensor(linear)))


def test_gradient_noise_has_the_deviation_asked_for_over_the_root_of_the_batch() -> None:
    objective = Quadratic(dimension=100_000, gradient_noise=3.0).objective("train")
    for batch_size in (1, 9):
        noise = gradient(objective, torch.zeros(100_000), [0] * batch_size)
        assert noise.std().item() == pytest.approx(3 / math.sqrt(batch_size), rel=0.01)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eigenvalues": [1.0, 2.0]}, "2 eigenvalues for 10 dimensions; set dimension to 2"),
        ({"spacing": "geometric", "smallest": 0}, "geometric needs a smallest eigenvalue above 0"),
    ],
)
def test_a_spectrum_that_does_not_fit_is_a_user_error(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        synthetic({"name": "quadratic", **options})


# --- the random walk (P1 eq. 8) ----------------------------------------------------------------


def test_a_random_walk_through_both_passes_is_the_null_model(
    steps_of: Callable[[RunConfig], pd.DataFrame],
) -> None:
    data = {"name": "random_walk", "dimension": 20_000}
    steps = steps_of(synthetic(data, budget={"steps": 200}))
    closed = steps["gamma"] * np.sqrt(200 - steps["step"])
    assert 0.98 < closed.mean() < 1.02  # claim C22
    assert closed.std() < 0.15  # a spread of sqrt((T - t) / d) at most
    assert steps["gradient_norm"].to_numpy() == pytest.approx(1, abs=1e-5)
    assert steps["gamma"].iloc[-1] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("optimizer", ["momentum", "nesterov", "adam"])
def test_a_random_walk_of_another_optimizer_is_the_null_model_that_knows_it(
    optimizer: str, steps_of: Callable[[RunConfig], pd.DataFrame]
) -> None:
    data = {"name": "random_walk", "dimension": 20_000}
    steps = steps_of(synthetic(data, budget={"steps": 200}, optimizer=optimizer))
    ratio = (steps["gamma"] / steps["null_gamma"]).iloc[:190]
    assert 0.9 < ratio.mean() < 1.1
    assert steps["null_gamma_closed"].to_numpy() == pytest.approx(
        null.closed_form_gamma(200).numpy()
    )


def test_a_walk_has_no_loss_and_no_regime(store: Store, finish: Finish) -> None:
    finish(store, a=synthetic({"name": "random_walk"}, budget={"steps": 10}))
    manifest = store.run("a").manifest()
    assert manifest is not None
    assert manifest["metrics"] == {}
    assert manifest["regime"] is None


# --- the vector --------------------------------------------------------------------------------


def test_the_start_is_drawn_with_its_deviation_or_given() -> None:
    with seeded(0):
        drawn = Vector(std=3).build((10_000,), 1)()
    assert drawn.std().item() == pytest.approx(3, rel=0.05)
    assert Vector(start=(1.0, 2.0)).build((2,), 1)().tolist() == [1.0, 2.0]


def test_a_start_of_another_dimension_is_a_user_error() -> None:
    with pytest.raises(UserError, match=r"model\.start: 2 weights for an objective of 3; give 3"):
        Vector(start=(1.0, 2.0)).build((3,), 1)


def test_a_network_cannot_be_the_point_of_an_objective() -> None:
    with pytest.raises(UserError, match=r"model mlp takes images, task synthetic .* model vector"):
        synthetic({"name": "quadratic"}, model="mlp")
