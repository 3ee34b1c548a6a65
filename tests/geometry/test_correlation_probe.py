"""The probes that look back: rings against stored gradients, in every place and every precision."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from geometry.correlation import sign_shift
from geometry.flat import FlatParameters
from geometry.probes.contract import Probe, ProbeContext, StepView
from geometry.probes.registry import PROBES
from geometry.reductions import RowReducer
from tests.geometry.test_correlation import by_lag

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
NUM_STEPS = 9
LAYERS = ("0.weight", "0.bias", "1.weight", "1.bias")


class Steps:
    """Gradients of a layout with padding, shown to a probe one after the other."""

    def __init__(self, device: str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        module = nn.Sequential(nn.Linear(21, 30), nn.Linear(30, 7)).to(device, dtype)
        self.layout = FlatParameters(module).layout
        self.reducer = RowReducer(self.layout.size, torch.device(device), dtype)
        generator = torch.Generator().manual_seed(0)
        self.gradients = torch.zeros(NUM_STEPS, self.layout.size, dtype=dtype)
        drift = torch.randn(self.layout.size, generator=generator, dtype=dtype)
        for gradient in self.gradients:
            for segment in self.layout.segments:
                part = slice(segment.offset, segment.offset + segment.numel)
                noise = torch.randn(segment.numel, generator=generator, dtype=dtype)
                gradient[part] = noise + 0.5 * drift[part]
        self.device = device

    def probe(self, name: str, num_steps: int | None = None, **options: Any) -> Probe:
        context = ProbeContext(self.layout, self.reducer, None, num_steps=num_steps)
        return PROBES[name](context, PROBES[name].options_type(**options))

    def measured(self, probe: Probe, start: int = 0, stop: int = NUM_STEPS) -> dict[str, Tensor]:
        rows = torch.zeros(
            stop - start, probe.num_primitives, dtype=torch.float64, device=self.device
        )
        for row, step in zip(rows, range(start, stop), strict=True):
            # one buffer for all steps, as in training: a probe must keep a copy
            gradient = self.gradients[step].to(self.device, copy=True)
            probe.measure(StepView(step, gradient, gradient, gradient[:0], 0.1, 0.0, None), row)
            gradient.fill_(math.nan)
        names = [column.name for column in probe.columns]
        return dict(zip(names, probe.derive(rows.cpu()), strict=True))


def expected_products(gradients: Tensor, num_lags: int) -> Tensor:
    products = torch.full((len(gradients), num_lags), math.nan, dtype=torch.float64)
    for lag in range(num_lags):
        pairs = gradients[lag:].double() * gradients[: len(gradients) - lag].double()
        products[lag:, lag] = pairs.sum(1)
    return products


@pytest.mark.parametrize("keep_on", ["device", "host"])
@pytest.mark.parametrize("window", [2, 5, NUM_STEPS])
@pytest.mark.parametrize("device", DEVICES)
def test_the_ring_equals_stored_gradients(device: str, window: int, keep_on: str) -> None:
    steps = Steps(device)
    probe = steps.probe("correlation", window=window, keep_on=keep_on)
    assert probe.labels == tuple(str(lag) for lag in range(window))
    measured = steps.measured(probe)
    products = expected_products(steps.gradients, window)
    torch.testing.assert_close(measured["product"], products, rtol=1e-6, atol=1e-4, equal_nan=True)
    cosines = by_lag(steps.gradients.double(), window)
    torch.testing.assert_close(measured["correlation"], cosines, rtol=0, atol=1e-7, equal_nan=True)


@pytest.mark.parametrize("keep_on", ["device", "host"])
@pytest.mark.parametrize("device", DEVICES)
def test_a_ring_in_bf16_is_that_of_rounded_gradients(device: str, keep_on: str) -> None:
    steps = Steps(device)
    exact = steps.measured(steps.probe("correlation"))
    rounded = steps.measured(steps.probe("correlation", keep_as="bf16", keep_on=keep_on))
    assert torch.equal(exact["product"][:, 0], rounded["product"][:, 0])  # of this step: unrounded
    past = steps.gradients.bfloat16().double()
    for lag in range(1, 5):
        products = (steps.gradients[lag:].double() * past[: NUM_STEPS - lag]).sum(1)
        torch.testing.assert_close(rounded["product"][lag:, lag], products, rtol=1e-6, atol=1e-4)
    difference = (exact["correlation"] - rounded["correlation"]).nan_to_num().abs().max()
    assert 0 < float(difference) < 5e-3 / math.sqrt(steps.layout.num_parameters)


def test_the_mean_alone_keeps_one_past_gradient_and_measures_the_same() -> None:
    steps = Steps()
    whole, alone = steps.probe("correlation"), steps.probe("correlation", mean_only=True)
    lags, first = steps.measured(whole), steps.measured(alone)
    assert alone.labels == ("0", "1")
    for name, values in first.items():
        torch.testing.assert_close(values, lags[name][:, :2], rtol=0, atol=0, equal_nan=True)
    kept = [probe.state()["vectors"].numel() / 4 / steps.layout.size for probe in (whole, alone)]
    assert kept == [4, 1]


def test_all_lags_are_measured_where_they_fit_the_memory_that_is_stated() -> None:
    steps = Steps()
    needed = (NUM_STEPS - 1) * steps.layout.size * 4 / 2**20
    fits = steps.probe("correlation", NUM_STEPS, window=3, all_lags_below_mib=needed)
    assert fits.labels == tuple(str(lag) for lag in range(NUM_STEPS))
    too_large = steps.probe("correlation", NUM_STEPS, window=3, all_lags_below_mib=0.99 * needed)
    assert too_large.labels == ("0", "1", "2")
    assert steps.probe("correlation", window=3, all_lags_below_mib=needed).labels == ("0", "1", "2")


def test_layers_are_the_correlations_of_every_parameter() -> None:
    steps = Steps()
    probe = steps.probe("layer_correlation", window=3)
    assert probe.labels == tuple(f"{layer} {lag}" for layer in LAYERS for lag in range(3))
    measured = {name: v.view(-1, 4, 3) for name, v in steps.measured(probe).items()}
    for index, segment in enumerate(steps.layout.segments):
        part = steps.gradients[:, segment.offset : segment.offset + segment.numel]
        torch.testing.assert_close(
            measured["correlation"][:, index],
            by_lag(part.double(), 3),
            rtol=0,
            atol=1e-6,
            equal_nan=True,
        )
    whole = steps.measured(steps.probe("correlation", window=3))
    torch.testing.assert_close(
        measured["product"].sum(1), whole["product"], rtol=1e-6, atol=1e-4, equal_nan=True
    )


@pytest.mark.parametrize("keep_on", ["device", "host"])
@pytest.mark.parametrize("device", DEVICES)
def test_sign_shifts_are_those_of_stored_gradients(device: str, keep_on: str) -> None:
    steps = Steps(device)
    steps.gradients[steps.gradients.abs() < 0.3] = 0  # exact zeros, as of dead units
    steps.gradients[4] *= 1e-25  # whose products underflow
    steps.gradients[5] *= 1e-25
    measured = steps.measured(steps.probe("sign_shift", window=4, keep_on=keep_on))
    parts = [
        torch.cat([row[s.offset : s.offset + s.numel] for s in steps.layout.segments])
        for row in steps.gradients
    ]
    for t in range(NUM_STEPS):
        for lag in range(1, 4):
            found = [float(values[t, lag - 1]) for values in measured.values()]
            if lag > t:
                assert all(map(math.isnan, found))
            else:
                assert found == pytest.approx(sign_shift(parts[t - lag], parts[t]), rel=1e-12)


@pytest.mark.parametrize(("factor", "shift", "cosine"), [(-0.9, 100, -1), (0.9, 0, 1)])
def test_opposed_gradients_shift_every_sign_and_alike_ones_none(
    factor: float, shift: float, cosine: float
) -> None:
    steps = Steps()
    steps.gradients[1:] = steps.gradients[0] * factor ** torch.arange(1.0, NUM_STEPS)[:, None]
    shifts = steps.measured(steps.probe("sign_shift", window=3))
    for values in shifts.values():
        assert values[2:, 0].tolist() == [shift] * (NUM_STEPS - 2)
        assert values[2:, 1].tolist() == [0] * (NUM_STEPS - 2)
    found = steps.measured(steps.probe("correlation", window=3))["correlation"]
    assert found[2:, 1].tolist() == pytest.approx([cosine] * (NUM_STEPS - 2), abs=1e-7)


@pytest.mark.parametrize("name", ["correlation", "layer_correlation", "sign_shift"])
def test_a_gradient_that_is_zero_or_no_number_stays_visible(name: str) -> None:
    steps = Steps()
    steps.gradients[4] = 0
    steps.gradients[6, 3] = math.nan
    columns = steps.measured(steps.probe(name, window=2))
    last = columns["sign_shift_nonzero" if name == "sign_shift" else "correlation"]
    for step in (4, 5, 6):  # the zero one, the one after it, the one that is no number
        assert last[step].isnan().any(), step
    assert not last[3].isnan().any()


CASES: list[tuple[str, dict[str, Any]]] = [
    ("correlation", {}),
    ("correlation", {"keep_as": "bf16", "keep_on": "host"}),
    ("correlation", {"mean_only": True}),
    ("layer_correlation", {"window": 3}),
    ("sign_shift", {}),
]


@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.parametrize("device", DEVICES)
def test_a_resumed_ring_measures_bit_for_bit_the_same(
    device: str, name: str, options: dict[str, Any]
) -> None:
    steps = Steps(device)
    whole = steps.measured(steps.probe(name, **options))
    for stop in (1, 4, 7):
        before, after = steps.probe(name, **options), steps.probe(name, **options)
        first = steps.measured(before, 0, stop)
        state = {key: value.cpu().clone() for key, value in before.state().items()}
        assert all(value.numpy() is not None for value in state.values())  # as a checkpoint reads
        after.load(state)
        second = steps.measured(after, stop)
        for column, values in whole.items():
            joined = torch.cat([first[column], second[column]])
            assert torch.equal(joined.nan_to_num(7.0), values.nan_to_num(7.0)), column


@pytest.mark.parametrize("name", ["correlation", "layer_correlation", "sign_shift"])
def test_a_window_below_two_or_beyond_the_run_is_refused_in_one_line(name: str) -> None:
    options_type: Any = PROBES[name].options_type
    with pytest.raises(ValueError, match=r"^window must be at least 2 steps, not 1$"):
        options_type(window=1)
    options_type(window=9).check_length(9)
    with pytest.raises(ValueError, match=r"^window: 9 steps are more than the run has \(8\); give"):
        options_type(window=9).check_length(8)
