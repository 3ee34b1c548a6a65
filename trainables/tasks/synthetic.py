"""Synthetic objectives: minimise a function of the weights that is known in closed form."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from trainables.data.objective import Objective, ObjectiveData
from trainables.randomness import generator
from trainables.tasks.contract import ExampleTask, ExampleTaskConfig

if TYPE_CHECKING:
    from trainables.config import RunConfig


FLOAT_BYTES = 4
"""Bytes of a float32."""


class Synthetic(ExampleTaskConfig):
    """The loss of an objective at the weights, its examples in a drawn order; no other metric.

    A full batch sees the objective without noise; a root mean square is that of one chunk.
    """

    name: ClassVar[str] = "synthetic"
    data_kind: ClassVar[str] = "objective"
    judged_by: ClassVar[str] = "loss"

    def bind(self, config: RunConfig, data_root: Path, device: torch.device) -> ExampleTask:
        """The task, with the objective's constants on the device."""
        data = config.data.load(data_root)
        assert isinstance(data, ObjectiveData), "RunConfig compares the kinds"
        return SyntheticTask(config, data, device)

    def num_train(self, config: RunConfig, data_root: Path) -> int:
        """Number of examples of an epoch."""
        return config.data.sizes(data_root).train

    def example_bytes(self, config: RunConfig, data_root: Path) -> int:
        """An example's own constants, one per weight: so little that a full batch is one chunk."""
        (dimension,), _ = config.data.signature(data_root)
        return FLOAT_BYTES * dimension


class SyntheticTask(ExampleTask):
    """Minibatches of an objective's examples; the data order's seed draws the noise as well."""

    metrics: ClassVar[tuple[str, ...]] = ()
    splits = ("train", "validation")

    def __init__(self, config: RunConfig, data: ObjectiveData, device: torch.device) -> None:
        self._config = config
        self._seed = config.seed_for("data_order")
        self._data = data
        self._device = device
        for objective in (data.train, data.validation):
            objective.move(device)
        self.calendar = config.calendar(len(data.train))
        self.data_digest = data.digest
        self._drawn_epoch = -1

    def build_model(self) -> nn.Module:
        """The configured start."""
        return self._config.model.build((self._data.dimension,), 1)

    def loss(self, model: nn.Module, step: int) -> Tensor:
        """The objective at the weights, for the minibatch of that step."""
        epoch, index = self.calendar.place(step)
        if epoch != self._drawn_epoch:
            draw = generator(self._seed, epoch)
            order = torch.randperm(len(self._data.train), generator=draw)
            self._order, self._drawn_epoch = order.to(self._device), epoch
        examples = self._order[self._config.minibatch(len(self._order), epoch, index)]
        noise = generator(self._seed, step, "noise")
        return self._data.train.loss(model(), examples, noise).float()

    def num_examples(self, split: str) -> int:
        """Number of examples of a split."""
        return len(self._objective(split))

    def loss_on(self, model: nn.Module, split: str, examples: slice | Tensor) -> Tensor:
        """The objective of those examples, without noise."""
        return self._objective(split).mean(model(), examples).float()

    def held_out_loss(self, model: nn.Module, number: int, size: int) -> Tensor:
        """The objective of the validation examples, with noise of the minibatch's own."""
        examples = torch.arange(number * size, (number + 1) * size, device=self._device)
        noise = generator(self._seed, number, "held out noise")
        return self._data.validation.loss(model(), examples, noise).float()

    def evaluate(self, model: nn.Module, split: str) -> dict[str, float]:
        """The objective over all examples, without noise."""
        with torch.no_grad():
            return {"loss": self._objective(split).value(model()).item()}

    def _objective(self, split: str) -> Objective:
        return self._data.train if split == "train" else self._data.validation
