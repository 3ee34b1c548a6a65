"""Probes that read other batches, on quadratics whose gradients and spectrum are known."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from geometry.flat import FlatParameters
from geometry.probes.contract import Probe, ProbeContext, StepView
from geometry.probes.registry import PROBES
from geometry.recorder import DueProbe, Recorder
from geometry.reductions import RowReducer
from geometry.surface import FULL, Batch
from geometry.whole_run import WholeRun
from tests.geometry.surfaces import Quadratic

CPU = torch.device("cpu")
LAYOUT = FlatParameters(nn.Linear(256, 2, bias=False)).layout
SIZE = LAYOUT.size
"""512 weights, without padding."""


def vector(seed: int) -> Tensor:
    return torch.randn(SIZE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotated(spectrum: Tensor) -> Tensor:
    """A symmetric matrix with that spectrum, its eigenvectors drawn."""
    draw = torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    basis, _ = torch.linalg.qr(draw)
    return (basis * spectrum) @ basis.T


def view(**changes: Any) -> StepView:
    values: dict[str, Any] = {
        "step": 3,
        "weights": vector(0),
        "gradient": vector(1),
        "weights_after": vector(0)[:0],
        "learning_rate": 0.1,
        "weight_decay": 0.0,
        "preconditioner": None,
    }
    return StepView(**{**values, **changes})


REFERENCE = vector(2)


def probe(name: str, surface: Quadratic, **options: Any) -> Probe:
    reducer = RowReducer(SIZE, CPU, torch.float64)
    cls = PROBES[name]
    context = ProbeContext(LAYOUT, reducer, REFERENCE, surface=surface)
    return cls(context, cls.options_type(**options))


def measured(built: Probe, step: StepView) -> dict[str, Tensor]:
    out = torch.full((1, built.num_primitives), math.nan, dtype=torch.float64)
    built.measure(step, out[0])
    names = [column.name for column in built.columns]
    return dict(zip(names, (column[0] for column in built.derive(out)), strict=True))


def cosine(x: Tensor, y: Tensor) -> float:
    return float(torch.cosine_similarity(x, y, dim=0))


def test_the_full_batch_gradient_at_the_weights_of_the_step() -> None:
    surface, step = Quadratic(vector(5).abs()), view()
    found = measured(probe("full_batch", surface), step)
    gradient = surface.hessian * (step.weights - surface.centre(FULL))
    displacement = step.weights - REFERENCE
    assert float(found["gamma"]) == pytest.approx(cosine(gradient, displacement), rel=1e-12)
    assert float(found["gradient_norm"]) == pytest.approx(float(gradient.norm()), rel=1e-12)
    assert float(found["loss"]) == float(surface.loss(FULL, step.weights))
    assert float(found["minibatch_cosine"]) == pytest.approx(
        cosine(gradient, step.gradient), rel=1e-12
    )


@pytest.mark.parametrize(("name", "kind"), [("probe_batches", "fixed"), ("held_out", "held_out")])
def test_batches_alone_and_together(name: str, kind: Any) -> None:
    surface, step, num = Quadratic(vector(5).abs()), view(), 5
    built = probe(name, surface, num_batches=num)
    found = measured(built, step)
    gradients = [
        surface.hessian * (step.weights - surface.centre(Batch(kind, i))) for i in range(num)
    ]
    displacement = step.weights - REFERENCE
    assert built.labels is not None
    rows = {label: index for index, label in enumerate(built.labels)}
    for i, gradient in enumerate(gradients):
        row = rows[f"batch {i}"]
        assert float(found["gamma"][row]) == pytest.approx(cosine(gradient, displacement))
        assert float(found["gradient_norm"][row]) == pytest.approx(float(gradient.norm()))
    mean = torch.stack(gradients).mean(0)
    last = rows[f"{num} x b"]
    assert float(found["gamma"][last]) == pytest.approx(cosine(mean, displacement))
    assert float(found["gradient_norm"][last]) == pytest.approx(float(mean.norm()))
    norms = [found["gradient_norm"][rows[f"{k + 1} x b"]] for k in range(num)]
    assert norms == sorted(norms, reverse=True), "averaging takes noise away"
    assert found["additivity_residual"].max() < 1e-14
    excess = float(mean.norm()) * num / sum(float(g.norm()) for g in gradients) - 1
    assert found["triangle_excess"].tolist() == pytest.approx([excess] * len(rows))
    assert excess < 0
    # centres of unit variance: covariance H^2 of a batch gradient, b times that of an example's
    trace = surface.batch_size * float(surface.hessian.square().sum())
    assert float(found["noise_trace"][0]) == pytest.approx(trace, rel=0.3)
    assert len(set(found["noise_scale"].tolist())) == 1, "a value of the step, in each of its rows"
    fourth = float(surface.hessian.pow(4).sum())
    expected = float(surface.hessian.square().sum()) ** 2 / fourth
    assert float(found["effective_dimension"][0]) == pytest.approx(expected, rel=0.7)
    assert surface.num_gradients == num == type(built).extra_gradients(built.options, 7)


def test_an_independent_minibatch_at_the_same_weights() -> None:
    surface, step = Quadratic(vector(5).abs()), view()
    found = measured(probe("independent_minibatch", surface), step)
    other = surface.hessian * (step.weights - surface.centre(Batch("fresh", step.step)))
    assert float(found["independent_correlation"]) == pytest.approx(cosine(step.gradient, other))
    assert float(found["independent_product"]) == pytest.approx(float(step.gradient @ other))


@pytest.mark.parametrize("largest", [4.0, -4.0])
@pytest.mark.parametrize("batch", ["full", "fixed"])
def test_the_sharpness_of_a_known_spectrum_is_exact(largest: float, batch: str) -> None:
    spectrum = torch.linspace(-1, 2, SIZE, dtype=torch.float64)
    spectrum[7] = largest
    surface = Quadratic(rotated(spectrum))
    built = probe("sharpness", surface, batch=batch, iterations=40)
    found = measured(built, view(learning_rate=0.25))
    assert float(found["sharpness"]) == pytest.approx(largest, rel=1e-10)
    assert float(found["sharpness_residual"]) < 1e-6
    assert float(found["stability_limit"]) == 8.0
    assert surface.num_products == 40
    assert surface.num_gradients == 0


def test_the_residual_tells_that_the_power_iteration_has_not_converged() -> None:
    surface = Quadratic(torch.linspace(1, 2, SIZE, dtype=torch.float64))
    found = measured(probe("sharpness", surface, iterations=1), view())
    assert float(found["sharpness"]) < 1.9
    assert float(found["sharpness_residual"]) > 0.1


def test_a_flat_loss_has_sharpness_zero_and_no_limit_without_a_learning_rate() -> None:
    surface = Quadratic(torch.zeros(SIZE, dtype=torch.float64))
    found = measured(probe("sharpness", surface), view(learning_rate=0.0))
    assert float(found["sharpness"]) == 0
    assert found["sharpness_residual"].isnan()
    assert found["stability_limit"].isnan()


def test_the_plan_is_told_what_a_measurement_costs() -> None:
    def cost(name: str, **options: Any) -> float:
        cls = PROBES[name]
        return cls.extra_gradients(cls.options_type(**options), 12)

    assert cost("full_batch") == 12
    assert cost("probe_batches", num_batches=4) == 4
    assert cost("independent_minibatch") == 1
    assert cost("sharpness", batch="fixed", iterations=3) == 6
    assert cost("sharpness", batch="full", iterations=3) == 72


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("probe_batches", {"num_batches": 1}, "num_batches: at least 2, not 1"),
        ("sharpness", {"iterations": 0}, "iterations: at least 1, not 0"),
    ],
)
def test_options_out_of_range_are_refused(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        PROBES[name].options_type(**options)


# -- The straight line to w* ------------------------------------------------------------------


def test_a_convex_bowl_has_no_obstacle_before_its_centre() -> None:
    surface = Quadratic(vector(5).abs())
    reducer = RowReducer(SIZE, CPU, torch.float64)
    context = ProbeContext(LAYOUT, reducer, surface.centre(FULL), surface=surface)
    built = PROBES["straight_line"](context, PROBES["straight_line"].options_type(intervals=4))  # type: ignore[call-arg]
    step = view()
    found = measured(built, step)
    assert built.labels == ("0", "0.25", "0.5", "0.75", "1")
    start = float(surface.loss(FULL, step.weights))
    expected = [start * (1 - a) ** 2 for a in (0, 0.25, 0.5, 0.75, 1)]
    assert found["loss"].tolist() == pytest.approx(expected)
    assert found["rise"][0].isnan()
    assert found["rise"][1:].tolist() == pytest.approx(torch.tensor(expected).diff().tolist())
    assert found["monotone"].tolist() == [1.0] * 5


def test_a_line_past_the_centre_rises() -> None:
    surface = Quadratic(vector(5).abs())
    beyond = surface.centre(FULL) + 0.5 * (surface.centre(FULL) - view().weights)
    context = ProbeContext(LAYOUT, RowReducer(SIZE, CPU, torch.float64), beyond, surface=surface)
    found = measured(PROBES["straight_line"](context), view())
    assert found["monotone"].tolist() == [0.0] * 11
    assert (found["rise"][1:] > 0).sum() == 3, "the last third of the line; one part holds the top"


def test_a_loss_that_is_no_number_makes_no_statement() -> None:
    built = probe("straight_line", Quadratic(vector(5).abs()), intervals=2)
    losses = torch.tensor([[3.0, 2.0, 1.0], [1.0, 2.0, 0.0], [3.0, math.nan, 1.0]]).double()
    monotone = built.derive(losses)[2][:, 0]
    assert monotone[:2].tolist() == [1.0, 0.0]
    assert monotone[2].isnan()
    run = WholeRun({"straight_line": {"monotone": monotone.unsqueeze(1)}}, None)
    assert type(built).summary(built.options, run) == {"monotone_share": 0.5}


# -- Lags -------------------------------------------------------------------------------------


def projected(gradient: Tensor, weights: Tensor) -> Tensor:
    away = weights - REFERENCE
    return gradient - (gradient @ away) / (away @ away) * away


def walk(num: int) -> list[StepView]:
    """Gradients with a common part, so that they correlate, along a drawn path."""
    return [
        view(step=t, weights=vector(100 + t), gradient=vector(7) + vector(200 + t))
        for t in range(num)
    ]


def test_lags_are_those_of_the_projected_gradients() -> None:
    built = probe("lags", Quadratic(vector(5)), lags=(1, 3))
    steps = walk(12)
    recorder = Recorder([DueProbe(built, 5)], 12, CPU)
    for step in steps:
        recorder.before_update(step, torch.tensor(0.0))
    (part,) = recorder.flush()[2]
    assert part.table == "lags"
    assert part.labels is None
    assert part.steps.tolist() == [1, 3, 6, 8, 11]
    assert part.columns["lag"].tolist() == [1, 3, 1, 3, 1]
    bases = {1: 0, 3: 0, 6: 5, 8: 5, 11: 10}
    for row, t in enumerate(part.steps.tolist()):
        base, now = steps[bases[t]], steps[t]
        expected = cosine(
            projected(base.gradient, base.weights), projected(now.gradient, now.weights)
        )
        values = {name: float(column[row]) for name, column in part.columns.items()}
        assert values["orthogonal_correlation"] == pytest.approx(expected, rel=1e-9)
        assert values["gradient_correlation"] == pytest.approx(cosine(base.gradient, now.gradient))
        assert values["weight_distance"] == pytest.approx(
            float((base.weights - now.weights).norm())
        )


def test_lags_go_on_from_their_state() -> None:
    def columns(*, resumed: bool) -> dict[str, Tensor]:
        built = probe("lags", Quadratic(vector(5)), lags=(1, 3))
        for step in walk(8):
            if resumed and step.step == 7:
                state = {name: value.clone() for name, value in built.state().items()}
                built = probe("lags", Quadratic(vector(5)), lags=(1, 3))
                built.load(state)
            out = torch.zeros(1, built.num_primitives, dtype=torch.float64)
            if built.is_due(step.step, 1):
                built.measure(step, out[0])
        names = [column.name for column in built.columns]
        return dict(zip(names, built.derive(out), strict=True))

    whole, resumed = columns(resumed=False), columns(resumed=True)
    for name, values in whole.items():
        assert torch.equal(values, resumed[name]), name


def test_a_base_comes_after_the_last_lag_of_the_one_before() -> None:
    built = probe("lags", Quadratic(vector(5)))
    due = [t for t in range(110) if built.is_due(t, 1)]
    assert due == [0, 1, 2, 5, 10, 20, 50, 51, 52, 53, 56, 61, 71, 101, 102, 103, 104, 107]
    with pytest.raises(ValueError, match=r"lags: whole numbers from 1, not \[0, 2\]"):
        PROBES["lags"].options_type(lags=(0, 2))  # type: ignore[call-arg]
