"""Data sets of large colour tiles whose every pixel has a class: options, splits, loading."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from trainables.data.cache import CachedArrays
from trainables.data.contract import DataConfig, LoadedData, SplitSizes
from trainables.data.folders import fingerprint
from trainables.data.tiles_files import CLASSES, TileFolder
from trainables.errors import UserError

CACHE_VERSION = 1
"""Raised when the same files come to be decoded differently."""

TRAIN = (1, 3, 5, 7, 11, 13, 15, 17, 21, 23, 26)
VALIDATION = (28, 30, 32, 34, 37)
TEST = (2, 4, 6, 8, 10, 12, 14, 16, 20, 22, 24, 27, 29, 31, 33, 35, 38)
"""P1's split of the 33 areas (INVENTORY B0): 11, 5 and the other 17."""

TileNumbers = Annotated[tuple[int, ...], Field(min_length=1)]


@dataclass(frozen=True)
class Tile:
    """`pixels` uint8 [H, W, 3], `classes` uint8 [H, W]; memory-mapped, nothing writes to them."""

    pixels: NDArray[np.uint8]
    classes: NDArray[np.uint8]


@dataclass(frozen=True)
class TileData(LoadedData):
    """A loaded data set of tiles; tiles of a split may differ in size, `test` may be empty."""

    train: tuple[Tile, ...]
    validation: tuple[Tile, ...]
    test: tuple[Tile, ...]
    class_names: tuple[str, ...]


class TilesConfig(DataConfig, ABC):
    """Tiles in ISPRS's layout, split by their numbers; a training example is a patch of one.

    Patches are drawn anew in every epoch: `train_examples` is how many. Evaluation takes every
    pixel of a split's tiles once, in windows of the patch's size.
    """

    kind: ClassVar[str] = "tiles"

    train_examples: int = Field(default=10_000, ge=1)
    """Patches that are drawn in an epoch (P1 A.3: 10,000)."""
    patch_size: int = Field(default=256, ge=1)
    """Side of a patch in pixels (P1 A.3: 256)."""
    flip: bool = True
    """Turn each training patch upside down with probability 1/2 (P1 A.4)."""
    mirror: bool = True
    """Mirror each training patch left to right with probability 1/2 (P1 A.4)."""
    train_tiles: TileNumbers = TRAIN
    """Numbers of the tiles that train; P1's."""
    validation_tiles: TileNumbers = VALIDATION
    """Numbers of the tiles that validate; P1's."""
    test_tiles: tuple[int, ...] | None = None
    """Numbers of the tiles that test; none given: P1's, where their ground truth is there."""

    @model_validator(mode="after")
    def _apart(self) -> TilesConfig:
        tiles = [tile for numbers in self.splits().values() for tile in numbers]
        twice = sorted({tile for tile in tiles if tiles.count(tile) > 1})
        if twice:
            raise ValueError(f"tile {twice[0]} is named twice; give each tile to one split")
        return self

    @abstractmethod
    def folder(self, root: Path) -> TileFolder:
        """Where the tiles lie."""

    def splits(self) -> dict[str, tuple[int, ...]]:
        """Tile numbers by split; test only where there are some."""
        named = {"train": self.train_tiles, "validation": self.validation_tiles}
        return named | ({"test": self.test_tiles} if self.test_tiles else {})

    def sizes(self, root: Path) -> SplitSizes:
        """Patches of a training epoch, and tiles of the other splits."""
        tiles = self.resolved(root).splits()
        return SplitSizes(self.train_examples, len(tiles["validation"]), len(tiles.get("test", ())))

    def resolved(self, root: Path) -> TilesConfig:
        """These options with the test tiles that are there."""
        return self

    def signature(self, root: Path) -> tuple[tuple[int, ...], int]:
        """A patch and the six classes."""
        return (3, self.patch_size, self.patch_size), len(CLASSES)

    def prepare(self, root: Path) -> None:
        """Decode the tiles and their ground truth, unless that was done before."""
        self.resolved(root)._stored(root)

    def load(self, root: Path) -> TileData:
        """The tiles as memory-mapped files; decodes them first if that was not done."""
        config = self.resolved(root)
        stored = config._stored(root)
        splits = config.splits()

        def tiles(split: str) -> tuple[Tile, ...]:
            return tuple(_tile(stored, number) for number in splits.get(split, ()))

        return TileData(
            digest=stored.summary["digest"],
            train=tiles("train"),
            validation=tiles("validation"),
            test=tiles("test"),
            class_names=tuple(CLASSES),
        )

    def digest(self, root: Path) -> str | None:
        """That of the decoded tiles and their ground truth."""
        return self.resolved(root)._cache(root).digest

    def _cache(self, root: Path) -> CachedArrays:
        folder, splits = self.folder(root), self.splits()
        folder.check(splits)
        mark = fingerprint(folder.folder, folder.files(self._numbers()))
        key = hashlib.sha256(json.dumps([CACHE_VERSION, mark, splits]).encode()).hexdigest()[:16]
        return CachedArrays(root / ".optpath-cache", f"{self.name}-{key}")

    def _numbers(self) -> tuple[int, ...]:
        return tuple(tile for tiles in self.splits().values() for tile in tiles)

    def _stored(self, root: Path) -> CachedArrays:
        stored, folder = self._cache(root), self.folder(root)
        if not stored.complete():
            _write(stored, folder, self._numbers())
        for tile, (height, width) in stored.summary["shapes"].items():
            if min(height, width) < self.patch_size:
                raise UserError(
                    f"{folder.image(int(tile))}: {width}x{height} pixels, smaller than a patch; "
                    f"give data.patch_size at most {min(height, width)}"
                )
        return stored


def _tile(stored: CachedArrays, number: int) -> Tile:
    return Tile(stored.array(str(number), "pixels"), stored.array(str(number), "classes"))


def _write(stored: CachedArrays, folder: TileFolder, numbers: tuple[int, ...]) -> None:
    content = hashlib.sha256()
    shapes = {}
    for number in numbers:
        pixels, classes = folder.read(number)
        for what, array in (("pixels", pixels), ("classes", classes)):
            with stored.new_array(str(number), what) as file:
                np.save(file, array)
        content.update(f"{number} {pixels.shape}".encode())
        content.update(pixels.tobytes() + classes.tobytes())
        shapes[number] = pixels.shape[:2]
    stored.finish({"digest": content.hexdigest(), "shapes": shapes})
