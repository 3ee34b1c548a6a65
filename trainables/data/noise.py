"""Noise in a classification data set: labels drawn at random, images without structure.

Every draw belongs to one example and is a function of (noise seed, split, index), so a longer
split begins with the examples of a shorter one, and a higher share of noisy labels contains those
of a lower share.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from trainables.data.contract import ImageData, ImageSplit
from trainables.randomness import generator

Inputs = Literal["real", "shuffled_pixels", "random_pixels", "gaussian"]
"""Zhang et al. 2017, "Understanding deep learning requires rethinking generalization", sec. 2.1."""

Channels = tuple[float, ...]
"""One value per channel, of pixel values scaled to [0, 1]."""


@dataclass(frozen=True)
class Noise:
    """What is random in the data; see the options of `ImageConfig`."""

    label_share: float
    inputs: Inputs
    seed: int

    def labels(self, labels: NDArray[np.int64], num_classes: int) -> NDArray[np.int64]:
        """Each label with probability `label_share` drawn anew, uniformly over all classes.

        Shape: [N] -> [N]. The true class can be drawn again.
        """
        if not self.label_share:
            return labels
        # not randn: only draws that are made one after the other begin alike at every length
        chance = torch.rand(
            len(labels), dtype=torch.float64, generator=generator(self.seed, "label noise")
        )
        drawn = torch.randint(
            num_classes, (len(labels),), generator=generator(self.seed, "label noise", "class")
        )
        return np.where((chance < self.label_share).numpy(), drawn.numpy(), labels)

    def image(
        self, image: NDArray[np.uint8], split: str, index: int, mean: Channels, std: Channels
    ) -> NDArray[np.uint8]:
        """One image [C, H, W] with its pixels shuffled, or drawn with the data's mean and std."""
        if self.inputs == "real":
            return image
        channels, num_pixels = len(image), image[0].size
        if self.inputs == "gaussian":
            normal = torch.randn(image.shape, generator=generator(self.seed, split, index)).numpy()
            centre, scale = (np.array(x).reshape(-1, 1, 1) for x in (mean, std))
            drawn = (255 * (centre + scale * normal)).round().clip(0, 255)
            return np.asarray(drawn, dtype=np.uint8)
        counters = () if self.inputs == "shuffled_pixels" else (split, index)
        order = torch.randperm(num_pixels, generator=generator(self.seed, "pixels", *counters))
        return image.reshape(channels, -1)[:, order.numpy()].reshape(image.shape)

    def apply(self, data: ImageData) -> ImageData:
        """Noisy training labels, and noisy images in every split: these are then in memory."""
        if not self.label_share and self.inputs == "real":
            return data
        labels = self.labels(data.train.labels, len(data.class_names))
        splits = {
            name: self._images(name, split, data)
            for name in ("train", "validation", "test")
            if (split := getattr(data, name)) is not None
        }
        train = ImageSplit(splits["train"].images, labels)
        return replace(
            data,
            train=train,
            validation=splits["validation"],
            test=splits.get("test"),
            digest=self.digest(data),
        )

    def digest(self, data: ImageData) -> str:
        """The digest of data [without noise] with this noise in them; no image is looked at."""
        if not self.label_share and self.inputs == "real":
            return data.digest
        labels = self.labels(data.train.labels, len(data.class_names))
        text = f"{data.digest} {self} {hashlib.sha256(labels.tobytes()).hexdigest()}"
        return hashlib.sha256(text.encode()).hexdigest()

    def _images(self, name: str, split: ImageSplit, data: ImageData) -> ImageSplit:
        if self.inputs == "real":
            return split
        images = np.empty_like(split.images)
        for index, image in enumerate(split.images):
            images[index] = self.image(image, name, index, data.mean, data.std)
        return replace(split, images=images)
