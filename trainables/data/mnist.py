"""MNIST, from torchvision's files or a tree of images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from trainables.data.arrays import Part
from trainables.data.standard import StandardImages, part_in_memory

ARCHIVES = {
    "train-images-idx3-ubyte": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte": "ec29112dd5afa0611ce80d1b7f02629c",
}
"""Names and md5 of their .gz (torchvision.datasets.MNIST.resources)."""


class MNIST(StandardImages):
    """28x28 grey images of handwritten digits, 60,000 and 10,000; no augmentation by default."""

    name: ClassVar[str] = "mnist"
    licence: ClassVar[str] = "CC BY-SA 3.0"
    citation: ClassVar[str] = (
        "Y. LeCun, C. Cortes, C. J. C. Burges (1998). The MNIST database of handwritten digits."
    )
    folders: ClassVar[tuple[str, ...]] = ("mnist", "mnist-png")
    shape: ClassVar[tuple[int, int, int]] = (1, 28, 28)
    class_names: ClassVar[tuple[str, ...]] = tuple("0123456789")
    # Of the 60,000 training images, as in PyTorch's MNIST example.
    mean: ClassVar[tuple[float, ...]] = (0.1307,)
    std: ClassVar[tuple[float, ...]] = (0.3081,)
    torchvision_name: ClassVar[str] = "MNIST"
    official_counts: ClassVar[Mapping[str, int]] = {"train": 60_000, "test": 10_000}

    def official_files(self, root: Path) -> tuple[Path, ...]:
        """The four IDX files."""
        return tuple(root / "MNIST" / "raw" / name for name in ARCHIVES)

    def official_archives(self, root: Path) -> dict[Path, str]:
        """The four compressed IDX files."""
        return {root / "MNIST" / "raw" / f"{name}.gz": md5 for name, md5 in ARCHIVES.items()}

    def read_official(self, root: Path) -> dict[str, Part]:
        """The parts train and test from the IDX files."""
        files = self.official_files(root)
        return {"train": self._part(*files[:2]), "test": self._part(*files[2:])}

    def _part(self, images_file: Path, labels_file: Path) -> Part:
        images = self._read_idx(images_file)
        labels = self._read_idx(labels_file)
        if images.shape[1:] != self.shape[1:] or labels.shape != images.shape[:1]:
            reason = f"holds {images.shape} values, its labels {labels.shape}"
            raise self.corrupt(images_file, reason)
        return part_in_memory(images[:, None], labels.astype(np.int64))

    def _read_idx(self, file: Path) -> NDArray[np.uint8]:
        """An IDX file of bytes: 0, 0, 8, number of dimensions, sizes as big-endian uint32, data."""
        try:
            content = file.read_bytes()
        except OSError as error:
            raise self.corrupt(file, error.strerror or "not readable") from None
        num_dimensions = content[3] if content[:3] == b"\x00\x00\x08" else 0
        start = 4 + 4 * num_dimensions
        if num_dimensions == 0 or len(content) < start:
            raise self.corrupt(file, "no IDX file of bytes")
        shape = tuple(int(n) for n in np.frombuffer(content[4:start], dtype=">u4"))
        if len(content) != start + math.prod(shape):
            raise self.corrupt(file, f"{len(content)} bytes, {start + math.prod(shape)} expected")
        return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)
