"""Measuring alone: its time against reading the vectors once, its memory, its accuracy."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from geometry.flat import FlatLayout, Segment
from geometry.probes.contract import Probe, ProbeContext, StepView
from geometry.probes.path import PathProbe
from geometry.probes.update import UpdateProbe
from geometry.reductions import ROW, RowReducer
from tests.benchmarks.harness import (
    PAIRS,
    Spread,
    device_name,
    interleaved,
    print_table,
    ratio,
)
from tests.benchmarks.loops import ReplayLoop, SyntheticImages, pair_values, path_values
from trainables.config import RunConfig
from trainables.models.resnet import ResNet18
from trainables.optimizers import Adam, Momentum, OptimizerConfig

pytestmark = pytest.mark.benchmark

RESNET_18, MEDIUM_MLP = 11_173_962, 46_190_602
"""Weights of the CIFAR ResNet-18 and of the MLP 3072-4096-4096-4096-10 (INVENTORY C)."""

ROUNDS = 5 * PAIRS
"""A turn takes milliseconds: more of them cost nothing."""

CHUNK = 2**22
"""Elements that the oracle turns into float64 at once."""


@dataclass(frozen=True)
class Vectors:
    """A step of a training near its end: small gradients, gamma about 0.01, momentum's update."""

    weights: Tensor
    gradient: Tensor
    weights_after: Tensor
    reference: Tensor

    @classmethod
    def draw(cls, count: int, device: torch.device) -> Vectors:
        """Drawn vectors of `count` weights, zero-padded to whole rows."""
        generator = torch.Generator().manual_seed(0)
        noise = [torch.randn(count, generator=generator) for _ in range(4)]
        padded = [torch.nn.functional.pad(x, (0, -count % ROW)).to(device) for x in noise]
        weights, displacement = padded[0].mul_(0.02), padded[1].mul_(2e-3)
        gradient = padded[2].mul_(1e-4).add_(displacement, alpha=0.01 * 1e-4 / 2e-3)
        weights_after = padded[3].mul_(1e-6).add_(gradient, alpha=-0.01).add_(weights)
        return cls(weights, gradient, weights_after, displacement.neg_().add_(weights))

    @property
    def view(self) -> StepView:
        """The vectors as a probe sees them."""
        return StepView(0, self.weights, self.gradient, self.weights_after, 0.01, 0.0, None)

    def probe(self, kind: type[Probe]) -> Probe:
        """A probe of these vectors."""
        size = len(self.weights)
        layout = FlatLayout((Segment("weight", 0, (size,), False, "weights"),))
        reducer = RowReducer(size, self.weights.device, self.weights.dtype)
        return kind(ProbeContext(layout, reducer, self.reference))


def test_measuring_against_reading(device: torch.device) -> None:
    vectors = Vectors.draw(RESNET_18, device)
    times = interleaved(_contestants(vectors), device, rounds=ROUNDS)
    readings = ("three sums", "a dot and a sum")
    rows = [
        [
            name,
            Spread.of([1e3 * t for t in times[name]]).show(),
            *(ratio(times, name, reading).show() for reading in readings),
            "<= 2.5" if name == "path probe" else "",
        ]
        for name in times
    ]
    print_table(
        f"Measuring {RESNET_18:,} weights, {device_name(device)}",
        ["what", "ms", *(f"over {reading}" for reading in readings), "limit"],
        rows,
        "Both readings pass over weights, gradient and reference once; the faster is the bound.",
    )


def _contestants(vectors: Vectors) -> dict[str, Callable[[], object]]:
    view, reference = vectors.view, vectors.reference
    path, update = vectors.probe(PathProbe), vectors.probe(UpdateProbe)
    out = torch.zeros(3, dtype=torch.float64, device=reference.device)
    return {
        "three sums": lambda: (view.weights.sum(), view.gradient.sum(), reference.sum()),
        "a dot and a sum": lambda: (torch.dot(view.weights, view.gradient), reference.sum()),
        "path probe": lambda: path.measure(view, out),
        "update probe": lambda: update.measure(view, out[:2]),
        "authors' path": lambda: path_values(view.weights, view.gradient, reference),
    }


class MemorySampler:
    """An observer that keeps the greatest number of bytes in live tensors at any step."""

    def __init__(self, *, needs_update: bool) -> None:
        self.needs_update = needs_update
        self.most = 0

    def before_update(self, view: StepView, loss: Tensor) -> None:
        """Count after the probes that measure before the update."""
        self.most = max(self.most, live_bytes())

    def after_update(self, view: StepView) -> None:
        """Count after the probes that measure after it."""
        self.most = max(self.most, live_bytes())


def live_bytes() -> int:
    """Bytes of all tensors that Python holds, each storage once."""
    # type() and not isinstance(), which asks every object for its class and wakes lazy modules
    tensors = [x for x in gc.get_objects() if issubclass(type(x), Tensor)]
    storages = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in tensors}
    return sum(storages.values())


@pytest.mark.parametrize("optimizer", [Momentum(), Adam()], ids=lambda member: member.name)
def test_replay_memory(optimizer: OptimizerConfig, device: torch.device) -> None:
    config = RunConfig(data=SyntheticImages(), model=ResNet18(), optimizer=optimizer, batch_size=2)
    replay = ReplayLoop(config, device)
    training = MemorySampler(needs_update=False)
    replay.advance(2, [], [training])
    vector = replay.trajectory.flat.weights.nbytes
    rows = []
    for num_references in (1, 3):
        above = _bytes_measuring(replay, num_references) - training.most
        rows.append([str(num_references), f"{above / vector:.2f}", f"<= {num_references + 2}"])
    print_table(
        f"Replay memory above training: ResNet-18, {optimizer.name}, path and update, "
        f"{device_name(device)}",
        ["references", "vectors of P weights", "limit"],
        rows,
        f"Counted over all live tensors; training itself: {training.most / vector:.2f} vectors.",
    )


def _bytes_measuring(replay: ReplayLoop, num_references: int) -> int:
    references = [replay.trajectory.flat.weights.clone() for _ in range(num_references)]
    measurements = [replay.measurement(("path", "update"), reference) for reference in references]
    sampler = MemorySampler(needs_update=True)
    replay.advance(2, measurements, [sampler])
    return sampler.most


@pytest.mark.parametrize("count", [RESNET_18, MEDIUM_MLP])
def test_accuracy(count: int, device: torch.device) -> None:
    vectors = Vectors.draw(count, device)
    exact, ours, theirs = _exact(vectors), _measured(vectors), _as_the_authors(vectors)
    rows = [
        [name, *(f"{abs(found[name] / value - 1):.1e}" for found in (ours, theirs)), "<= 1e-7"]
        for name, value in exact.items()
    ]
    gammas = [_gamma(sums) for sums in (exact, ours, theirs)]
    errors = [f"{abs(gamma - gammas[0]):.1e}" for gamma in gammas[1:]]
    print_table(
        f"Error of the sums at {count:,} weights against float64, {device_name(device)}",
        ["sum", "ours", "authors' way", "limit"],
        [*rows, ["gamma", *errors, "<= 1e-8"]],
        f"Of the sums relative, of gamma ({gammas[0]:.4f}) absolute.",
    )


def _gamma(sums: dict[str, float]) -> float:
    return sums["<G, D>"] / math.sqrt(sums["‖G‖^2"] * sums["‖D‖^2"])


def _exact(vectors: Vectors) -> dict[str, float]:
    """Every sum in float64, the blocks' sums added exactly."""
    parts: dict[str, list[float]] = {}
    for start in range(0, len(vectors.weights), CHUNK):
        block = slice(start, start + CHUNK)
        gradient, weights = vectors.gradient[block].double(), vectors.weights[block].double()
        displacement = weights - vectors.reference[block].double()
        update = vectors.weights_after[block].double() - weights
        pairs = {
            "<G, D>": (gradient, displacement),
            "‖G‖^2": (gradient, gradient),
            "‖D‖^2": (displacement, displacement),
            "‖U‖^2": (update, update),
            "<U, D>": (update, displacement),
        }
        for name, (x, y) in pairs.items():
            parts.setdefault(name, []).append(torch.dot(x, y).item())
    return {name: math.fsum(values) for name, values in parts.items()}


def _measured(vectors: Vectors) -> dict[str, float]:
    """The same sums by the probes."""
    out = torch.zeros(5, dtype=torch.float64, device=vectors.weights.device)
    vectors.probe(PathProbe).measure(vectors.view, out[:3])
    vectors.probe(UpdateProbe).measure(vectors.view, out[3:])
    names = ("<G, D>", "‖G‖^2", "‖D‖^2", "‖U‖^2", "<U, D>")
    return dict(zip(names, out.tolist(), strict=True))


def _as_the_authors(vectors: Vectors) -> dict[str, float]:
    """The same sums from flat float32 norms and dots."""
    weights, reference = vectors.weights, vectors.reference
    path = path_values(weights, vectors.gradient, reference)
    update = pair_values("update", vectors.weights_after - weights, weights, reference)
    return {
        "<G, D>": path["inner"],
        "‖G‖^2": path["gradient"] ** 2,
        "‖D‖^2": path["distance"] ** 2,
        "‖U‖^2": update["update_norm"] ** 2,
        "<U, D>": update["update_inner"],
    }
