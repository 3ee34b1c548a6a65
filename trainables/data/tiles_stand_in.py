"""Stand-in tiles: ISPRS's layout, made from the two photographs that scikit-learn carries."""

from __future__ import annotations

import importlib.util
import shutil
import uuid
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from trainables.data.tiles import TEST, TRAIN, VALIDATION, TilesConfig
from trainables.data.tiles_files import COLOURS, TileFolder, read_pixels
from trainables.errors import UserError

PHOTOGRAPHS = ("china.jpg", "flower.jpg")
ROWS, COLUMNS = 3, 6
"""Pieces of a photograph: 36 of some 107x142 pixels, for 33 tiles. Ours."""

STRIDE = 7
"""Consecutive tiles of a photograph are so many pieces apart: each split has some of all of it."""


class StandInTiles(TilesConfig):
    """Stand-in for Vaihingen: 33 tiles in its layout, cut from scikit-learn's two photographs.

    The class of a pixel is the sixth of its photograph's brightness that it lies in, darkest first,
    under the names and colours of Vaihingen's classes; no town is to be seen. It exercises the
    whole path from files to gradients without a download.
    """

    name: ClassVar[str] = "stand_in_tiles"
    licence: ClassVar[str] = "CC BY 2.0 (both photographs)"
    citation: ClassVar[str] = (
        "Stand-in tiles from scikit-learn's sample images china.jpg (danielbuechele, flickr.com) "
        "and flower.jpg (vultilion, flickr.com)"
    )

    generated: ClassVar[bool] = True

    train_examples: int = Field(default=200, ge=1)
    """Patches that are drawn in an epoch."""
    patch_size: int = Field(default=32, ge=1)
    """Side of a patch in pixels."""
    test_tiles: tuple[int, ...] | None = TEST
    """Numbers of the tiles that test; P1's, all of which have their ground truth here."""

    def folder(self, root: Path) -> TileFolder:
        """The tiles, written into the cache if they are not there."""
        folder = root / ".optpath-cache" / "stand-in-tiles-1"
        if not folder.is_dir():
            _write_whole(folder)
        return TileFolder(folder)


def _write_whole(folder: Path) -> None:
    # Written under another name and renamed: who finds the folder finds all of it.
    temporary = folder.with_name(f"{folder.name}.{uuid.uuid4().hex}.tmp")
    try:
        write_stand_in(TileFolder(temporary))
        temporary.rename(folder)
    except OSError as error:
        if not folder.is_dir():  # else another process was first, with the same tiles
            raise UserError(
                f"{folder.parent}: cannot store the stand-in tiles there "
                f"({error.strerror or error}); make room, or set OPTPATH_DATA to a folder that "
                "can be written to"
            ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_stand_in(folder: TileFolder) -> None:
    """Write the 33 stand-in tiles and their ground truth in ISPRS's layout.

    Tile k of P1's list (train, validation, test) is a piece of photograph k mod 2.
    """
    from PIL import Image

    folder.image(1).parent.mkdir(parents=True)
    folder.ground_truth(1).parent.mkdir()
    photographs = [pieces(read_pixels(file)) for file in photograph_files()]
    for k, number in enumerate((*TRAIN, *VALIDATION, *TEST)):
        own = photographs[k % len(photographs)]
        pixels, classes = own[STRIDE * (k // len(photographs)) % len(own)]
        Image.fromarray(pixels).save(folder.image(number))
        Image.fromarray(COLOURS[classes]).save(folder.ground_truth(number))


def pieces(
    pixels: NDArray[np.uint8],
) -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Pixels and classes of a photograph's ROWS x COLUMNS pieces, row by row."""
    classes = brightness_classes(pixels)
    return [
        (np.ascontiguousarray(part), np.ascontiguousarray(of_part))
        for band, of_band in zip(
            np.array_split(pixels, ROWS), np.array_split(classes, ROWS), strict=True
        )
        for part, of_part in zip(
            np.array_split(band, COLUMNS, axis=1),
            np.array_split(of_band, COLUMNS, axis=1),
            strict=True,
        )
    ]


def brightness_classes(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Class k is the k-th sixth of all pixels by brightness R + G + B; equal brightness, one class.

    Shape: [H, W, 3] -> [H, W], 0 (darkest) to 5.
    """
    brightness = pixels.sum(axis=2, dtype=np.int32)
    shares = np.arange(1, len(COLOURS)) / len(COLOURS)
    borders = np.quantile(brightness, shares, method="higher")
    classes: NDArray[np.uint8] = np.searchsorted(borders, brightness, side="right").astype(np.uint8)
    return classes


def photograph_files() -> list[Path]:
    """The two photographs, found without importing sklearn.datasets, which takes 1 to 3.5 s.

    Raises:
        UserError: scikit-learn or its photographs are not there.
    """
    package = importlib.util.find_spec("sklearn")
    if package is None or package.origin is None:
        raise UserError(
            "data stand_in_tiles: scikit-learn is not installed; type pip install scikit-learn"
        )
    folder = Path(package.origin).parent / "datasets" / "images"
    return [folder / name for name in PHOTOGRAPHS]
