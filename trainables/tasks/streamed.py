"""Image classification from disk: files are decoded ahead of the step that needs them."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.data.image_stream import StreamedData
from trainables.data.prefetch import Prefetch, num_decoders
from trainables.randomness import generator
from trainables.tasks.images import ImageTask

if TYPE_CHECKING:
    from trainables.config import RunConfig

Pixels = NDArray[np.uint8]


class Example(NamedTuple):
    """An image to be decoded: the clean one, or that of an epoch's augmentation."""

    split: str
    number: int
    """Its place in the split."""
    epoch: int | None = None


class StreamedTask(ImageTask):
    """Minibatches from files; what an image looks like in an epoch does not depend on who asks."""

    def __init__(self, config: RunConfig, data: StreamedData, device: torch.device) -> None:
        transform, splits = data.transform, data.splits
        shape = (3, transform.size, transform.size)
        lengths = {name: len(split) for name, split in splits.items()}
        super().__init__(config, data, shape, lengths, device)
        self._evaluated = {**lengths, "train": data.evaluated_train}
        self._labels = {name: torch.from_numpy(split.labels) for name, split in splits.items()}
        self._order = lru_cache(maxsize=2)(self.order)
        seed = config.seed_for("augmentation")

        def decoded(example: Example) -> Pixels:
            file = splits[example.split].files[example.number]
            if example.epoch is None:
                pixels = transform.clean(file)
            else:
                pixels = transform.random(file, generator(seed, example.epoch, example.number))
            return data.noise.image(pixels, example.split, example.number, data.mean, data.std)

        self._decoded = Prefetch(self._examples, decoded, num_decoders())

    def minibatch(self, step: int) -> tuple[Tensor, Tensor]:
        """Augmented, normalised images [b, 3, H, W] and labels [b] of a step; a pure function."""
        chosen = torch.tensor([example.number for example in self._examples(step)])
        images = self._on_device(self._decoded.batch(step))
        return self.normalise(images), self._labels["train"][chosen].to(self._device)

    def clean(self, split: str, examples: slice | Tensor) -> tuple[Tensor, Tensor]:
        """The middle of those images, resized, and their labels."""
        chosen = torch.arange(self.num_examples(split))[
            examples if isinstance(examples, slice) else examples.cpu()
        ]
        wanted = [Example(split, index) for index in chosen.tolist()]
        images = self._on_device(self._decoded.made(wanted))
        return images, self._labels[split][chosen].to(self._device)

    def num_evaluated(self, split: str) -> int:
        """All images, or as many training images as the data's options say."""
        return self._evaluated[split]

    def _examples(self, step: int) -> list[Example]:
        epoch, index = self.calendar.place(step)
        rows = self._config.minibatch(self.num_train, epoch, index)
        return [Example("train", chosen, epoch) for chosen in self._order(epoch)[rows].tolist()]

    def _on_device(self, images: list[Pixels]) -> Tensor:
        return torch.from_numpy(np.stack(images)).to(self._device)
