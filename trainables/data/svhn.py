"""SVHN, the street view house numbers, from torchvision's .mat files or a tree of images."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from trainables.data.arrays import Part, StoredImages
from trainables.data.standard import StandardImages, part_in_memory

FILES = {
    "train": ("train_32x32.mat", "e26dedcc434d2e4c54c9b2d4a06d8373"),
    "test": ("test_32x32.mat", "eb5a983be6a315427106f1b164d9cef3"),
}
"""Part -> file and md5 (torchvision.datasets.SVHN.split_list); `extra` is not used (P2)."""


class SVHN(StandardImages):
    """32x32 colour images of digits on house numbers, 73,257 and 26,032; no augmentation.

    The 531,131 images of the part `extra` are left out. P2 gives no normalisation: mean and
    deviation are those of the training split.
    """

    name: ClassVar[str] = "svhn"
    licence: ClassVar[str] = "for non-commercial use only, as its authors state"
    citation: ClassVar[str] = (
        "Y. Netzer, T. Wang, A. Coates, A. Bissacco, B. Wu, A. Y. Ng (2011). Reading Digits in "
        "Natural Images with Unsupervised Feature Learning. NIPS Workshop on Deep Learning."
    )
    folders: ClassVar[tuple[str, ...]] = ("svhn",)
    shape: ClassVar[tuple[int, int, int]] = (3, 32, 32)
    class_names: ClassVar[tuple[str, ...]] = tuple("0123456789")
    torchvision_name: ClassVar[str] = "SVHN"
    official_counts: ClassVar[Mapping[str, int]] = {"train": 73_257, "test": 26_032}

    def official_files(self, root: Path) -> tuple[Path, ...]:
        """The two .mat files."""
        return tuple(root / name for name, _ in FILES.values())

    def official_archives(self, root: Path) -> dict[Path, str]:
        """The same two files: nothing is packed."""
        return {root / name: md5 for name, md5 in FILES.values()}

    def download(self, root: Path) -> None:
        """Have torchvision download the two files."""
        for part in FILES:
            self.open_official(root, split=part, download=True)

    def read_official(self, root: Path) -> dict[str, Part]:
        """The parts train and test from the .mat files."""
        return {part: self._part(root / name) for part, (name, _) in FILES.items()}

    def normalisation(self, summary: Mapping[str, Any]) -> tuple[tuple[float, ...], ...]:
        """Mean and standard deviation per channel of the training split."""
        return StoredImages.normalisation(self, summary)

    def _part(self, file: Path) -> Part:
        try:
            images, labels = read_mat(file)
        except (OSError, ValueError, TypeError, KeyError, zlib.error) as error:
            # what scipy raises for broken files, and what is missing or misshapen in whole ones
            raise self.corrupt(file, " ".join(str(error).split())) from None
        return part_in_memory(images, labels)


def read_mat(file: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images uint8 [N, 3, 32, 32] and labels int64 [N], 0..9, of one file.

    The file holds X, uint8 [32, 32, 3, N], and y, [N, 1], where the digit 0 has the label 10.

    Raises:
        ValueError: X or y is missing or has another shape or other values; OSError, TypeError,
            KeyError and zlib.error are scipy's, of a file that is no whole MATLAB 5 file.
    """
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        content = loadmat(file, variable_names=["X", "y"])
    except (MatReadError, NotImplementedError) as error:
        raise ValueError(f"no MATLAB 5 file: {error}") from None
    if not {"X", "y"} <= content.keys():
        raise ValueError("no variables X and y")
    images, labels = content["X"], content["y"].reshape(-1).astype(np.int64)
    if images.dtype != np.uint8 or images.shape != (32, 32, 3, len(labels)):
        raise ValueError(f"X is {images.dtype} {images.shape} for {len(labels)} labels")
    if len(labels) and not 1 <= labels.min() <= labels.max() <= 10:
        raise ValueError(f"labels from {labels.min()} to {labels.max()} where 1 to 10 are expected")
    return np.ascontiguousarray(images.transpose(3, 2, 0, 1)), labels % 10


def write_mat(file: Path, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
    """Write images [N, 3, 32, 32] and labels 0..9 as `read_mat` reads them."""
    from scipy.io import savemat

    coded = np.where(labels == 0, 10, labels).astype(np.uint8)[:, None]
    savemat(file, {"X": np.ascontiguousarray(images.transpose(2, 3, 1, 0)), "y": coded})
