"""Probes against naive float64 sums over the parameters, one by one and by group."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from geometry.flat import FlatParameters
from geometry.probes.contract import ProbeContext, StepView
from geometry.probes.registry import PROBES
from geometry.probes.segments import GROUPS
from geometry.reductions import ROW, RowReducer
from tests.geometry.probe_case import DEVICES, Case, assert_close


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("device", DEVICES)
def test_path(device: str, channels_last: bool) -> None:
    case = Case(device, channels_last=channels_last)
    assert_close(case.measured("path"), case.path())


@pytest.mark.parametrize("device", DEVICES)
def test_update(device: str) -> None:
    case = Case(device)
    update = case.after.double() - case.weights.double()
    displacement = case.weights.double() - case.reference.double()
    expected = {
        "update_norm": math.sqrt(case.dot(update, update)),
        "update_inner_product": case.dot(update, displacement),
    }
    assert_close(case.measured("update"), expected)


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("device", DEVICES)
def test_weight_decay(device: str, decay: float) -> None:
    case = Case(device, decay=decay)
    decayed = case.gradient.double() + decay * case.weights.double()
    displacement = case.weights.double() - case.reference.double()
    expected = {
        "decayed_gradient_norm": math.sqrt(case.dot(decayed, decayed)),
        "decayed_inner_product": case.dot(decayed, displacement),
    }
    assert_close(case.measured("weight_decay"), expected)
    without = case.measured("path")
    same = float(without["gradient_norm"]) == float(
        case.measured("weight_decay")["decayed_gradient_norm"]
    )
    assert same == (decay == 0)


@pytest.mark.parametrize("preconditioned", [False, True])
@pytest.mark.parametrize("device", DEVICES)
def test_preconditioner(device: str, preconditioned: bool) -> None:
    case = Case(device)
    scaled = case.gradient.double() * (case.scaling.double() if preconditioned else 1)
    expected = {
        "preconditioned_inner": case.dot(case.gradient, scaled),
        "preconditioned_norm": math.sqrt(case.dot(scaled, scaled)),
    }
    assert_close(case.measured("preconditioner", preconditioned=preconditioned), expected)


@pytest.mark.parametrize("device", DEVICES)
def test_layers_are_the_path_of_every_parameter(device: str) -> None:
    case = Case(device)
    probe, measured = case.probe("layers"), case.measured("layers")
    labels = case.layout.labels
    assert probe.labels == labels
    assert "0.weight" in labels
    for index in range(len(labels)):
        own = {name: values[index] for name, values in measured.items()}
        assert_close(own, case.path(lambda other, index=index: other == index))


@pytest.mark.parametrize("device", DEVICES)
def test_groups_are_the_path_of_weights_biases_and_normalisation(device: str) -> None:
    case = Case(device)
    measured = case.measured("groups")
    assert case.probe("groups").labels == GROUPS
    groups = [segment.group for segment in case.layout.segments]
    assert {group: groups.count(group) for group in GROUPS} == {
        "weights": 3,
        "biases": 2,
        "normalisation": 4,
    }
    for index, group in enumerate(GROUPS):
        own = {name: values[index] for name, values in measured.items()}
        assert_close(own, case.path(lambda other, group=group: groups[other] == group))


@pytest.mark.parametrize("name", ["layers", "groups"])
def test_the_parts_add_up_to_the_whole(name: str) -> None:
    case = Case("cpu")
    parts, whole = case.measured(name), case.measured("path")
    torch.testing.assert_close(parts["inner_product"].sum(), whole["inner_product"])
    for column in ("distance", "gradient_norm"):
        torch.testing.assert_close(parts[column].square().sum(), whole[column].square())


def test_groups_that_a_network_lacks_are_left_out() -> None:
    flat = FlatParameters(nn.Linear(3, 2, bias=False))
    reducer = RowReducer(flat.layout.size, torch.device("cpu"), torch.float32)
    probe = PROBES["groups"](ProbeContext(flat.layout, reducer, flat.weights.clone()))
    assert probe.labels == ("weights",)


# -- What every probe promises ----------------------------------------------------------------


def test_gamma_of_11_million_weights_is_exact_to_1e_8() -> None:
    size = 11_173_962 // ROW * ROW
    flat = FlatParameters(nn.Linear(size, 1, bias=False))
    generator = torch.Generator().manual_seed(0)
    weights, noise = (torch.randn(size, generator=generator) for _ in range(2))
    reference = weights + 0.01 * noise
    gradient = 1e-3 * torch.randn(size, generator=generator) + 0.01 * (weights - reference)
    reducer = RowReducer(size, torch.device("cpu"), torch.float32)
    probe = PROBES["path"](ProbeContext(flat.layout, reducer, reference))
    out = torch.zeros(1, 3, dtype=torch.float64)
    view = StepView(0, weights, gradient, weights[:0], 0.1, 0.0, None)
    probe.measure(view, out[0])
    gamma = probe.derive(out)[5]
    displacement = weights.double() - reference.double()
    exact = torch.cosine_similarity(gradient.double(), displacement, dim=0)
    assert float(exact) > 0.05
    assert float(gamma) == pytest.approx(float(exact), abs=1e-8)


def test_used_rows_leave_out_the_rows_that_the_task_names() -> None:
    case = Case("cpu")
    named = case.layout.segments[-2]
    assert len(named.shape) == 2
    rows = torch.tensor([1, 3])
    # a row that no example reaches has no gradient
    named.view(case.gradient)[rows] = 0
    reducer = RowReducer(case.layout.size, case.device, torch.float32)
    context = ProbeContext(
        case.layout, reducer, case.reference, unused_rows=lambda: {named.name: rows, "other": rows}
    )
    probe = PROBES["used_rows"](context)
    out = torch.empty(1, 3, dtype=torch.float64)
    probe.measure(case.view(probe), out[0])
    used = case.reference.clone()
    named.view(used)[rows] = named.view(case.weights)[rows]
    displacement = case.weights.double() - used.double()
    inner, norm = case.dot(case.gradient, displacement), case.gradient.double().norm().item()
    distance = displacement.norm().item()
    found = dict(
        zip((c.name for c in probe.columns), (v.item() for v in probe.derive(out)), strict=True)
    )
    assert found == pytest.approx(
        {
            "used_distance": distance,
            "used_rsi": inner / distance**2,
            "used_error_bound": norm / distance,
            "used_gamma": inner / norm / distance,
        },
        rel=1e-6,
    )
