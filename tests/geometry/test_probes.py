"""Probes against naive float64 sums over the parameters, one by one and by group."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from geometry.flat import FlatParameters
from geometry.probes.contract import Column, Probe, ProbeContext, StepView
from geometry.probes.registry import PROBES
from geometry.probes.segments import GROUPS
from geometry.reductions import ROW, RowReducer
from tests.geometry.surfaces import Quadratic, further_references

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
STEPS_PROBES = [name for name, probe in PROBES.items() if probe.table == "steps"]
OF_THE_STEP = [
    name
    for name, probe in PROBES.items()
    if not (
        probe.batches(probe.options_type())
        or probe.other_references(probe.options_type())
        or probe.remembers
    )
]
"""Probes that measure nothing but the step's own gradient against w*."""


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 9, 3, bias=False),
        nn.BatchNorm2d(9),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(36, 17),
        nn.LayerNorm(17),
        nn.Linear(17, 5),
    )


class Case:
    """A step of a real layout, with padding zero as in training; vectors by seed."""

    def __init__(self, device: str, *, decay: float = 0.1, channels_last: bool = True) -> None:
        self.flat = FlatParameters(network().to(device), channels_last=channels_last)
        self.layout = self.flat.layout
        self.device = torch.device(device)
        self.weights, self.gradient, self.after, self.reference = (
            self.vector(seed) for seed in range(4)
        )
        self.scaling = self.vector(5).abs() + 0.5
        self.decay = decay

    def vector(self, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        flat = torch.zeros(self.layout.size)
        for segment in self.layout.segments:
            values = torch.randn(segment.numel, generator=generator)
            flat[segment.offset : segment.offset + segment.numel] = values
        return flat.to(self.device)

    def probe(self, name: str) -> Probe:
        reducer = RowReducer(self.layout.size, self.device, torch.float32)
        surface = Quadratic(self.vector(6).abs())
        references = further_references(self.vector)
        context = ProbeContext(self.layout, reducer, self.reference, references, surface)
        return PROBES[name](context)

    def scale(self, block: slice, out: Tensor) -> Tensor:
        return out.copy_(self.scaling[block])

    def view(self, probe: Probe, *, preconditioned: bool = False) -> StepView:
        return StepView(
            step=0,
            weights=self.weights,
            gradient=self.gradient,
            weights_after=self.after if probe.needs_update else self.weights[:0],
            learning_rate=0.1,
            weight_decay=self.decay,
            preconditioner=self.scale if preconditioned else None,
        )

    def measured(self, name: str, *, preconditioned: bool = False) -> dict[str, Tensor]:
        probe = self.probe(name)
        out = torch.full((1, probe.num_primitives), math.nan, dtype=torch.float64)
        out = out.to(self.device)
        probe.measure(self.view(probe, preconditioned=preconditioned), out[0])
        names = [column.name for column in probe.columns]
        return dict(zip(names, (c[0] for c in probe.derive(out.cpu())), strict=True))

    def parts(self, flat: Tensor) -> list[Tensor]:
        """The parameters of a flat vector in float64, without padding."""
        return [segment.view(flat).double().cpu() for segment in self.layout.segments]

    def dot(self, x: Tensor, y: Tensor, only: Callable[[int], bool] = lambda _: True) -> float:
        pairs = zip(self.parts(x.double()), self.parts(y.double()), strict=True)
        products = (a * b for index, (a, b) in enumerate(pairs) if only(index))
        return math.fsum(v for product in products for v in product.flatten().tolist())

    def path(self, only: Callable[[int], bool] = lambda _: True) -> dict[str, float]:
        """The path columns by their definitions."""
        displacement = self.weights.double() - self.reference.double()
        inner = self.dot(self.gradient, displacement, only)
        norm = math.sqrt(self.dot(self.gradient, self.gradient, only))
        distance = math.sqrt(self.dot(displacement, displacement, only))
        return {
            "distance": distance,
            "gradient_norm": norm,
            "inner_product": inner,
            "rsi": inner / distance**2,
            "error_bound": norm / distance,
            "gamma": inner / (norm * distance),
            "local_lr": inner / norm**2,
        }


def assert_close(measured: dict[str, Tensor], expected: dict[str, float]) -> None:
    assert list(measured) == list(expected)
    for name, value in expected.items():
        # a sum of both signs is as exact as the products that it adds
        assert float(measured[name]) == pytest.approx(value, rel=1e-6, abs=1e-6), name


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


@pytest.mark.parametrize("name", PROBES)
def test_every_probe_documents_its_columns(name: str) -> None:
    probe = PROBES[name]
    assert probe.name == name
    assert probe.__doc__
    assert probe.columns
    names = [column.name for column in probe.columns]
    assert len(set(names)) == len(names)
    for column in probe.columns:
        assert isinstance(column, Column)
        assert column.unit
        assert column.meaning
        for part in column.ratio or ():
            assert set(part) <= set(names)


def test_no_two_probes_write_the_same_column_of_a_table() -> None:
    columns = [(p.table, column.name) for p in PROBES.values() for column in p.columns]
    assert len(set(columns)) == len(columns)


@pytest.mark.parametrize("name", PROBES)
def test_every_probe_fills_all_its_primitives_and_writes_nowhere_else(name: str) -> None:
    case = Case("cpu")
    probe = case.probe(name)
    before = [t.clone() for t in (case.weights, case.gradient, case.after, case.reference)]
    generator = torch.get_rng_state()
    out = torch.full((3, probe.num_primitives), math.nan, dtype=torch.float64)
    probe.measure(case.view(probe), out[1])
    assert out[1].isfinite().all()
    assert out[[0, 2]].isnan().all()
    for tensor, copy in zip(
        (case.weights, case.gradient, case.after, case.reference), before, strict=True
    ):
        assert torch.equal(tensor, copy)
    assert torch.equal(torch.get_rng_state(), generator)


@pytest.mark.parametrize("name", PROBES)
def test_every_probe_derives_one_value_per_step_and_label(name: str) -> None:
    case = Case("cpu")
    probe = case.probe(name)
    for num_steps in (0, 1, 4):
        generator = torch.Generator().manual_seed(0)
        primitives = torch.rand(
            num_steps, probe.num_primitives, generator=generator, dtype=torch.float64
        )
        derived = probe.derive(primitives)
        assert len(derived) == len(probe.columns)
        shape = (num_steps, len(probe.labels)) if probe.labels else (num_steps,)
        for values in derived:
            assert values.shape == shape
            assert values.dtype == torch.float64


@pytest.mark.parametrize("name", PROBES)
def test_every_ratio_column_is_the_ratio_that_it_names(name: str) -> None:
    measured = Case("cpu").measured(name)
    for column in PROBES[name].columns:
        if column.ratio is not None:
            above, below = (
                torch.stack([measured[part] for part in parts]).prod(0) for parts in column.ratio
            )
            torch.testing.assert_close(measured[column.name], above / below)


@pytest.mark.parametrize("name", OF_THE_STEP)
@pytest.mark.parametrize("what", ["gradient", "displacement", "both"])
def test_what_is_undefined_is_nan_and_never_a_number(name: str, what: str) -> None:
    case = Case("cpu", decay=0.0)
    if what != "displacement":
        case.gradient.zero_()
    if what != "gradient":
        case.reference.copy_(case.weights)
    measured = case.measured(name)
    undefined = {
        "gradient": {"gamma", "local_lr"},
        "displacement": {"gamma", "rsi", "error_bound", "update_gamma"},
        "both": {"gamma", "rsi", "error_bound", "local_lr", "update_gamma"},
    }[what]
    for column, values in measured.items():
        assert values.isnan().all() == (column.removeprefix("used_") in undefined), column
        assert not values.isinf().any(), column


@pytest.mark.parametrize("name", OF_THE_STEP)
def test_a_gradient_that_is_no_number_stays_visible(name: str) -> None:
    case = Case("cpu")
    case.gradient[3] = math.nan
    measured = case.measured(name)
    for column, values in measured.items():
        if column.startswith(("gradient", "inner", "gamma", "decayed", "preconditioned")):
            assert values.isnan().any(), column


@pytest.mark.parametrize("name", [n for n, probe in PROBES.items() if probe.needs_reference])
def test_a_probe_that_needs_a_reference_says_so(name: str) -> None:
    case = Case("cpu")
    reducer = RowReducer(case.layout.size, case.device, torch.float32)
    context = ProbeContext(case.layout, reducer, None)

    def measure() -> None:
        probe = PROBES[name](context)
        probe.measure(case.view(probe), torch.zeros(probe.num_primitives, dtype=torch.float64))

    with pytest.raises(ValueError, match=f"probe {name} needs a reference"):
        measure()


@pytest.mark.parametrize("name", [n for n in PROBES if n not in OF_THE_STEP])
def test_what_is_undefined_beyond_the_step_is_nan_and_never_infinite(name: str) -> None:
    case = Case("cpu")
    case.gradient.zero_()
    case.reference.copy_(case.weights)
    for column, values in case.measured(name).items():
        assert not values.isinf().any(), column


READING = [n for n, probe in PROBES.items() if probe.batches(probe.options_type())]


@pytest.mark.parametrize("name", READING)
def test_a_probe_that_reads_other_batches_says_so(name: str) -> None:
    case = Case("cpu")
    reducer = RowReducer(case.layout.size, case.device, torch.float32)
    probe = PROBES[name](ProbeContext(case.layout, reducer, case.reference))
    with pytest.raises(ValueError, match=f"probe {name} needs a surface"):
        probe.measure(case.view(probe), torch.zeros(probe.num_primitives, dtype=torch.float64))
    assert PROBES[name].extra_gradients(probe.options, 12) > 0


@pytest.mark.parametrize("name", [n for n in PROBES if n not in READING])
def test_a_probe_of_the_steps_own_gradient_costs_none(name: str) -> None:
    assert PROBES[name].extra_gradients(PROBES[name].options_type(), 12) == 0


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
