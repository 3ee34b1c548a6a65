"""Three ways to take the same training steps: bare, the authors' measuring, and our replay step."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geometry.reductions import RowReducer
from trainables.config import ProbeConfig, RunConfig
from trainables.data.contract import ImageData, ImageSplit
from trainables.data.images import Cut, ImageConfig
from trainables.measurement import Measurement
from trainables.randomness import seeded
from trainables.tasks.classification import ClassificationTask
from trainables.trajectory import Observer, Trajectory

NUM_TRAIN, NUM_IMAGES = 10_240, 10_250
"""40 minibatches of 256; the ten others validate, which no benchmark does."""


class SyntheticImages(ImageConfig):
    """Drawn images of CIFAR-10's shape with drawn labels, cropped as P1 crops."""

    name: ClassVar[str] = "synthetic"
    licence: ClassVar[str] = "none needed"
    citation: ClassVar[str] = "none"

    crop_padding: int = 4

    def cuts(self, root: Path) -> dict[str, Cut]:
        """Two parts of one array."""
        return {
            "train": Cut("drawn", 0, NUM_TRAIN),
            "validation": Cut("drawn", NUM_TRAIN, NUM_IMAGES),
        }

    def signature(self, root: Path) -> tuple[tuple[int, ...], int]:
        """CIFAR-10's."""
        return (3, 32, 32), 10

    def prepare(self, root: Path) -> None:
        """Nothing to prepare."""

    def load(self, root: Path) -> ImageData:
        """The drawn arrays."""
        generator = np.random.default_rng(0)
        images = generator.integers(256, size=(NUM_IMAGES, 3, 32, 32), dtype=np.uint8)
        labels = generator.integers(10, size=NUM_IMAGES, dtype=np.int64)
        cuts, parts = self.cuts(root), {"drawn": ImageSplit(images, labels)}
        return ImageData(
            train=cuts["train"].of(parts),
            validation=cuts["validation"].of(parts),
            test=None,
            class_names=tuple("0123456789"),
            mean=(0.5, 0.5, 0.5),
            std=(0.25, 0.25, 0.25),
            digest=hashlib.sha256(images.tobytes()).hexdigest(),
        )


class BareLoop:
    """The plain loop: per-tensor parameters, torch.optim, `zero_grad()` as it comes.

    Same initial weights, minibatches and memory format as the trajectory of the same config.
    """

    def __init__(self, config: RunConfig, device: torch.device) -> None:
        self.task = ClassificationTask(config, config.data.load(Path()), device)
        with seeded(config.seed_for("init"), "init"):
            self.model = self.task.build_model().to(device)
        if config.channels_last():
            self.model.to(memory_format=torch.channels_last)
        self.weight_decay = config.optimizer.weight_decay
        self.optimizer = torch.optim.SGD(
            self.model.parameters(),
            lr=config.learning_rate.at(config.examples_per_step(self.task.num_train)),
            momentum=0.9,
            weight_decay=self.weight_decay,
        )
        self.step = 0

    def advance(self, num_steps: int) -> None:
        """Take so many steps."""
        for _ in range(num_steps):
            images, labels = self.task.minibatch(self.step)
            self.optimizer.zero_grad()
            outputs = self.model(images)
            loss = F.cross_entropy(outputs, labels)
            loss.backward()  # type: ignore[no-untyped-call]
            self.update(loss, outputs, labels)
            self.step += 1

    def update(self, loss: Tensor, outputs: Tensor, labels: Tensor) -> None:
        """One optimizer step."""
        self.optimizer.step()


class AuthorsLoop(BareLoop):
    """The bare loop with the authors' measuring around the update, from INVENTORY E17 to E19.

    Weights and gradients are concatenated before and after the update, the displacement is formed
    for each group of values anew, norms and dots are flat float32, and nine scalars are fetched in
    every step: path, decayed gradient (unconditional at their weight decay of 1e-6), update, loss
    and accuracy. Generous to them: no logging, and vectors flattened in memory order.
    """

    def __init__(self, config: RunConfig, device: torch.device) -> None:
        super().__init__(config, device)
        self.reference = 0.9 * weights_and_gradients(self.model)[0]
        self.rows: list[dict[str, float]] = []

    def update(self, loss: Tensor, outputs: Tensor, labels: Tensor) -> None:
        """Measure, step, measure the update."""
        weights, gradients = weights_and_gradients(self.model)
        row = path_values(weights, gradients, self.reference)
        decayed = gradients + self.weight_decay * weights
        row |= pair_values("decayed", decayed, weights, self.reference)
        self.optimizer.step()
        after, _ = weights_and_gradients(self.model)
        row |= pair_values("update", after - weights, weights, self.reference)
        row["loss"] = loss.item()
        row["correct"] = (outputs.argmax(1) == labels).sum().item()
        self.rows.append(row)


def weights_and_gradients(model: nn.Module) -> tuple[Tensor, Tensor]:
    """All weights and all gradients, concatenated; zeros where there is no gradient yet."""
    parameters = list(model.parameters())
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    weights = torch.cat([_in_memory_order(p.detach()) for p in parameters])
    return weights, torch.cat([_in_memory_order(gradient) for gradient in gradients])


def _in_memory_order(tensor: Tensor) -> Tensor:
    if tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last):
        tensor = tensor.permute(0, 2, 3, 1)
    return tensor.reshape(-1)


def path_values(weights: Tensor, gradients: Tensor, reference: Tensor) -> dict[str, float]:
    """‖w - w*‖, ‖G‖ and <G, w - w*> as the authors' calc.py forms them."""
    distance = weights - reference
    return {
        "distance": torch.norm(distance).item(),
        "gradient": torch.norm(gradients).item(),
        "inner": torch.dot(gradients, distance).item(),
    }


def pair_values(name: str, vector: Tensor, weights: Tensor, reference: Tensor) -> dict[str, float]:
    """‖x‖ and <x, w - w*> likewise."""
    distance = weights - reference
    return {
        f"{name}_norm": torch.norm(vector).item(),
        f"{name}_inner": torch.dot(vector, distance).item(),
    }


class ReplayLoop:
    """One trajectory that different measurements watch in turn, as the replay pass has them watch.

    The flush that a replay does once per epoch is done once per turn.
    """

    def __init__(self, config: RunConfig, device: torch.device) -> None:
        self.trajectory = Trajectory(config, config.task.bind(config, Path(), device), device)

    @cached_property
    def reference(self) -> Tensor:
        """A point near the initial weights."""
        return 0.9 * self.trajectory.flat.weights

    @cached_property
    def reducer(self) -> RowReducer:
        """The reducer that all measurements share, as in a worker."""
        weights = self.trajectory.flat.weights
        return RowReducer(len(weights), weights.device, weights.dtype)

    def measurement(
        self, probes: Sequence[str | Mapping[str, Any]], reference: Tensor | None = None
    ) -> Measurement:
        """A measurement of these probes, against this reference or the one they share."""
        trajectory = self.trajectory
        chosen = tuple(ProbeConfig.model_validate(probe) for probe in probes)
        return Measurement(
            "benchmark",
            trajectory.config.model_copy(update={"probes": chosen}),
            calendar=trajectory.task.calendar,
            layout=trajectory.flat.layout,
            reducer=self.reducer,
            reference=self.reference if reference is None else reference,
            unused_rows=lambda: trajectory.task.unused_rows(trajectory.model),
        )

    def advance(
        self, num_steps: int, measurements: Sequence[Measurement], others: Sequence[Observer] = ()
    ) -> None:
        """Take so many steps under these measurements, and flush them."""
        self.trajectory.advance(self.trajectory.step + num_steps, [*measurements, *others])
        for measurement in measurements:
            measurement.flush()
