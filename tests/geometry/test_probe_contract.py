"""What every registered probe promises: documents, one value per step, NaN for undefined."""

from __future__ import annotations

import math

import pytest
import torch

from geometry.probes.contract import Column, ProbeContext
from geometry.probes.registry import PROBES
from geometry.reductions import RowReducer
from tests.geometry.probe_case import OF_THE_STEP, Case


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
