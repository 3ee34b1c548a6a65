"""Image classification: cross-entropy, random crop and flip, everything on the device."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.activations import example_bytes
from trainables.data.contract import ImageData, ImageSplit
from trainables.randomness import generator
from trainables.tasks.contract import ExampleTask, ExampleTaskConfig

if TYPE_CHECKING:
    from trainables.config import RunConfig

EVALUATION_BATCH = 1000
"""Images per evaluation batch; ours, untuned. In evaluation mode it changes no value's meaning."""


class Classification(ExampleTaskConfig):
    """Cross-entropy over the classes of an image data set; metric: accuracy."""

    name: ClassVar[str] = "classification"
    data_kind: ClassVar[str] = "images"

    def bind(self, config: RunConfig, data_root: Path, device: torch.device) -> ExampleTask:
        """The task, with its images as uint8 tensors on the device."""
        data = config.data.load(data_root)
        assert isinstance(data, ImageData), "RunConfig compares the kinds"
        return ClassificationTask(config, data, device)

    def num_train(self, config: RunConfig, data_root: Path) -> int:
        """Number of training images."""
        return config.data.sizes(data_root).train

    def example_bytes(self, config: RunConfig, data_root: Path) -> int:
        """What one image makes the network keep, in float32."""
        shape, num_classes = config.data.signature(data_root)
        return example_bytes(lambda: config.model.build(shape, num_classes), shape)


class ClassificationTask(ExampleTask):
    """Minibatches by index into device tensors; crops and flips drawn a whole epoch at once."""

    metrics: ClassVar[tuple[str, ...]] = ("accuracy",)

    def __init__(self, config: RunConfig, data: ImageData, device: torch.device) -> None:
        self._config = config
        self._data = data
        self._device = device
        self._padding: int = getattr(config.data, "crop_padding", 0)
        self._flip: bool = getattr(config.data, "flip", False)
        self._channels_last = config.channels_last()
        self.data_digest = data.digest
        self.num_train = len(data.train.labels)
        self.steps_per_epoch = config.steps_per_epoch(self.num_train)
        self._batch_size = config.examples_per_step(self.num_train)
        splits = {"train": data.train, "validation": data.validation, "test": data.test}
        self._splits = {name: _to_device(s, device) for name, s in splits.items() if s is not None}
        self.splits = tuple(self._splits)
        # (x / 255 - mean) / std = x * scale + shift: two operations instead of three
        std = torch.tensor(data.std, device=device).view(1, -1, 1, 1)
        self._scale = 1 / (255 * std)
        self._shift = -torch.tensor(data.mean, device=device).view(1, -1, 1, 1) / std
        # padded before normalising, with black pixels, as the authors' transform does (B0)
        self._padded = F.pad(self._splits["train"][0], [self._padding] * 4)
        self._drawn_epoch = -1

    def build_model(self) -> nn.Module:
        """The configured architecture for these images and classes."""
        shape = tuple(self._data.train.images.shape[1:])
        return self._config.model.build(shape, len(self._data.class_names))

    def loss(self, model: nn.Module, step: int) -> Tensor:
        """Mean cross-entropy of minibatch `step`."""
        images, labels = self.minibatch(step)
        return F.cross_entropy(model(images).float(), labels)

    def num_examples(self, split: str) -> int:
        """Number of images of a split."""
        return len(self._splits[split][1])

    def loss_on(self, model: nn.Module, split: str, examples: slice | Tensor) -> Tensor:
        """Mean cross-entropy of those images, normalised and not augmented."""
        images, labels = self._splits[split]
        return F.cross_entropy(model(self._normalise(images[examples])).float(), labels[examples])

    def minibatch(self, step: int) -> tuple[Tensor, Tensor]:
        """Augmented, normalised images [b, C, H, W] and labels [b] of a step; a pure function."""
        epoch, index = divmod(step, self.steps_per_epoch)
        if epoch != self._drawn_epoch:
            self._draw_epoch(epoch)
        rows = slice(index * self._batch_size, (index + 1) * self._batch_size)
        chosen = self._order[rows]
        labels = self._splits["train"][1].index_select(0, chosen)
        images = self._padded.index_select(0, chosen)
        if self._padding:
            images = self._crop(images, self._offsets[rows])
        images = self._normalise(images)
        if self._flip:
            images = torch.where(self._flipped[rows].view(-1, 1, 1, 1), images.flip(3), images)
        return images, labels

    def evaluate(self, model: nn.Module, split: str) -> dict[str, float]:
        """Mean cross-entropy and accuracy over every image of the split."""
        images, labels = self._splits[split]
        loss = torch.zeros((), dtype=torch.float64, device=self._device)
        correct = torch.zeros((), dtype=torch.int64, device=self._device)
        was_training = model.training
        model.eval()
        with torch.no_grad():
            for start in range(0, len(labels), EVALUATION_BATCH):
                part = slice(start, start + EVALUATION_BATCH)
                outputs = model(self._normalise(images[part])).float()
                loss += F.cross_entropy(outputs, labels[part], reduction="sum").double()
                correct += (outputs.argmax(1) == labels[part]).sum()
        model.train(was_training)
        return {"loss": loss.item() / len(labels), "accuracy": correct.item() / len(labels)}

    def _draw_epoch(self, epoch: int) -> None:
        seeds, count = self._config.seed_for, self.num_train
        order = torch.randperm(count, generator=generator(seeds("data_order"), epoch))
        self._order = order.to(self._device)
        if self._padding:
            draw = generator(seeds("augmentation"), epoch, "crop")
            offsets = torch.randint(2 * self._padding + 1, (count, 2), generator=draw)
            self._offsets = offsets.to(self._device)
        if self._flip:
            draw = generator(seeds("augmentation"), epoch, "flip")
            self._flipped = (torch.rand(count, generator=draw) < 0.5).to(self._device)
        self._drawn_epoch = epoch

    def _crop(self, padded: Tensor, offsets: Tensor) -> Tensor:
        height = padded.shape[2] - 2 * self._padding
        width = padded.shape[3] - 2 * self._padding
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)
        rows = torch.arange(len(padded), device=self._device)
        return windows[rows, :, offsets[:, 0], offsets[:, 1]]

    def _normalise(self, images: Tensor) -> Tensor:
        scaled = images.float().mul_(self._scale).add_(self._shift)
        if self._channels_last:
            scaled = scaled.contiguous(memory_format=torch.channels_last)
        return scaled


def _to_device(split: ImageSplit, device: torch.device) -> tuple[Tensor, Tensor]:
    # copied: a tensor over a read-only memory map is not allowed, and the device is often another
    return (
        torch.from_numpy(np.array(split.images)).to(device),
        torch.from_numpy(np.array(split.labels)).to(device),
    )
