"""The contract of a task: which minibatch a step sees, its loss, and how a model is evaluated."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor, nn

from trainables.length import Calendar
from trainables.registry import Member

if TYPE_CHECKING:
    from trainables.config import RunConfig

LOWER_IS_BETTER = ("loss", "perplexity")
"""Last words of the names of values that are better the lower they are; all others: the higher."""


def better(name: str) -> Literal["min", "max"]:
    """Whether less (min) or more (max) of a value of that name is better: see `LOWER_IS_BETTER`."""
    return "min" if name.endswith(LOWER_IS_BETTER) else "max"


class Task(ABC):
    """A task bound to its data, batch size, seeds and device.

    `loss` is a pure function of (model state, step): the minibatch and its augmentation are drawn
    from counters, never from what was drawn before. Data live on the device.
    """

    calendar: Calendar
    """Which step belongs to which epoch: `RunConfig.calendar` of the training examples."""
    splits: tuple[str, ...]
    """The splits that `evaluate` knows: train, validation, and test where there is one."""
    metrics: ClassVar[tuple[str, ...]]
    """The names that `evaluate` returns besides `loss`; see `LOWER_IS_BETTER`."""
    data_digest: str

    @property
    def steps_per_epoch(self) -> int:
        """Steps of the first epoch; later ones have fewer where the batch size grows."""
        return self.calendar.steps_per_epoch

    @abstractmethod
    def build_model(self) -> nn.Module:
        """The freshly initialised network, on the CPU; draws from the default generator only."""

    @abstractmethod
    def loss(self, model: nn.Module, step: int) -> Tensor:
        """Mean loss of minibatch `step` in train mode, a scalar to call `backward` on."""

    @abstractmethod
    def evaluate(self, model: nn.Module, split: str) -> dict[str, float]:
        """Loss and metrics over every sample of a split: evaluation mode, clean transform.

        Leaves module buffers, gradients and random generators as they were.
        """

    @abstractmethod
    def num_held_out(self, size: int) -> int:
        """Number of held-out minibatches of `size` examples each."""

    @abstractmethod
    def held_out_loss(self, model: nn.Module, number: int, size: int) -> Tensor:
        """Mean loss of held-out minibatch `number`, the model in the mode that it is in.

        Minibatches of validation examples in their stored order, without augmentation; a pure
        function of (model state, number, size) but for what the model itself draws.
        """

    def unused_rows(self, model: nn.Module) -> Mapping[str, Tensor]:
        """Rows of the model's parameters that no training example reaches, whose gradient is 0.

        Parameter name -> indices, int64 [rows], on the device. None for most tasks; an embedding
        has some for the words that never occur.
        """
        return {}


class ExampleTask(Task):
    """A task whose loss is a mean over examples that can be chosen, each counting the same.

    What looks at other examples than a step's minibatch builds on it: full-batch gradient descent
    (`trainables.full_batch`), gradients of held-out examples.
    """

    def num_held_out(self, size: int) -> int:
        """As many as the validation split fills."""
        return self.num_examples("validation") // size

    def held_out_loss(self, model: nn.Module, number: int, size: int) -> Tensor:
        """Of a slice of the validation split."""
        return self.loss_on(model, "validation", slice(number * size, (number + 1) * size))

    @abstractmethod
    def num_examples(self, split: str) -> int:
        """Number of examples of a split."""

    @abstractmethod
    def loss_on(self, model: nn.Module, split: str, examples: slice | Tensor) -> Tensor:
        """Mean loss of those examples: clean transform, the model in the mode that it is in.

        `examples` is a slice of the split in its stored order, or indices, int64 [n], on the
        task's device. No augmentation, no shuffling; a pure function of (model state, examples)
        but for what the model itself draws.
        """


class TaskConfig(Member, ABC):
    """Options of one task."""

    data_kind: ClassVar[str]
    """The kind of data set it accepts (`DataConfig.kind`)."""
    judged_by: ClassVar[str]
    """What `evaluate` returns of which the best on the validation split is the best setting."""

    @abstractmethod
    def bind(self, config: RunConfig, data_root: Path, device: torch.device) -> Task:
        """The task for that run's data, batch size, seeds and precision, on that device."""

    @abstractmethod
    def num_train(self, config: RunConfig, data_root: Path) -> int:
        """Number of training examples, cheaply; see `RunConfig.steps_per_epoch`."""

    def choice(self) -> dict[str, str]:
        """By what settings are chosen: metric, a column of the epochs table; mode, min or max."""
        metric = f"validation_{self.judged_by}"
        return {"metric": metric, "mode": better(metric)}


class ExampleTaskConfig(TaskConfig):
    """Options of a task that binds to an `ExampleTask`; `batch_size: full` needs one."""

    @abstractmethod
    def bind(self, config: RunConfig, data_root: Path, device: torch.device) -> ExampleTask:
        """The task for that run's data, batch size, seeds and precision, on that device."""

    @abstractmethod
    def example_bytes(self, config: RunConfig, data_root: Path) -> int:
        """Bytes that one training example keeps between forward and backward pass, at most.

        Estimated without allocating, by `trainables.activations`; `chunk: auto` follows from it.
        """
