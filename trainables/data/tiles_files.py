"""Tiles as ISPRS publishes them: where their files lie, and what their colours mean."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainables.errors import UserError

CLASSES = {
    "impervious surfaces": (255, 255, 255),
    "building": (0, 0, 255),
    "low vegetation": (0, 255, 255),
    "tree": (0, 255, 0),
    "car": (255, 255, 0),
    "clutter": (255, 0, 0),
}
"""The six classes and their colours, in ISPRS's order (2D Semantic Labeling Contest)."""

COLOURS = np.array(list(CLASSES.values()), dtype=np.uint8)
"""[6, 3]: red, green and blue of every class."""


@dataclass(frozen=True)
class TileFolder:
    """`<folder>/top/top_mosaic_09cm_area<n>.tif`, its ground truth in `gts_for_participants/`."""

    folder: Path

    def image(self, number: int) -> Path:
        """The file of a tile's pixels."""
        return self.folder / "top" / f"top_mosaic_09cm_area{number}.tif"

    def ground_truth(self, number: int) -> Path:
        """The file of a tile's classes, colour-coded."""
        return self.folder / "gts_for_participants" / f"top_mosaic_09cm_area{number}.tif"

    def check(self, splits: Mapping[str, tuple[int, ...]]) -> None:
        """See that every file of these splits is there.

        Raises:
            UserError: names the first split without any tile, else the first missing file.
        """
        for split, tiles in splits.items():
            if not any(self.image(tile).is_file() for tile in tiles):
                raise UserError(
                    f"{self.folder / 'top'}: no tile of the {split} split "
                    f"({', '.join(map(str, tiles))}) is there; put them there, or name others in "
                    f"data.{split}_tiles"
                )
            for tile in tiles:
                self._check_tile(tile, split)

    def _check_tile(self, tile: int, split: str) -> None:
        hint = f"put it there, or take {tile} out of data.{split}_tiles"
        if not self.image(tile).is_file():
            raise UserError(f"{self.image(tile)}: missing, a tile of the {split} split; {hint}")
        if not self.ground_truth(tile).is_file():
            raise UserError(
                f"{self.ground_truth(tile)}: missing, so tile {tile} of the {split} split has no "
                f"ground truth; {hint}"
            )

    def files(self, tiles: tuple[int, ...]) -> list[str]:
        """Both files of every tile."""
        return [str(file(tile)) for tile in tiles for file in (self.image, self.ground_truth)]

    def read(self, tile: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Pixels [H, W, 3] and classes [H, W] of a tile.

        Raises:
            UserError: a file is no readable 8-bit colour image, the two differ in size, or a
                colour belongs to no class; names the file.
        """
        pixels = read_pixels(self.image(tile))
        file = self.ground_truth(tile)
        classes = classes_of(read_pixels(file), file)
        if classes.shape != pixels.shape[:2]:
            raise UserError(
                f"{file}: {_size(classes)} pixels, but {self.image(tile)} has {_size(pixels)}; "
                "replace the one that is wrong"
            )
        return pixels, classes


def _size(array: NDArray[np.uint8]) -> str:
    return f"{array.shape[1]}x{array.shape[0]}"


def read_pixels(file: Path) -> NDArray[np.uint8]:
    """Red, green and blue of an image file, [H, W, 3].

    Raises:
        UserError: the file is corrupt, or has other channels; names the file.
    """
    from PIL import Image

    try:
        # Pillow warns of odd tags, harmless ones too; where tags are cut off it raises next.
        with warnings.catch_warnings(action="ignore"), Image.open(file) as image:
            if image.mode != "RGB":
                raise UserError(
                    f"{file}: channels {'+'.join(image.getbands())} (mode {image.mode}) where "
                    "red, green and blue of 8 bits are expected; convert it to RGB"
                )
            return np.asarray(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        # What Pillow raises for broken files.
        raise UserError(
            f"{file}: corrupt image ({' '.join(str(error).split())}); replace it by a good copy"
        ) from None


def classes_of(pixels: NDArray[np.uint8], file: Path) -> NDArray[np.uint8]:
    """The class of every pixel by its colour, [H, W, 3] -> [H, W].

    Raises:
        UserError: a colour belongs to no class; names the file, the colour and the place.
    """
    known = _codes(COLOURS)
    order = np.argsort(known)
    codes = _codes(pixels)
    found = np.searchsorted(known[order], codes).clip(max=len(known) - 1)
    unknown = known[order][found] != codes
    if unknown.any():
        row, column = np.argwhere(unknown)[0]
        colour = tuple(int(value) for value in pixels[row, column])
        raise UserError(
            f"{file}: colour {colour} at row {row}, column {column} belongs to no class; known: "
            f"{', '.join(f'{name} {rgb}' for name, rgb in CLASSES.items())} (ISPRS's full ground "
            "truth, not the one with black boundaries)"
        )
    classes: NDArray[np.uint8] = order.astype(np.uint8)[found]
    return classes


def _codes(colours: NDArray[np.uint8]) -> NDArray[np.int32]:
    wide = colours.astype(np.int32)
    codes: NDArray[np.int32] = (wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2]
    return codes
