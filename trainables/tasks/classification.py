"""Image classification: random crop and flip of images that all lie on the device."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.activations import example_bytes
from trainables.data.contract import ImageData, ImageSplit
from trainables.data.image_stream import StreamedData
from trainables.randomness import generator
from trainables.tasks.contract import ExampleTask, ExampleTaskConfig
from trainables.tasks.images import ImageTask
from trainables.tasks.streamed import StreamedTask

if TYPE_CHECKING:
    from trainables.config import RunConfig


class Classification(ExampleTaskConfig):
    """Cross-entropy over the classes of an image data set; metric: accuracy."""

    name: ClassVar[str] = "classification"
    data_kind: ClassVar[str] = "images"
    judged_by: ClassVar[str] = "accuracy"

    def bind(self, config: RunConfig, data_root: Path, device: torch.device) -> ExampleTask:
        """The task, with its images as uint8 tensors on the device, or read from disk as needed."""
        data = config.data.load(data_root)
        if isinstance(data, StreamedData):
            return StreamedTask(config, data, device)
        assert isinstance(data, ImageData), "RunConfig compares the kinds"
        return ClassificationTask(config, data, device)

    def num_train(self, config: RunConfig, data_root: Path) -> int:
        """Number of training images."""
        return config.data.sizes(data_root).train

    def example_bytes(self, config: RunConfig, data_root: Path) -> int:
        """What one image makes the network keep, in float32."""
        shape, num_classes = config.data.signature(data_root)
        return example_bytes(lambda: config.model.build(shape, num_classes), shape)


class ClassificationTask(ImageTask):
    """Minibatches by index into device tensors; crops and flips drawn a whole epoch at once."""

    def __init__(self, config: RunConfig, data: ImageData, device: torch.device) -> None:
        splits = {"train": data.train, "validation": data.validation, "test": data.test}
        self._splits = {name: _to_device(s, device) for name, s in splits.items() if s is not None}
        lengths = {name: len(labels) for name, (_, labels) in self._splits.items()}
        super().__init__(config, data, tuple(data.train.images.shape[1:]), lengths, device)
        self._padding: int = getattr(config.data, "crop_padding", 0)
        self._flip: bool = getattr(config.data, "flip", False)
        # padded before normalising, with black pixels, as the authors' transform does (B0)
        self._padded = F.pad(self._splits["train"][0], [self._padding] * 4)
        self._drawn_epoch = -1

    def minibatch(self, step: int) -> tuple[Tensor, Tensor]:
        """Augmented, normalised images [b, C, H, W] and labels [b] of a step; a pure function."""
        epoch, index = self.calendar.place(step)
        if epoch != self._drawn_epoch:
            self._draw_epoch(epoch)
        rows = self._config.minibatch(self.num_train, epoch, index)
        chosen = self._order[rows]
        labels = self._splits["train"][1].index_select(0, chosen)
        images = self._padded.index_select(0, chosen)
        if self._padding:
            images = self._crop(images, self._offsets[rows])
        images = self.normalise(images)
        if self._flip:
            images = torch.where(self._flipped[rows].view(-1, 1, 1, 1), images.flip(3), images)
        return images, labels

    def clean(self, split: str, examples: slice | Tensor) -> tuple[Tensor, Tensor]:
        """Those images and their labels."""
        images, labels = self._splits[split]
        return images[examples], labels[examples]

    def _draw_epoch(self, epoch: int) -> None:
        seed, count = self._config.seed_for("augmentation"), self.num_train
        self._order = self.order(epoch).to(self._device)
        if self._padding:
            draw = generator(seed, epoch, "crop")
            offsets = torch.randint(2 * self._padding + 1, (count, 2), generator=draw)
            self._offsets = offsets.to(self._device)
        if self._flip:
            draw = generator(seed, epoch, "flip")
            self._flipped = (torch.rand(count, generator=draw) < 0.5).to(self._device)
        self._drawn_epoch = epoch

    def _crop(self, padded: Tensor, offsets: Tensor) -> Tensor:
        height = padded.shape[2] - 2 * self._padding
        width = padded.shape[3] - 2 * self._padding
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)
        rows = torch.arange(len(padded), device=self._device)
        return windows[rows, :, offsets[:, 0], offsets[:, 1]]


def _to_device(split: ImageSplit, device: torch.device) -> tuple[Tensor, Tensor]:
    # copied: a tensor over a read-only memory map is not allowed, and the device is often another
    return (
        torch.from_numpy(np.array(split.images)).to(device),
        torch.from_numpy(np.array(split.labels)).to(device),
    )
