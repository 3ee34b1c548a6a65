"""What every classification of images shares: cross-entropy, accuracy, normalisation."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.randomness import generator
from trainables.tasks.contract import ExampleTask

if TYPE_CHECKING:
    from trainables.config import RunConfig
    from trainables.data.contract import ImageData
    from trainables.data.image_stream import StreamedData

EVALUATION_BATCH = 1000
"""Images per evaluation batch; ours, untuned. In evaluation mode it changes no value's meaning."""


class ImageTask(ExampleTask):
    """Cross-entropy of images that a subclass knows how to fetch."""

    metrics: ClassVar[tuple[str, ...]] = ("accuracy",)

    def __init__(
        self,
        config: RunConfig,
        data: ImageData | StreamedData,
        shape: tuple[int, ...],
        num_examples: Mapping[str, int],
        device: torch.device,
    ) -> None:
        self._config = config
        self._device = device
        self._shape = shape
        self._num_classes = len(data.class_names)
        self._num_examples = dict(num_examples)
        self._channels_last = config.channels_last()
        self.data_digest = data.digest
        self.splits = tuple(num_examples)
        self.num_train = num_examples["train"]
        self.calendar = config.calendar(self.num_train)
        # (x / 255 - mean) / std = x * scale + shift: two operations instead of three
        std = torch.tensor(data.std, device=device).view(1, -1, 1, 1)
        self._scale = 1 / (255 * std)
        self._shift = -torch.tensor(data.mean, device=device).view(1, -1, 1, 1) / std

    def build_model(self) -> nn.Module:
        """The configured architecture for these images and classes."""
        return self._config.model.build(self._shape, self._num_classes)

    def loss(self, model: nn.Module, step: int) -> Tensor:
        """Mean cross-entropy of minibatch `step`."""
        images, labels = self.minibatch(step)
        return F.cross_entropy(model(images).float(), labels)

    def num_examples(self, split: str) -> int:
        """Number of images of a split."""
        return self._num_examples[split]

    def loss_on(self, model: nn.Module, split: str, examples: slice | Tensor) -> Tensor:
        """Mean cross-entropy of those images, normalised and not augmented."""
        images, labels = self.clean(split, examples)
        return F.cross_entropy(model(self.normalise(images)).float(), labels)

    @abstractmethod
    def minibatch(self, step: int) -> tuple[Tensor, Tensor]:
        """Augmented, normalised images [b, C, H, W] and labels [b] of a step; a pure function."""

    @abstractmethod
    def clean(self, split: str, examples: slice | Tensor) -> tuple[Tensor, Tensor]:
        """Those images as they are, uint8 [n, C, H, W], and their labels, on the device."""

    def num_evaluated(self, split: str) -> int:
        """Images of a split, from the first on, that `evaluate` looks at."""
        return self._num_examples[split]

    def evaluate(self, model: nn.Module, split: str) -> dict[str, float]:
        """Mean cross-entropy and accuracy over the images of the split."""
        count = self.num_evaluated(split)
        loss = torch.zeros((), dtype=torch.float64, device=self._device)
        correct = torch.zeros((), dtype=torch.int64, device=self._device)
        was_training = model.training
        model.eval()
        with torch.no_grad():
            for start in range(0, count, EVALUATION_BATCH):
                part = slice(start, min(start + EVALUATION_BATCH, count))
                images, labels = self.clean(split, part)
                outputs = model(self.normalise(images)).float()
                loss += F.cross_entropy(outputs, labels, reduction="sum").double()
                correct += (outputs.argmax(1) == labels).sum()
        model.train(was_training)
        return {"loss": loss.item() / count, "accuracy": correct.item() / count}

    def order(self, epoch: int) -> Tensor:
        """The order of the training images in an epoch, int64 [n], on the CPU."""
        draw = generator(self._config.seed_for("data_order"), epoch)
        return torch.randperm(self.num_train, generator=draw)

    def normalise(self, images: Tensor) -> Tensor:
        """Pixels (x / 255 - mean) / std, in the run's memory format."""
        scaled = images.float().mul_(self._scale).add_(self._shift)
        if self._channels_last:
            scaled = scaled.contiguous(memory_format=torch.channels_last)
        return scaled
