"""ImageNet-1k in torchvision's layout, streamed from disk."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from trainables.data.folders import Tree
from trainables.data.image_stream import ImageStream
from trainables.errors import UserError


class ImageNet(ImageStream):
    """1,281,167 images of 1000 classes to train on, 50,000 to validate; there is no test split.

    `imagenet/train/n01440764/*.JPEG` and `imagenet/val/n01440764/*.JPEG`, as
    torchvision.datasets.ImageNet unpacks the archives. P1's transform: RandomResizedCrop(224) and
    flip; Resize(256) and CenterCrop(224) to evaluate (INVENTORY B0).
    """

    name: ClassVar[str] = "imagenet"
    licence: ClassVar[str] = "for non-commercial research, on request from image-net.org"
    citation: ClassVar[str] = (
        "O. Russakovsky et al. (2015). ImageNet Large Scale Visual Recognition Challenge. "
        "International Journal of Computer Vision 115."
    )
    num_classes: ClassVar[int | None] = 1000

    path: str = "imagenet"
    """The folder, relative to the data folder or absolute."""
    evaluated_train_examples: int | None = Field(default=50_000, ge=1)
    """Training images that an evaluation looks at; ours: as many as validate, since all of them
    would double the cost of an epoch. none: all."""

    def _trees(self, root: Path) -> dict[str, Tree]:
        folder = root / self.path
        for part in ("train", "val"):
            if not (folder / part).is_dir():
                raise UserError(
                    f"data imagenet not found: looked for {folder}/{part}/<class>/<image>.JPEG; "
                    "unpack the archives with torchvision.datasets.ImageNet and set OPTPATH_DATA "
                    "or data.path"
                )
        trees = super()._trees(root)
        found = len(trees["train"].class_names)
        if found != self.num_classes:
            raise UserError(
                f"{folder}/train: {found} class folders where ImageNet-1k has "
                f"{self.num_classes}; use data image_stream for other images"
            )
        return trees
