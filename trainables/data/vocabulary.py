"""From lines of words to numbers: the vocabularies, and the encoding by one."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

END, UNKNOWN, PADDING = "<eos>", "<unk>", "<pad>"

AUTHORS_LEAST_COUNT = 5
"""Words that occur less often have no number in the authors' vocabulary (INVENTORY E23)."""

Lines = Iterable[list[str]]


class Numbers(dict[str, int]):
    """Word -> number; a word that is not there has that of the unknown word."""

    def __missing__(self, word: str) -> int:
        """The unknown word's number."""
        return self[UNKNOWN]


@dataclass(frozen=True)
class Vocabulary:
    """The words of a training split."""

    numbers: Numbers
    num_words: int
    """Rows of a network's embedding and output layer: above every number."""
    padding: int
    ends_lines: bool
    """True if every line ends in <eos>."""
    lower_case: bool

    def prepared(self, lines: Lines) -> Iterator[list[str]]:
        """The lines as they are looked up."""
        for words in lines:
            if self.lower_case:
                words = [word.lower() for word in words]
            if self.ends_lines:
                words.append(END)
            yield words


def every_word(lines: Lines, least_count: int | None) -> Vocabulary:
    """<eos>, <unk> and every word that occurs often enough, in the order of first occurrence.

    By default once is enough: WikiText-2 has 33,278 words so, WikiText-103 267,735 and Mikolov's
    Penn Treebank 10,000.
    """
    counts: Counter[str] = Counter()
    for words in lines:
        counts.update(words)
    frequent = [word for word, count in counts.items() if count >= (least_count or 1)]
    numbers = _numbers(END, UNKNOWN, *frequent)
    return Vocabulary(
        numbers, len(numbers), padding=numbers[END], ends_lines=True, lower_case=False
    )


def frequent_words(lines: Lines, least_count: int | None) -> Vocabulary:
    """<unk>, <pad> and the lower-case words that occur often enough, most frequent first.

    By default five times is enough. `num_words` counts every word as written: the authors take the
    size of the network from one vocabulary and the numbers from another (INVENTORY E23, H3).
    """
    written = {END, UNKNOWN}
    counts: Counter[str] = Counter()
    for words in lines:
        written.update(words)
        counts.update([word.lower() for word in words])
    least = least_count or AUTHORS_LEAST_COUNT
    frequent = [word for word, count in counts.most_common() if count >= least]
    numbers = _numbers(UNKNOWN, PADDING, *frequent)
    return Vocabulary(
        numbers,
        max(len(written), len(numbers)),
        padding=numbers[PADDING],
        ends_lines=False,
        lower_case=True,
    )


def _numbers(*words: str) -> Numbers:
    return Numbers((word, number) for number, word in enumerate(dict.fromkeys(words)))


VOCABULARIES: dict[str, Callable[[Lines, int | None], Vocabulary]] = {
    "words": every_word,
    "authors": frequent_words,
}


def encode(lines: Lines, vocabulary: Vocabulary) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The words' numbers [N], and where the lines start in them, [lines + 1].

    Memory: 4 bytes per word and 8 per line, and once more while they grow.
    """
    tokens, starts = array("i"), array("q", [0])
    number = vocabulary.numbers.__getitem__
    for words in vocabulary.prepared(lines):
        tokens.extend(map(number, words))
        starts.append(len(tokens))
    return np.frombuffer(tokens, dtype=np.int32), np.frombuffer(starts, dtype=np.int64)
