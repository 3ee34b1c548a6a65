"""Arrays in files: written once, memory-mapped from then on, whole or not there.

`<folder>/<key>-<part>-<what>.npy`, and `<folder>/<key>.json`, which is written last and means that
the others are whole. The key covers whatever changes the arrays.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from trainables.errors import UserError


@dataclass(frozen=True)
class CachedArrays:
    """The files of one key."""

    folder: Path
    key: str

    def complete(self) -> bool:
        """True if everything was written."""
        return self._summary_file.is_file()

    @cached_property
    def summary(self) -> dict[str, Any]:
        """What `finish` was given."""
        loaded: dict[str, Any] = json.loads(self._summary_file.read_text())
        return loaded

    @property
    def digest(self) -> str | None:
        """The digest of what was written; None until all of it is."""
        return str(self.summary["digest"]) if self.complete() else None

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Say that every array is written; raises UserError as `new_array` does."""
        with self._new_file(self._summary_file) as file:
            file.write(json.dumps(summary).encode())

    @contextmanager
    def new_array(self, part: str, what: str) -> Iterator[IO[bytes]]:
        """An open .npy file, which takes its name when the block ends well.

        Raises:
            UserError: the folder cannot be written to.
        """
        with self._new_file(self._array_file(part, what)) as file:
            yield file

    def array(self, part: str, what: str) -> NDArray[Any]:
        """One array, memory-mapped.

        Raises:
            UserError: the file is damaged.
        """
        path = self._array_file(part, what)
        try:
            # Copy-on-write: shared by all processes as long as nobody writes, and nobody does;
            # a read-only map would make torch.from_numpy warn.
            mapped: NDArray[Any] = np.load(path, mmap_mode="c", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise UserError(
                f"{path}: damaged ({error}); delete {self._summary_file} to have it made anew"
            ) from None
        return mapped

    @property
    def _summary_file(self) -> Path:
        return self.folder / f"{self.key}.json"

    def _array_file(self, part: str, what: str) -> Path:
        return self.folder / f"{self.key}-{part}-{what}.npy"

    @contextmanager
    def _new_file(self, path: Path) -> Iterator[IO[bytes]]:
        # Written under another name and renamed: who finds the name finds the whole file.
        temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                yield file
            os.replace(temporary, path)
        except OSError as error:
            raise UserError(
                f"{self.folder}: cannot store decoded images there ({error.strerror or error}); "
                "make room, or set OPTPATH_DATA to a folder that can be written to"
            ) from None
        finally:
            if temporary.exists():
                temporary.unlink()
