"""The contract of a data set: arrays on the host, named splits, licence, citation; images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from trainables.registry import Member


@dataclass(frozen=True)
class SplitSizes:
    """Number of examples of each split; `test` is 0 for a data set without one."""

    train: int
    validation: int
    test: int


@dataclass(frozen=True)
class LoadedData:
    """What `load` returns, whatever the kind: a task knows the kind that it reads by its type.

    `digest` identifies the content of all splits: the same config on other files is other data.
    """

    digest: str


@dataclass(frozen=True)
class ImageSplit:
    """Images of one split: `images` uint8 [N, C, H, W], `labels` int64 [N].

    Both may be memory-mapped files, which all workers of a node share; nothing writes to them.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)


@dataclass(frozen=True)
class ImageData(LoadedData):
    """A loaded image data set; `mean` and `std` are per channel, of pixel values over 255."""

    train: ImageSplit
    validation: ImageSplit
    test: ImageSplit | None
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]


class DataConfig(Member, ABC):
    """Options of one data set. `root` is the data folder (OPTPATH_DATA) in every method."""

    licence: ClassVar[str]
    citation: ClassVar[str]
    kind: ClassVar[str] = "images"
    """What `load` returns; a task accepts one kind, and so does a model."""
    generated: ClassVar[bool] = False
    """True if installed code makes the data: under one config there is no other content of them."""

    def resolved(self, root: Path) -> DataConfig:
        """These options with every choice that depends on the machine made (layout: auto).

        Called on the driver before the identity is taken, so that other files are another run.
        """
        return self

    @abstractmethod
    def sizes(self, root: Path) -> SplitSizes:
        """Number of examples per split, cheaply: no image is decoded.

        Raises:
            UserError: the data are not there; says where it looked and how to get them.
        """

    @abstractmethod
    def signature(self, root: Path) -> tuple[tuple[int, ...], int]:
        """Shape of one input and number of outputs, as cheaply; images: (C, H, W) and classes."""

    @abstractmethod
    def prepare(self, root: Path) -> None:
        """Download or decode whatever `load` needs, once; called on the driver before any run.

        Raises:
            UserError: the data are missing, an archive or an image is corrupt (names the file).
        """

    @abstractmethod
    def load(self, root: Path) -> LoadedData:
        """The data set, from prepared files."""

    def digest(self, root: Path) -> str | None:
        """That of what `load` returns, without reading the data anew; writes nothing.

        None while the files, as they are now, have not been prepared; whether they are the same is
        judged by their names, sizes and modification times.

        Raises:
            UserError: the data are not there.
        """
        return self.load(root).digest
