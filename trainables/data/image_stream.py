"""Trees of images of any size, read from disk step by step: too large for the device or memory."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from trainables.data.arrays import split_order
from trainables.data.augmented import Range, Transform
from trainables.data.contract import LoadedData
from trainables.data.folders import Tree
from trainables.data.image_folder import trees_under
from trainables.data.images import Cut, LabelledImages, cut_parts
from trainables.data.noise import Noise


@dataclass(frozen=True)
class FileSplit:
    """The files of one split with their labels, int64 [N]."""

    files: tuple[str, ...]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        """Number of images."""
        return len(self.files)


@dataclass(frozen=True)
class StreamedData(LoadedData):
    """A loaded tree: names of files, and what is done to each image."""

    train: FileSplit
    validation: FileSplit
    test: FileSplit | None
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    transform: Transform
    noise: Noise
    evaluated_train: int
    """Training images, from the first on, that an evaluation looks at."""

    @cached_property
    def splits(self) -> dict[str, FileSplit]:
        """The splits that there are, by name."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: split for name, split in named.items() if split is not None}


class ImageStream(LabelledImages):
    """Images in torchvision's layout, `<path>/train/<class>/` and `val/`, decoded as they are used.

    Which folders are read is as for image_folder. A training image is a drawn crop, resized and
    perhaps mirrored: a function of the augmentation seed, the epoch and the image's own index,
    whoever decodes it and when. Evaluation resizes the shorter side and cuts out the middle. Files
    of other channels are taken or refused as for image_folder, when they are first decoded.
    """

    name: ClassVar[str] = "image_stream"
    licence: ClassVar[str] = "that of your images"
    citation: ClassVar[str] = "that of your images"
    streamed: ClassVar[bool] = True
    num_classes: ClassVar[int | None] = None
    """Class folders that there must be; None: as many as there are."""

    path: str = "images"
    """The folder, relative to the data folder or absolute."""
    size: int = Field(default=224, ge=1)
    """Side in pixels of what the network sees."""
    resize: int = Field(default=256, ge=1)
    """What the shorter side is brought to before the middle is cut out, in evaluation."""
    crop_scale: Range = (0.08, 1.0)
    """Least and greatest share of the area in a training crop (RandomResizedCrop's default)."""
    crop_ratio: Range = (3 / 4, 4 / 3)
    """Least and greatest width over height of a training crop (RandomResizedCrop's default)."""
    flip: bool = True
    """Mirror each training image left to right with probability 1/2."""
    validation_fraction: float = Field(default=0.2, ge=0, lt=1)
    """Without a validation folder: fraction of the training images that validates; 0: the test
    images do."""
    split_seed: int = Field(default=1, ge=0, lt=2**63)
    """Seed of the order in which every folder's images are dealt out to splits and limits."""
    evaluated_train_examples: int | None = Field(default=None, ge=1)
    """Training images, from the first on, that an evaluation looks at; none: all of them."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Mean per channel, of pixel values scaled to [0, 1]; ImageNet's, as in torchvision."""
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    """Standard deviation per channel; ImageNet's, as in torchvision."""

    @model_validator(mode="after")
    def _consistent(self) -> ImageStream:
        if self.resize < self.size:
            raise ValueError(f"resize: {self.resize} is less than size, {self.size}; give more")
        for name in ("crop_scale", "crop_ratio"):
            least, greatest = getattr(self, name)
            if not 0 < least <= greatest:
                raise ValueError(f"{name}: {least} to {greatest} is no range above 0")
        return self

    def cuts(self, root: Path) -> dict[str, Cut]:
        """Where the splits lie in the folders."""
        counts = {part: len(tree.files) for part, tree in self._trees(root).items()}
        return cut_parts(counts, self.validation_fraction, f"data {self.name}")

    def signature(self, root: Path) -> tuple[tuple[int, ...], int]:
        """A colour image of the size, and the number of class folders."""
        return (3, self.size, self.size), len(self._trees(root)["train"].class_names)

    def prepare(self, root: Path) -> None:
        """Nothing is decoded beforehand; only looks whether the folders are there."""
        self._trees(root)

    def load(self, root: Path) -> StreamedData:
        """The names of the files and their labels."""
        trees = self._trees(root)
        names = trees["train"].class_names
        cuts = self.limited(self.cuts(root))
        splits = {name: self._split(trees[cut.part], cut) for name, cut in cuts.items()}
        noisy = self.noise.labels(splits["train"].labels, len(names))
        train = FileSplit(splits["train"].files, noisy)
        return StreamedData(
            train=train,
            validation=splits["validation"],
            test=splits.get("test"),
            class_names=names,
            mean=self.mean,
            std=self.std,
            transform=self.transform,
            noise=self.noise,
            evaluated_train=min(len(train), self.evaluated_train_examples or len(train)),
            digest=_digest(trees, self.noise),
        )

    @property
    def transform(self) -> Transform:
        """What is done to an image."""
        return Transform(self.size, self.resize, self.crop_scale, self.crop_ratio, self.flip)

    def _trees(self, root: Path) -> dict[str, Tree]:
        return trees_under(root / self.path, self.name)

    def _split(self, tree: Tree, cut: Cut) -> FileSplit:
        chosen = split_order(len(tree.files), self.split_seed)[cut.start : cut.stop].tolist()
        labels = np.asarray([tree.labels[index] for index in chosen], dtype=np.int64)
        return FileSplit(tuple(tree.files[index] for index in chosen), labels)


def _digest(trees: Mapping[str, Tree], noise: Noise) -> str:
    text = " ".join([*(f"{part}={tree.digest}" for part, tree in trees.items()), str(noise)])
    return hashlib.sha256(text.encode()).hexdigest()
