"""The Penn Treebank as Mikolov processed it, from plain token files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from trainables.data.contract import SplitSizes
from trainables.data.text import TextConfig


class PTB(TextConfig):
    """0.9 million words of the Wall Street Journal, a sentence a line, 10,000 words.

    P1 gives the sentences of the part-of-speech split (38,219), but says Mikolov's version, which
    has 42,068 (INVENTORY K8).
    """

    name: ClassVar[str] = "ptb"
    licence: ClassVar[str] = "the Linguistic Data Consortium's; Mikolov's files are passed around"
    citation: ClassVar[str] = (
        "M. P. Marcus, M. A. Marcinkiewicz, B. Santorini (1993). Building a Large Annotated Corpus "
        "of English: The Penn Treebank. Computational Linguistics 19(2); as processed for "
        "T. Mikolov, M. Karafiat, L. Burget, J. Cernocky, S. Khudanpur (2010), Interspeech."
    )
    folders: ClassVar[tuple[str, ...]] = ("ptb", "penn", "simple-examples/data", "PennTreebank")
    file_names: ClassVar[tuple[str, ...]] = ("ptb.{split}.txt", "{split}.txt")
    hub: ClassVar[Mapping[str, str]] = {
        "path": "ptb-text-only/ptb_text_only",
        "revision": "refs/convert/parquet",
        "column": "sentence",
    }
    published_lines: ClassVar[SplitSizes] = SplitSizes(42_068, 3_370, 3_761)
    published_words: ClassVar[int] = 10_000
    published_tokens: ClassVar[int] = 929_589
