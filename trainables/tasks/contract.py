"""The contract of a task: which minibatch a step sees, its loss, and how a model is evaluated."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from trainables.registry import Member

if TYPE_CHECKING:
    from trainables.config import RunConfig


class Task(ABC):
    """A task bound to its data, batch size, seeds and device.

    `loss` is a pure function of (model state, step): the minibatch and its augmentation are drawn
    from counters, never from what was drawn before. Data live on the device.
    """

    steps_per_epoch: int
    splits: tuple[str, ...]
    """The splits that `evaluate` knows: train, validation, and test where there is one."""
    metrics: ClassVar[tuple[str, ...]]
    """The names that `evaluate` returns besides `loss`; higher is better unless it is a loss."""
    data_digest: str

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


class TaskConfig(Member, ABC):
    """Options of one task."""

    data_kind: ClassVar[str]
    """The kind of data set it accepts (`DataConfig.kind`)."""

    @abstractmethod
    def bind(self, config: RunConfig, data_root: Path, device: torch.device) -> Task:
        """The task for that run's data, batch size, seeds and precision, on that device."""

    @abstractmethod
    def num_train(self, config: RunConfig, data_root: Path) -> int:
        """Number of training examples, cheaply; steps per epoch is its floor over batch size."""
