"""Token files: where they are, unpacked or in a zip file, and their lines of words."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO

from trainables.data.standard import DOWNLOAD_VARIABLE
from trainables.errors import UserError

SPLITS = ("train", "valid", "test")
"""The splits by the names that they have in file names."""

CHUNK_BYTES = 2**24
"""Bytes in memory while lines are counted; ours, untuned."""


@dataclass(frozen=True)
class TokenFile:
    """One split's file: a file of its own, or a member of a zip file."""

    path: Path
    member: str | None = None

    def __str__(self) -> str:
        """What messages call it."""
        return str(self.path / self.member) if self.member else str(self.path)

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """The bytes; raises UserError if they cannot be read."""
        try:
            if self.member is None:
                with self.path.open("rb") as file:
                    yield file
            else:
                with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as file:
                    yield file
        except (OSError, zipfile.BadZipFile, EOFError) as error:
            raise UserError(f"{self}: not readable ({error}); put a whole file there") from None

    def lines(self) -> Iterator[list[str]]:
        """The words of each line, as white space separates them.

        Raises:
            UserError: a line is not UTF-8; names file and line.
        """
        with self.open() as file:
            for number, line in enumerate(file, start=1):
                try:
                    text = line.decode("utf-8")
                except UnicodeDecodeError as error:
                    raise UserError(
                        f"{self}: line {number} is not UTF-8 ({error.reason} at byte "
                        f"{error.start} of the line); convert the file to UTF-8"
                    ) from None
                yield text.split()

    def num_lines(self) -> int:
        """Number of lines; half a second for 500 MB, and remembered."""
        status = self.path.stat()
        return _num_lines(self, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=64)
def _num_lines(file: TokenFile, size: int, changed: int) -> int:
    count, last = 0, b"\n"
    with file.open() as stream:
        while chunk := stream.read(CHUNK_BYTES):
            count += chunk.count(b"\n")
            last = chunk[-1:]
    return count + (last != b"\n")


@dataclass(frozen=True)
class Layout:
    """Token files in one place under one naming; not every split need be there."""

    files: Mapping[str, TokenFile]
    missing: Mapping[str, str]
    """Split -> the name of the file that is not there."""

    def file(self, split: str, data: str) -> TokenFile:
        """The file of a split: train, valid or test.

        Raises:
            UserError: it is missing, although others are there.
        """
        if split in self.files:
            return self.files[split]
        stand_in = ", or set data.training_split=test to train on that small split"
        raise UserError(
            f"{self.missing[split]}: missing, although other files of {data} are there; put it "
            f"beside them{stand_in if split == 'train' and 'test' in self.files else ''}"
        )


def find_layout(
    root: Path, folders: Sequence[str], names: Sequence[str], archives: Sequence[str]
) -> Layout | None:
    """The layout with the most splits; among equals folders before archives; None: no file."""
    layouts = [_in_folder(root / folder, name) for folder in folders for name in names]
    for archive in archives:
        if (root / archive).is_file():
            layouts += [_in_archive(root / archive, name) for name in names]
    best = max(layouts, key=lambda layout: len(layout.files))
    return best if best.files else None


def _in_folder(folder: Path, name: str) -> Layout:
    paths = {split: folder / name.format(split=split) for split in SPLITS}
    files = {split: TokenFile(path) for split, path in paths.items() if path.is_file()}
    return Layout(files, {s: str(path) for s, path in paths.items() if s not in files})


def _in_archive(archive: Path, name: str) -> Layout:
    try:
        with zipfile.ZipFile(archive) as opened:
            members = {os.path.basename(member): member for member in opened.namelist()}
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(f"{archive}: not readable ({error}); put a whole file there") from None
    wanted = {split: name.format(split=split) for split in SPLITS}
    files = {
        split: TokenFile(archive, members[file])
        for split, file in wanted.items()
        if file in members
    }
    return Layout(files, {s: str(archive / file) for s, file in wanted.items() if s not in files})


def not_found(
    data: str, root: Path, folders: Sequence[str], names: Sequence[str], archives: Sequence[str]
) -> UserError:
    """The error for a data set of which no file is there."""
    files = [str(root / folder / names[0].format(split="train")) for folder in folders]
    looked = [*files, *(str(root / archive) for archive in archives)]
    also = " or ".join(name.format(split="train") for name in names[1:])
    return UserError(
        f"data {data} not found: looked for {', '.join(looked)} (or {also}); "
        f"set {DOWNLOAD_VARIABLE}=1 to download it (needs optpath[text]), "
        "or set OPTPATH_DATA to the folder that has one of them"
    )


def download(data: str, hub: Mapping[str, str], folder: Path) -> None:
    """Write the splits to `folder` as train.txt, valid.txt and test.txt.

    `hub` holds the arguments of Hugging Face's `datasets.load_dataset`, and `column`, the one that
    has the lines.

    Raises:
        UserError: `datasets` is not installed, the download failed, or the folder is not writable.
    """
    try:
        import datasets
    except ImportError:
        raise UserError(
            f"data {data}: downloading needs the datasets library; "
            "type pip install 'optpath[text]', or put the files there by hand"
        ) from None
    arguments = {key: value for key, value in hub.items() if key != "column"}
    try:
        splits = datasets.load_dataset(**arguments)
        folder.mkdir(parents=True, exist_ok=True)
        for split, source in zip(SPLITS, ("train", "validation", "test"), strict=True):
            _write_lines(folder / f"{split}.txt", splits[source][hub["column"]])
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(
            f"data {data}: download to {folder} failed ({' '.join(str(error).split())}); "
            "try again, or put the files there by hand"
        ) from None


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.writelines(line.rstrip("\n") + "\n" for line in lines)
    os.replace(temporary, path)
