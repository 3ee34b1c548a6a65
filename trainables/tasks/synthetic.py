"""Synthetic objectives: minimise a function of the weights that is known in closed form."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from trainables.data.objective import ObjectiveData
from trainables.randomness import generator
from trainables.tasks.contract import Task, TaskConfig

if TYPE_CHECKING:
    from trainables.config import RunConfig


class Synthetic(TaskConfig):
    """The loss of an objective at the weights, its examples in a drawn order; no other metric."""

    name: ClassVar[str] = "synthetic"
    data_kind: ClassVar[str] = "objective"
    judged_by: ClassVar[str] = "loss"

    def bind(self, config: RunConfig, data_root: Path, device: torch.device) -> Task:
        """The task, with the objective's constants on the device."""
        data = config.data.load(data_root)
        assert isinstance(data, ObjectiveData), "RunConfig compares the kinds"
        return SyntheticTask(config, data, device)

    def num_train(self, config: RunConfig, data_root: Path) -> int:
        """Number of examples of an epoch."""
        return config.data.sizes(data_root).train


class SyntheticTask(Task):
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

    def num_held_out(self, size: int) -> int:
        """As many as the validation examples fill."""
        return len(self._data.validation) // size

    def held_out_loss(self, model: nn.Module, number: int, size: int) -> Tensor:
        """The objective of the validation examples, with noise of the minibatch's own."""
        examples = torch.arange(number * size, (number + 1) * size, device=self._device)
        noise = generator(self._seed, number, "held out noise")
        return self._data.validation.loss(model(), examples, noise).float()

    def evaluate(self, model: nn.Module, split: str) -> dict[str, float]:
        """The objective over all examples, without noise."""
        objective = self._data.train if split == "train" else self._data.validation
        with torch.no_grad():
            return {"loss": objective.value(model()).item()}
