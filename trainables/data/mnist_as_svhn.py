"""MNIST in files of SVHN's format: the stand-in where SVHN itself cannot be had."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from trainables.data.arrays import Part, Source, StoredImages
from trainables.data.mnist import MNIST
from trainables.data.standard import part_in_memory
from trainables.data.svhn import SVHN, read_mat, write_mat


class MNISTAsSVHN(MNIST):
    """MNIST's digits with SVHN's shape, three equal channels of 32x32, read by SVHN's reader.

    Written to a .mat file of SVHN's format and read from it, so that a run on these data takes the
    way that a run on SVHN takes. What it shows is about MNIST.
    """

    name: ClassVar[str] = "mnist_as_svhn"

    def signature(self, root: Path) -> tuple[tuple[int, ...], int]:
        """SVHN's."""
        return self.padded_shape(SVHN.shape), len(self.class_names)

    def source(self, root: Path) -> Source:
        """MNIST's files, to be taken through SVHN's format."""
        source = super().source(root)

        def parts() -> dict[str, Part]:
            return {name: _through_mat(part) for name, part in source.parts().items()}

        return Source(f"svhn format {source.fingerprint}", source.class_names, parts)

    def normalisation(self, summary: Mapping[str, Any]) -> tuple[tuple[float, ...], ...]:
        """Mean and standard deviation per channel of the training split, as for SVHN."""
        return StoredImages.normalisation(self, summary)


def _through_mat(part: Part) -> Part:
    grey = part.read(np.arange(len(part.labels)))
    channels, height, width = SVHN.shape
    margins = ((height - grey.shape[2]) // 2, (width - grey.shape[3]) // 2)
    padded = np.pad(grey, [(0, 0), (0, 0), *((margin, margin) for margin in margins)])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "images_32x32.mat"
        write_mat(file, padded.repeat(channels, axis=1), part.labels)
        return part_in_memory(*read_mat(file))
