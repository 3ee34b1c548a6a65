"""Generated trees of images, whose images can be told apart by their first pixel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from PIL import Image

from trainables.data.cifar10 import CIFAR10
from trainables.data.contract import ImageData, ImageSplit


@pytest.fixture(autouse=True)
def _no_download(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPTPATH_DOWNLOAD", raising=False)


def _write_tree(
    folder: Path, classes: Sequence[str], per_class: int, size: int, *, grey: bool
) -> None:
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i in range(per_class):
            value = (label * per_class + i) % 256
            colour = value if grey else (value, 255 - value, value // 2)
            image = Image.new("L" if grey else "RGB", (size, size), colour)
            image.save(folder / name / f"{i:03}.png")


def _cifar_tree(root: Path, per_class: int = 10) -> None:
    _write_tree(root / "cifar10/train", CIFAR10.class_names, per_class, 32, grey=False)
    _write_tree(root / "cifar10/test", CIFAR10.class_names, 2, 32, grey=False)


@pytest.fixture(scope="session")
def write_tree() -> Callable[..., None]:
    """Writes PNGs of one value each: 0, 1, 2, ... (modulo 256) in the tree's order."""
    return _write_tree


@pytest.fixture(scope="session")
def cifar_tree() -> Callable[..., None]:
    """Writes a CIFAR-10 tree: by default 100 training images, always 20 test images."""
    return _cifar_tree


@pytest.fixture(scope="session")
def first_pixels() -> Callable[[ImageSplit], list[int]]:
    """The value of each image's first pixel."""
    return lambda split: [int(value) for value in split.images[:, 0, 0, 0]]


@pytest.fixture(scope="session")
def splits() -> Callable[[ImageData], dict[str, ImageSplit]]:
    """The splits that a data set has, by name."""

    def named(data: ImageData) -> dict[str, ImageSplit]:
        found = {"train": data.train, "validation": data.validation, "test": data.test}
        return {name: split for name, split in found.items() if split is not None}

    return named
