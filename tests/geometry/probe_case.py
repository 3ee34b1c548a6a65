"""A step of a real layout, and what a probe should say of it, by naive float64 sums."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from geometry.flat import FlatParameters
from geometry.probes.contract import Probe, ProbeContext, StepView
from geometry.probes.registry import PROBES
from geometry.reductions import RowReducer
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
