"""Text: token files read into one array of word numbers per split, and their options."""

from __future__ import annotations

import hashlib
import json
from abc import ABC
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from trainables.data.cache import CachedArrays
from trainables.data.contract import DataConfig, LoadedData, SplitSizes
from trainables.data.folders import fingerprint
from trainables.data.standard import may_download
from trainables.data.text_files import Layout, TokenFile, download, find_layout, not_found
from trainables.data.vocabulary import VOCABULARIES, encode
from trainables.errors import UserError

CACHE_VERSION = 1
"""Raised when the same files come to be read differently."""


@dataclass(frozen=True)
class TextSplit:
    """Lines of words: those of line i are `tokens[starts[i]:starts[i + 1]]`.

    `tokens` int32 [N], `starts` int64 [lines + 1]. Both may be memory-mapped files, which all
    workers of a node share; nothing writes to them.
    """

    tokens: NDArray[np.int32]
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        """Number of lines, blank ones included."""
        return len(self.starts) - 1

    def first(self, num_lines: int | None) -> TextSplit:
        """The first so many lines, as views; all of them if None."""
        if num_lines is None:
            return self
        return TextSplit(self.tokens[: self.starts[num_lines]], self.starts[: num_lines + 1])


@dataclass(frozen=True)
class TextData(LoadedData):
    """A loaded text data set: words as numbers below `num_words`.

    `padding` is the number that fills short lines up.
    """

    train: TextSplit
    validation: TextSplit
    test: TextSplit | None
    num_words: int
    padding: int


class TextConfig(DataConfig, ABC):
    """Options of a data set of plain token files: a line of words per line, in UTF-8.

    An example is a line. The files are read once into an index of memory-mapped arrays beside them.
    """

    kind: ClassVar[str] = "text"
    folders: ClassVar[tuple[str, ...]]
    """Names under the data folder where token files are looked for, and below them."""
    file_names: ClassVar[tuple[str, ...]]
    """Names of a split's file; {split} is train, valid or test."""
    archives: ClassVar[tuple[str, ...]] = ()
    """Names of zip files under the data folder that hold files of those names."""
    hub: ClassVar[Mapping[str, str]]
    """Arguments of Hugging Face's `datasets.load_dataset`, and `column`, the one with the text."""
    published_lines: ClassVar[SplitSizes]
    published_words: ClassVar[int]
    """Number of distinct words of the training split, the end of a line included."""
    published_tokens: ClassVar[int]
    """Number of words of the training split, ends of lines included."""

    train_examples: int | None = Field(default=None, ge=1)
    """Use only the first so many lines of the training split; the vocabulary stays whole."""
    validation_examples: int | None = Field(default=None, ge=1)
    """Use only the first so many lines of the validation split."""
    test_examples: int | None = Field(default=None, ge=1)
    """Use only the first so many lines of the test split."""
    training_split: Literal["train", "test"] = "train"
    """The split that is trained on. test: a small stand-in, which leaves no split to test on."""
    vocabulary: Literal["words", "authors"] = "words"
    """words: the words of the training split, a line ends in <eos>, all other words are <unk>.
    authors: as P1's code, frequent words in lower case, while the network has a row for every word
    as written; lines have no end (INVENTORY E23)."""
    least_count: int | None = Field(default=None, ge=1)
    """Least number of occurrences of a word that is not <unk>; none: 1, and 5 for authors."""

    def sizes(self, root: Path) -> SplitSizes:
        """Number of lines per split, after the limits; counted where the index is not there."""
        lines = self._num_lines(root)
        limits = {split: getattr(self, f"{split}_examples") for split in lines}
        for split, wanted in limits.items():
            if wanted is not None and wanted > lines[split]:
                raise UserError(
                    f"data.{split}_examples: {wanted} is more than the {lines[split]} lines of the "
                    f"{split} split of {self.name}; give at most {lines[split]}"
                )
        kept = {split: limits[split] or number for split, number in lines.items()}
        return SplitSizes(kept["train"], kept["validation"], kept.get("test", 0))

    def signature(self, root: Path) -> tuple[tuple[int, ...], int]:
        """A token has no shape; number of words that the network needs rows for."""
        if self._is_published(root):
            return (), self.published_words
        return (), int(self._stored(root).summary["num_words"])

    def num_tokens(self, root: Path) -> int:
        """Number of words of the training split, after the limit."""
        if self._is_published(root) and self.train_examples is None:
            return self.published_tokens
        return len(self.load(root).train.tokens)

    def prepare(self, root: Path) -> None:
        """Download the files if that was asked for, and index them unless that was done before."""
        if self._layout(root) is None:
            download(self.name, self.hub, root / self.folders[0])
        self._stored(root)

    def load(self, root: Path) -> TextData:
        """The splits as views of memory-mapped files; indexes them first if that was not done."""
        self.sizes(root)
        stored = self._stored(root)
        splits = {
            split: TextSplit(stored.array(split, "tokens"), stored.array(split, "starts")).first(
                getattr(self, f"{split}_examples")
            )
            for split in stored.summary["lines"]
        }
        return TextData(
            train=splits["train"],
            validation=splits["validation"],
            test=splits.get("test"),
            num_words=stored.summary["num_words"],
            padding=stored.summary["padding"],
            digest=stored.summary["digest"],
        )

    def digest(self, root: Path) -> str | None:
        """That of the index; None while there is none, or while the files may be downloaded."""
        return None if self._layout(root) is None else self._cache(root).digest

    def _layout(self, root: Path) -> Layout | None:
        """The files that are there; None: none, but they may be downloaded."""
        layout = find_layout(root, self.folders, self.file_names, self.archives)
        if layout is None and not may_download():
            raise not_found(self.name, root, self.folders, self.file_names, self.archives)
        return layout

    def _files(self, root: Path) -> dict[str, TokenFile]:
        layout = self._layout(root)
        if layout is None:
            raise UserError(
                f"data {self.name}: not downloaded to {root} yet; type optpath run first"
            )
        names = {"train": self.training_split, "validation": "valid"}
        if self.training_split == "train":
            names["test"] = "test"
        return {split: layout.file(name, self.name) for split, name in names.items()}

    def _is_published(self, root: Path) -> bool:
        """True if the published counts hold: by the number of lines, so that no word is read."""
        if (self.training_split, self.vocabulary, self.least_count) != ("train", "words", None):
            return False
        published = self.published_lines
        found = self._num_lines(root)
        return found["train"] == published.train and found["test"] == published.test

    def _num_lines(self, root: Path) -> dict[str, int]:
        if self._layout(root) is None:
            counts = self.published_lines
            lines = {"train": counts.train, "validation": counts.validation, "test": counts.test}
            if self.training_split == "test":
                lines = {"train": counts.test, "validation": counts.validation}
            return lines
        cache = self._cache(root)
        if cache.complete():
            return dict(cache.summary["lines"])
        return {split: file.num_lines() for split, file in self._files(root).items()}

    def _cache(self, root: Path) -> CachedArrays:
        files = dict.fromkeys(str(file.path) for file in self._files(root).values())
        mark = fingerprint(root, list(files))
        settings = [CACHE_VERSION, mark, self.training_split, self.vocabulary, self.least_count]
        key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]
        return CachedArrays(root / ".optpath-cache", f"{self.name}-{key}")

    def _stored(self, root: Path) -> CachedArrays:
        cache = self._cache(root)
        if not cache.complete():
            self._index(self._files(root), cache)
        return cache

    def _index(self, files: Mapping[str, TokenFile], cache: CachedArrays) -> None:
        vocabulary = VOCABULARIES[self.vocabulary](files["train"].lines(), self.least_count)
        content = hashlib.sha256(json.dumps([vocabulary.num_words, vocabulary.padding]).encode())
        lines = {}
        for split, file in files.items():
            tokens, starts = encode(file.lines(), vocabulary)
            if not len(tokens):
                raise UserError(
                    f"{file}: holds no word; put the {split} split of {self.name} there"
                )
            for what, values in (("tokens", tokens), ("starts", starts)):
                _write(cache, split, what, values)
                content.update(values.data)
            lines[split] = len(starts) - 1
        summary: dict[str, Any] = {"lines": lines, "digest": content.hexdigest()}
        summary |= {"num_words": vocabulary.num_words, "padding": vocabulary.padding}
        cache.finish(summary)


def _write(cache: CachedArrays, split: str, what: str, values: NDArray[Any]) -> None:
    with cache.new_array(split, what) as file:
        np.save(file, values)
