"""CIFAR-10, from torchvision's files or a tree of images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import Field

from trainables.data.arrays import Part
from trainables.data.standard import StandardImages, part_in_memory

ARCHIVE_MD5 = "c58f30108f718f92721af3b95e74349a"
"""torchvision.datasets.CIFAR10.tgz_md5."""


class CIFAR10(StandardImages):
    """32x32 colour images of ten classes, 50,000 and 10,000; random crops by default, no flip.

    Split, augmentation and normalisation are those of P1's code (INVENTORY B0).
    """

    name: ClassVar[str] = "cifar10"
    licence: ClassVar[str] = "none stated by its authors, who ask for the citation"
    citation: ClassVar[str] = (
        "A. Krizhevsky (2009). Learning Multiple Layers of Features from Tiny Images. "
        "Technical report, University of Toronto."
    )
    folders: ClassVar[tuple[str, ...]] = ("cifar10", "cifar10-jpeg")
    shape: ClassVar[tuple[int, int, int]] = (3, 32, 32)
    class_names: ClassVar[tuple[str, ...]] = (
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    )
    # P1's code. The deviations are smaller than those of all pixels (0.247, 0.243, 0.262).
    mean: ClassVar[tuple[float, ...]] = (0.4914, 0.4822, 0.4465)
    std: ClassVar[tuple[float, ...]] = (0.2023, 0.1994, 0.2010)
    torchvision_name: ClassVar[str] = "CIFAR10"
    official_counts: ClassVar[Mapping[str, int]] = {"train": 50_000, "test": 10_000}

    crop_padding: int = Field(default=4, ge=0)
    """Pixels added on each side before a random crop back to size; 0 crops nothing. P1: 4."""

    def official_files(self, root: Path) -> tuple[Path, ...]:
        """The five training batches, the test batch and the class names."""
        folder = root / "cifar-10-batches-py"
        batches = [f"data_batch_{i}" for i in range(1, 6)]
        return tuple(folder / name for name in (*batches, "test_batch", "batches.meta"))

    def official_archives(self, root: Path) -> dict[Path, str]:
        """The one archive."""
        return {root / "cifar-10-python.tar.gz": ARCHIVE_MD5}

    def read_official(self, root: Path) -> dict[str, Part]:
        """The parts train and test.

        The files are pickles, which could run anything: they are opened by torchvision, and only
        after each has the published md5.
        """
        self._check(root)
        return {"train": self._part(root, train=True), "test": self._part(root, train=False)}

    def _check(self, root: Path) -> None:
        from torchvision.datasets.utils import check_integrity

        official = self.torchvision_class()
        published = dict([*official.train_list, *official.test_list])
        published[official.meta["filename"]] = official.meta["md5"]
        for name, md5 in published.items():
            file = root / official.base_folder / name
            if not check_integrity(str(file), md5):
                raise self.corrupt(file, "its md5 is not the published one")

    def _part(self, root: Path, *, train: bool) -> Part:
        official = self.open_official(root, train=train)
        images = np.ascontiguousarray(official.data.transpose(0, 3, 1, 2))
        return part_in_memory(images, np.asarray(official.targets, dtype=np.int64))
