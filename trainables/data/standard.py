"""What MNIST, CIFAR-10 and SVHN share: two layouts on disk, P1's split, published normalisation."""

from __future__ import annotations

import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from trainables.data.arrays import Indices, Part, Source, StoredImages
from trainables.data.folders import Tree, find_tree, fingerprint, part_of_tree
from trainables.errors import UserError

DOWNLOAD_VARIABLE = "OPTPATH_DOWNLOAD"
"""Set to 1, it allows the data sets that torchvision can download to be downloaded."""


def may_download() -> bool:
    """True if the user has asked for missing data to be downloaded."""
    return os.environ.get(DOWNLOAD_VARIABLE) == "1"


class StandardImages(StoredImages, ABC):
    """Options of a data set with a training and a test set, as torchvision's files or as a tree.

    P1's code validates on 10,000 of CIFAR-10's 50,000 training images; its text trains on all of
    them, which is `validation_fraction` 0: then the test images validate.
    """

    layout: Literal["auto", "torchvision", "folder"] = "auto"
    """The files to read: torchvision's own, or train/<class>/ and test/<class>/; auto finds out."""

    folders: ClassVar[tuple[str, ...]]
    """Names under the data folder where a tree is looked for."""
    shape: ClassVar[tuple[int, int, int]]
    class_names: ClassVar[tuple[str, ...]]
    mean: ClassVar[tuple[float, ...]]
    std: ClassVar[tuple[float, ...]]
    torchvision_name: ClassVar[str]
    """Name of the class in torchvision.datasets."""
    official_counts: ClassVar[Mapping[str, int]]
    """Number of images per part in torchvision's files."""

    def resolved(self, root: Path) -> StandardImages:
        """These options with the layout that is there; torchvision's files before a tree.

        Raises:
            UserError: neither layout is there, and downloading was not asked for.
        """
        return self.model_copy(update={"layout": self._layout(root)})

    def counts(self, root: Path) -> dict[str, int]:
        """Number of images per part: files counted, or as published."""
        if self._layout(root) == "torchvision":
            return dict(self.official_counts)
        return {part: len(tree.files) for part, tree in self._trees(root).items()}

    def signature(self, root: Path) -> tuple[tuple[int, ...], int]:
        """As published."""
        return self.padded_shape(self.shape), len(self.class_names)

    def source(self, root: Path) -> Source:
        """The files to decode; torchvision's are downloaded or unpacked first if need be."""
        if self._layout(root) == "folder":
            return self._tree_source(root)
        if not all(self._present(root)):
            self.fetch(root)
        files = [str(file) for file in self.official_files(root)]
        return Source(
            f"torchvision {fingerprint(root, files)}",
            self.class_names,
            lambda: self._official_parts(root),
        )

    def digest(self, root: Path) -> str | None:
        """That of the decoded images; None, too, while torchvision's files are not unpacked."""
        unpacked = self._layout(root) == "folder" or all(self._present(root))
        return super().digest(root) if unpacked else None

    def normalisation(self, summary: Mapping[str, Any]) -> tuple[tuple[float, ...], ...]:
        """The published mean and standard deviation, whatever the split."""
        return self.mean, self.std

    @abstractmethod
    def official_files(self, root: Path) -> tuple[Path, ...]:
        """The files that torchvision unpacks, whether they are there or not."""

    @abstractmethod
    def official_archives(self, root: Path) -> dict[Path, str]:
        """The archives that torchvision downloads, with their md5."""

    @abstractmethod
    def read_official(self, root: Path) -> dict[str, Part]:
        """The parts train and test from torchvision's unpacked files.

        Raises:
            UserError: a file is missing or corrupt; names it.
        """

    def torchvision_class(self) -> Any:
        """The class in torchvision.datasets; importing it takes 3 s."""
        from torchvision import datasets

        return getattr(datasets, self.torchvision_name)

    def open_official(self, root: Path, **options: bool | str) -> Any:
        """The data set as torchvision reads it: options train and download."""
        with warnings.catch_warnings():
            # NumPy 2.4.0 to 2.4.4 warns about the dtypes of old pickles (numpy/numpy#30786).
            warnings.filterwarnings("ignore", message=r"dtype\(\): align should be passed")
            return self.torchvision_class()(str(root), **options)

    def download(self, root: Path) -> None:
        """Have torchvision unpack its archives, downloading those that are missing."""
        self.open_official(root, download=True)

    def fetch(self, root: Path) -> None:
        """Unpack torchvision's archives, downloading those that are missing.

        Raises:
            UserError: an archive is corrupt, missing without leave to download, or unreachable.
        """
        from torchvision.datasets.utils import check_integrity

        for archive, md5 in self.official_archives(root).items():
            if archive.is_file() and not check_integrity(str(archive), md5):
                raise self.corrupt(archive, "its md5 is not the published one")
            if not archive.is_file() and not may_download():
                raise self._incomplete(root)
        try:
            self.download(root)
        except (RuntimeError, OSError) as error:
            raise UserError(
                f"data {self.name}: download to {root} failed ({' '.join(str(error).split())}); "
                "try again, or put the files there by hand"
            ) from None

    def corrupt(self, file: Path, reason: str) -> UserError:
        """The error for one of torchvision's files."""
        return UserError(
            f"{file}: corrupt ({reason}); delete it and set {DOWNLOAD_VARIABLE}=1 to download "
            f"{self.name} again"
        )

    def _layout(self, root: Path) -> Literal["torchvision", "folder"]:
        if self.layout == "folder":
            self._tree_folder(root)
            return "folder"
        archives = self.official_archives(root)
        if any(self._present(root)) or all(archive.is_file() for archive in archives):
            return "torchvision"
        if self.layout == "auto" and self._find_folder(root):
            return "folder"
        if may_download():
            return "torchvision"
        raise self._not_found(root)

    def _official_parts(self, root: Path) -> dict[str, Part]:
        parts = self.read_official(root)
        for name, part in parts.items():
            expected = self.official_counts[name]
            if len(part.labels) != expected:
                reason = f"{len(part.labels)} {name} images where there are {expected}"
                raise self.corrupt(self.official_files(root)[0].parent, reason)
        return parts

    def _present(self, root: Path) -> list[bool]:
        return [file.is_file() for file in self.official_files(root)]

    def _incomplete(self, root: Path) -> UserError:
        pairs = zip(self.official_files(root), self._present(root), strict=True)
        missing = [file for file, present in pairs if not present]
        if len(missing) == len(self.official_files(root)):
            return self._not_found(root)
        return UserError(
            f"{missing[0]}: missing, although other files of {self.name} are there; "
            f"set {DOWNLOAD_VARIABLE}=1 to download it again"
        )

    def _find_folder(self, root: Path) -> Path | None:
        trees = (root / name for name in self.folders)
        return next((t for t in trees if (t / "train").is_dir() and (t / "test").is_dir()), None)

    def _tree_folder(self, root: Path) -> Path:
        folder = self._find_folder(root)
        if folder is None:
            raise self._not_found(root)
        return folder

    def _trees(self, root: Path) -> dict[str, Tree]:
        folder = self._tree_folder(root)
        trees = {part: find_tree(folder / part) for part in ("train", "test")}
        for tree in trees.values():
            if tree.class_names != self.class_names:
                raise UserError(
                    f"{tree.folder}: class folders {' '.join(tree.class_names)} where "
                    f"{self.name} has {' '.join(self.class_names)}; "
                    "rename them, or use data image_folder for other classes"
                )
        return trees

    def _tree_source(self, root: Path) -> Source:
        trees = self._trees(root)
        mark = "folder " + " ".join(tree.fingerprint for tree in trees.values())

        def parts() -> dict[str, Part]:
            return {p: part_of_tree(tree, self.shape, resize=False) for p, tree in trees.items()}

        return Source(mark, self.class_names, parts)

    def _not_found(self, root: Path) -> UserError:
        trees = [f"{root / name}/{{train,test}}/<class>/" for name in self.folders]
        official = [str(self.official_files(root)[0]), *map(str, self.official_archives(root))]
        official = list(dict.fromkeys(official))  # SVHN's files are its archives
        looked = {"folder": trees, "torchvision": official, "auto": trees + official}
        hint = f"set {DOWNLOAD_VARIABLE}=1 to download it, or "
        return UserError(
            f"data {self.name} not found: looked for {', '.join(looked[self.layout])}; "
            f"{'' if self.layout == 'folder' else hint}"
            "set OPTPATH_DATA to the folder that has one of them"
        )


def part_in_memory(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> Part:
    """Images [N, C, H, W] that are in memory already, as a part."""

    def read(indices: Indices) -> NDArray[np.uint8]:
        return images[indices]

    channels, height, width = images.shape[1:]
    return Part((channels, height, width), labels, read)
