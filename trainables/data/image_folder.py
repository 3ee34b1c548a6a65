"""Any tree of images with one folder per class."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from trainables.data.arrays import Part, Source, StoredImages
from trainables.data.folders import Tree, find_tree, part_of_tree
from trainables.errors import UserError

SUBFOLDERS = {"train": ("train",), "validation": ("validation", "val"), "test": ("test",)}
"""Names of the folder of each part; `val` is what ImageNet's tree has."""


class ImageFolder(StoredImages):
    """Images in `<path>/train/<class>/`, and perhaps `validation/` (or `val/`) and `test/`.

    A tree without train/ is read as `<path>/<class>/`. Without a validation folder, a fraction of
    the training images validates. Every image is resized and cut to a square; `mean` and `std` are
    measured on the training split. Grey, palette and CMYK images become RGB, as torchvision's
    ImageFolder makes them; a file of 16 bits or with transparent pixels is refused by name.
    """

    name: ClassVar[str] = "image_folder"
    licence: ClassVar[str] = "that of your images"
    citation: ClassVar[str] = "that of your images"

    path: str = "images"
    """The folder, relative to the data folder or absolute."""
    size: int = Field(default=32, ge=1)
    """Side in pixels: the shorter side is resized to it and the middle cut out. Ours: CIFAR's."""
    grey: bool = False
    """Read luminance only, as one channel."""

    def counts(self, root: Path) -> dict[str, int]:
        """Number of image files per part."""
        return {part: len(tree.files) for part, tree in self._trees(root).items()}

    def source(self, root: Path) -> Source:
        """The tree's files."""
        trees = self._trees(root)
        shape = self._shape()
        files = [f"{part}={tree.fingerprint}" for part, tree in trees.items()]

        def parts() -> dict[str, Part]:
            return {part: part_of_tree(tree, shape, resize=True) for part, tree in trees.items()}

        return Source(f"{shape} {' '.join(files)}", trees["train"].class_names, parts)

    def normalisation(self, summary: Mapping[str, Any]) -> tuple[tuple[float, ...], ...]:
        """Mean and standard deviation per channel of the training split.

        Raises:
            UserError: a channel has one value in all of it, so that nothing can scale it to 1.
        """
        mean, std = super().normalisation(summary)
        if min(std) == 0:
            raise UserError(
                f"data.path: all training images in {self.path} have the same value everywhere in "
                f"channel {std.index(0)}; look at the images, or set data.grey=true"
            )
        return mean, std

    def signature(self, root: Path) -> tuple[tuple[int, ...], int]:
        """The square that images are cut to, and the number of class folders."""
        return self.padded_shape(self._shape()), len(self._trees(root)["train"].class_names)

    def _shape(self) -> tuple[int, int, int]:
        return 1 if self.grey else 3, self.size, self.size

    def _trees(self, root: Path) -> dict[str, Tree]:
        return trees_under(root / self.path, self.name)


def trees_under(base: Path, data: str) -> dict[str, Tree]:
    """The trees of the parts train, validation and test, or of the folder itself as train.

    Raises:
        UserError: the folder is not there, or has other parts than train alone, or its parts have
            different classes.
    """
    if not base.is_dir():
        raise UserError(
            f"data {data} not found: looked for {base}/train/<class>/ and "
            f"{base}/<class>/; set data.path to the folder of your images"
        )
    found = {
        part: find_tree(base / name)
        for part, names in SUBFOLDERS.items()
        for name in names
        if (base / name).is_dir()
    }
    if found and "train" not in found:
        raise UserError(
            f"{base}/train: missing, although {' and '.join(sorted(found))} images are there; put "
            f"the training images in {base}/train/<class>/"
        )
    found = found or {"train": find_tree(base)}
    _check_same_classes(found)
    return found


def _check_same_classes(trees: dict[str, Tree]) -> None:
    train = trees["train"]
    for tree in trees.values():
        different = set(tree.class_names) ^ set(train.class_names)
        if different:
            raise UserError(
                f"{tree.folder}: other class folders than {train.folder} "
                f"({' '.join(sorted(different))}); give all parts the same classes"
            )
