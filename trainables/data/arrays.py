"""Decoded images in files: written once, in the order of the split, and memory-mapped from then on.

`<root>/.optpath-cache/<key>-<part>-{images,labels}.npy`, and `<key>.json`, which is written last
and means that the others are whole. The key covers names, sizes and modification times of the
source files and the options that change the arrays, so that changed data are decoded anew.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from trainables.data.cache import CachedArrays
from trainables.data.contract import ImageData, ImageSplit
from trainables.data.images import Cut, ImageConfig, cut_parts, statistics

CACHE_VERSION = 1
"""Raised when the same source files come to be decoded differently."""

CHUNK = 1024
"""Images in memory at once while decoding; ours: 150 MB at 224x224."""

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Part:
    """The images of one folder or archive: labels in their own order, and a way to read some."""

    shape: tuple[int, int, int]
    labels: NDArray[np.int64]
    read: Callable[[Indices], NDArray[np.uint8]]
    """The images at these indices, uint8 [k, C, H, W]."""


@dataclass(frozen=True)
class Source:
    """Where images come from; `parts` opens the files, so it is called only to decode them.

    `fingerprint` changes with the files and with whatever else changes the decoded arrays.
    """

    fingerprint: str
    class_names: tuple[str, ...]
    parts: Callable[[], Mapping[str, Part]]


class StoredImages(ImageConfig, ABC):
    """Options of a data set that is decoded once into files.

    Every part is stored in an order drawn from `split_seed`, so the first examples of a split are
    a fair sample of it, and every split is a view of one memory-mapped file.
    """

    validation_fraction: float = Field(default=0.2, ge=0, lt=1)
    """Fraction of the training images that validates; at 0 the test images do, and none test."""
    split_seed: int = Field(default=1, ge=0, lt=2**63)
    """Seed of the split, as in random_split(..., Generator().manual_seed(split_seed)); P1: 1."""

    @abstractmethod
    def counts(self, root: Path) -> dict[str, int]:
        """Number of images per part, cheaply; raises UserError where there are none."""

    @abstractmethod
    def source(self, root: Path) -> Source:
        """The files to decode; raises UserError where one is missing or corrupt."""

    def cuts(self, root: Path) -> dict[str, Cut]:
        """Where the splits lie in the stored parts."""
        return cut_parts(self.counts(root), self.validation_fraction, f"data {self.name}")

    def prepare(self, root: Path) -> None:
        """Decode the images, unless that was done before."""
        self._stored(root)

    def load(self, root: Path) -> ImageData:
        """The splits as views of memory-mapped files; decodes them first if that was not done."""
        stored, source = self._stored(root)
        return self.noise.apply(self._as_decoded(stored, source, root))

    def digest(self, root: Path) -> str | None:
        """That of the decoded images and the noise in them."""
        stored, source = self._cache(root)
        if not stored.complete():
            return None
        return self.noise.digest(self._as_decoded(stored, source, root))

    def _as_decoded(self, stored: StoredArrays, source: Source, root: Path) -> ImageData:
        """The splits without noise."""
        parts = {part: stored.read(part) for part in stored.summary["parts"]}
        cuts = self.limited(self.cuts(root))
        splits = {split: cut.of(parts) for split, cut in cuts.items()}
        mean, std = self.normalisation(stored.summary)
        return ImageData(
            train=splits["train"],
            validation=splits["validation"],
            test=splits.get("test"),
            class_names=source.class_names,
            mean=mean,
            std=std,
            digest=stored.summary["digest"],
        )

    def normalisation(self, summary: Mapping[str, Any]) -> tuple[tuple[float, ...], ...]:
        """Mean and standard deviation per channel; measured on the whole training split."""
        return tuple(summary["mean"]), tuple(summary["std"])

    def _cache(self, root: Path) -> tuple[StoredArrays, Source]:
        source = self.source(root)
        settings = [CACHE_VERSION, source.fingerprint, self.validation_fraction, self.split_seed]
        settings += [] if self.padded_size is None else [self.padded_size]
        key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]
        return StoredArrays(root / ".optpath-cache", f"{self.name}-{key}"), source

    def _stored(self, root: Path) -> tuple[StoredArrays, Source]:
        stored, source = self._cache(root)
        if not stored.complete():
            parts = {name: self._padded(part) for name, part in source.parts().items()}
            stored.write(parts, self.split_seed, self.cuts(root)["train"])
        return stored, source

    def _padded(self, part: Part) -> Part:
        if self.padded_size is None:
            return part
        return Part(self.padded_shape(part.shape), part.labels, lambda i: self.pad(part.read(i)))


class StoredArrays(CachedArrays):
    """The files of one key; its summary: parts, digest, mean and std of the training split."""

    def write(self, parts: Mapping[str, Part], split_seed: int, train: Cut) -> None:
        """Decode and store all parts.

        Raises:
            UserError: an image is corrupt, or the folder cannot be written to.
        """
        content = hashlib.sha256()
        for name, part in parts.items():
            order = split_order(len(part.labels), split_seed)
            with self.new_array(name, "labels") as file:
                labels = np.ascontiguousarray(part.labels[order])
                np.save(file, labels)
            content.update(labels.tobytes())
            with self.new_array(name, "images") as file:
                _write_images(file, part, order, content)
        mean, std = statistics(train.of({train.part: self.read(train.part)}).images)
        self.finish({"parts": list(parts), "digest": content.hexdigest(), "mean": mean, "std": std})

    def read(self, part: str) -> ImageSplit:
        """One part, memory-mapped; raises UserError where a file is damaged."""
        return ImageSplit(self.array(part, "images"), self.array(part, "labels"))


def _write_images(file: IO[bytes], part: Part, order: Indices, content: Any) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(order), *part.shape)}
    np.lib.format.write_array_header_1_0(file, header)
    for start in range(0, len(order), CHUNK):
        images = np.ascontiguousarray(part.read(order[start : start + CHUNK]))
        file.write(images.data)
        content.update(images.data)


def split_order(num_examples: int, seed: int) -> Indices:
    """The order in which torch's random_split deals examples out: randperm of a seeded generator.

    The first lengths[0] indices are random_split's first subset, and so on.
    """
    generator = torch.Generator().manual_seed(seed)
    order: Indices = torch.randperm(num_examples, generator=generator).numpy()
    return order
