"""The digits that scikit-learn carries: 1797 images of 8x8 pixels, no download."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from trainables.data.contract import ImageData, ImageSplit
from trainables.data.images import Cut, ImageConfig, statistics
from trainables.errors import UserError

NUM_TRAIN, NUM_IMAGES = 1500, 1797
"""The first 1500 images train (the quickstart's setting), the other 297 validate."""


class Digits(ImageConfig):
    """8x8 grey images of handwritten digits, in the file's order; there is no test split.

    Pixel values stay 0..16 as in the file (not stretched to 255, which would round): `mean` and
    `std`, measured on the 1500 training images, put them on the usual scale.
    """

    name: ClassVar[str] = "digits"
    licence: ClassVar[str] = "CC BY 4.0"
    citation: ClassVar[str] = (
        "E. Alpaydin, C. Kaynak (1998). Optical Recognition of Handwritten Digits. "
        "UCI Machine Learning Repository. doi:10.24432/C50P49 (test part, via scikit-learn)"
    )
    generated: ClassVar[bool] = True

    def cuts(self, root: Path) -> dict[str, Cut]:
        """The first 1500 and the rest."""
        _digits_file()
        return {
            "train": Cut("digits", 0, NUM_TRAIN),
            "validation": Cut("digits", NUM_TRAIN, NUM_IMAGES),
        }

    def signature(self, root: Path) -> tuple[tuple[int, ...], int]:
        """One grey channel of 8x8 pixels, ten digits."""
        return self.padded_shape((1, 8, 8)), 10

    def prepare(self, root: Path) -> None:
        """Nothing to download or decode; only looks whether scikit-learn's file is readable."""
        _read_digits(_digits_file())

    def load(self, root: Path) -> ImageData:
        """The digits, parsed from scikit-learn's own file in about 10 ms."""
        images, labels = _read_digits(_digits_file())
        images = self.pad(images)
        cuts = self.limited(self.cuts(root))
        parts = {"digits": ImageSplit(images, labels)}
        mean, std = statistics(images[:NUM_TRAIN])
        data = ImageData(
            train=cuts["train"].of(parts),
            validation=cuts["validation"].of(parts),
            test=None,
            class_names=tuple("0123456789"),
            mean=mean,
            std=std,
            digest=hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest(),
        )
        return self.noise.apply(data)


@lru_cache(maxsize=1)
def _digits_file() -> Path:
    # Found without importing sklearn.datasets, which takes 1 to 3.5 s.
    package = importlib.util.find_spec("sklearn")
    if package is None or package.origin is None:
        raise UserError("data digits: scikit-learn is not installed; type pip install scikit-learn")
    return Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"


def _read_digits(file: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    try:
        with gzip.open(file, "rt") as lines:
            table = np.loadtxt(lines, delimiter=",", dtype=np.uint8)
    except (OSError, EOFError, ValueError) as error:
        raise UserError(
            f"{file}: not readable ({error}); type pip install --force-reinstall scikit-learn"
        ) from None
    if table.shape != (NUM_IMAGES, 65):
        raise UserError(
            f"{file}: a table of {table.shape} where ({NUM_IMAGES}, 65) is expected; "
            "type pip install --upgrade scikit-learn"
        )
    return table[:, :-1].reshape(-1, 1, 8, 8), table[:, -1].astype(np.int64)
