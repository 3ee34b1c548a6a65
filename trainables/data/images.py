"""What image data sets share: limits on the splits, noise, where splits lie; padding and crops."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from trainables.data.contract import DataConfig, ImageData, ImageSplit, SplitSizes
from trainables.data.noise import Inputs, Noise
from trainables.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path


class Cut(NamedTuple):
    """A split as a range of the examples of a stored part."""

    part: str
    start: int
    stop: int

    def of(self, parts: Mapping[str, ImageSplit]) -> ImageSplit:
        """The split as views of the part's arrays, never a copy."""
        split = parts[self.part]
        return ImageSplit(
            split.images[self.start : self.stop], split.labels[self.start : self.stop]
        )


class LabelledImages(DataConfig, ABC):
    """Options of every data set to classify: how much of each split, and noise."""

    streamed: ClassVar[bool] = False
    """True if the images stay on disk and `load` returns the names of their files."""

    train_examples: int | None = Field(default=None, ge=1)
    """Use only the first so many examples of the training split."""
    validation_examples: int | None = Field(default=None, ge=1)
    """Use only the first so many examples of the validation split."""
    test_examples: int | None = Field(default=None, ge=1)
    """Use only the first so many examples of the test split."""
    label_noise: float = Field(default=0.0, ge=0, le=1)
    """Probability that a training label is drawn anew, uniformly over all classes; 1: random
    labels. Validation and test labels stay true."""
    input_noise: Inputs = "real"
    """Pixels of all splits: real; shuffled_pixels: one permutation for all images; random_pixels:
    one for each image; gaussian: drawn with the data's mean and deviation."""
    noise_seed: int = Field(default=0, ge=0)
    """Seed of both kinds of noise; a draw belongs to its example, whatever else is chosen."""

    def sizes(self, root: Path) -> SplitSizes:
        """Number of examples per split, after the limits."""
        cuts = self.limited(self.cuts(root))
        lengths = {split: cut.stop - cut.start for split, cut in cuts.items()}
        return SplitSizes(lengths["train"], lengths["validation"], lengths.get("test", 0))

    @abstractmethod
    def cuts(self, root: Path) -> dict[str, Cut]:
        """Where the splits lie, before the limits: train, validation, and test if there is one.

        Raises:
            UserError: the data are not there; says where it looked and how to get them.
        """

    def limited(self, cuts: Mapping[str, Cut]) -> dict[str, Cut]:
        """The cuts, each shortened to the number of examples that the options ask for."""
        return {split: self._limit(split, cut) for split, cut in cuts.items()}

    @property
    def noise(self) -> Noise:
        """What is random in the data."""
        return Noise(self.label_noise, self.input_noise, self.noise_seed)

    def _limit(self, split: str, cut: Cut) -> Cut:
        wanted: int | None = getattr(self, f"{split}_examples")
        available = cut.stop - cut.start
        if wanted is None:
            return cut
        if wanted > available:
            raise UserError(
                f"data.{split}_examples: {wanted} is more than the {available} examples of the "
                f"{split} split of {self.name}; give at most {available}"
            )
        return cut._replace(stop=cut.start + wanted)


class ImageConfig(LabelledImages, ABC):
    """Options of the data sets whose images lie on the device, all of one size."""

    padded_size: int | None = Field(default=None, ge=1)
    """Side in pixels to which images are padded with black, evenly on all sides; none: not at all.
    32 brings MNIST to the networks that need 32x32 (P2)."""
    crop_padding: int = Field(default=0, ge=0)
    """Pixels added on each side before a random crop back to size; 0 crops nothing."""
    flip: bool = False
    """Mirror each training image left to right with probability 1/2."""

    @abstractmethod
    def load(self, root: Path) -> ImageData:
        """The images, from prepared files."""

    def padded_shape(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """The shape [C, H, W] of an image after padding; a UserError if it is larger already."""
        channels, height, width = shape
        side = self.padded_size
        if side is None:
            return shape
        if side < max(height, width):
            raise UserError(
                f"data.padded_size: {side} is less than the {height}x{width} pixels of "
                f"{self.name}; give at least {max(height, width)}"
            )
        return channels, side, side

    def pad(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Images [N, C, H, W] with their padding; an odd pixel goes below and to the right."""
        channels, height, width = images.shape[1:]
        _, *sides = self.padded_shape((channels, height, width))
        margins = [wanted - side for wanted, side in zip(sides, (height, width), strict=True)]
        return np.pad(images, [(0, 0), (0, 0), *((m // 2, m - m // 2) for m in margins)])


def cut_parts(counts: Mapping[str, int], fraction: float, where: str) -> dict[str, Cut]:
    """The splits of a data set that has the parts train and perhaps validation and test.

    A validation part is the validation split. Without one, the last floor(fraction * n) of the n
    training examples are, as in torch's random_split; at fraction 0 the test part is, and there is
    no test split then.

    Raises:
        UserError: no example is left for a split; `where` names the data in the message.
    """
    whole = {part: Cut(part, 0, count) for part, count in counts.items()}
    if "validation" in counts:
        return whole
    if fraction == 0:
        if "test" not in counts:
            raise UserError(
                f"data.validation_fraction: 0 validates on the test images, and {where} has none; "
                "give a fraction such as 0.2"
            )
        return {"train": whole["train"], "validation": whole["test"]}
    num_validation = math.floor(counts["train"] * fraction)
    num_train = counts["train"] - num_validation
    if num_validation == 0:
        raise UserError(
            f"data.validation_fraction: {fraction} of the {counts['train']} training images of "
            f"{where} is less than one; give a larger fraction"
        )
    carved = {"train": Cut("train", 0, num_train)}
    carved["validation"] = Cut("train", num_train, counts["train"])
    return whole | carved


def statistics(images: NDArray[np.uint8]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation (of the population) per channel, of pixel values over 255.

    Exact: counted per pixel value, so no sum over many pixels is rounded.
    """
    levels = np.arange(256) / 255
    means, deviations = [], []
    for channel in range(images.shape[1]):
        counts = np.zeros(256, dtype=np.int64)
        for start in range(0, len(images), 4096):  # bounds the copy that bincount makes
            pixels = images[start : start + 4096, channel].reshape(-1)
            counts += np.bincount(pixels, minlength=256)
        mean = float(counts @ levels / counts.sum())
        means.append(mean)
        deviations.append(math.sqrt(counts @ (levels - mean) ** 2 / counts.sum()))
    return tuple(means), tuple(deviations)
