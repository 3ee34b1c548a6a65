"""WikiText-2 and WikiText-103, from plain token files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from trainables.data.contract import SplitSizes
from trainables.data.text import TextConfig


class WikiText2(TextConfig):
    """2 million words of Wikipedia articles; blank lines and headings are lines of their own."""

    name: ClassVar[str] = "wikitext2"
    licence: ClassVar[str] = "CC BY-SA 3.0"
    citation: ClassVar[str] = (
        "S. Merity, C. Xiong, J. Bradbury, R. Socher (2016). Pointer Sentinel Mixture Models. "
        "arXiv:1609.07843."
    )
    folders: ClassVar[tuple[str, ...]] = ("wikitext-2", "wikitext-2-v1", "WikiText2/wikitext-2")
    file_names: ClassVar[tuple[str, ...]] = ("wiki.{split}.tokens", "{split}.txt")
    archives: ClassVar[tuple[str, ...]] = ("wikitext-2-v1.zip", "wikitext-2.zip")
    hub: ClassVar[Mapping[str, str]] = {
        "path": "Salesforce/wikitext",
        "name": "wikitext-2-v1",
        "column": "text",
    }
    published_lines: ClassVar[SplitSizes] = SplitSizes(36_718, 3_760, 4_358)
    published_words: ClassVar[int] = 33_278
    published_tokens: ClassVar[int] = 2_088_628


class WikiText103(WikiText2):
    """103 million words of Wikipedia articles, with WikiText-2's validation and test splits."""

    name: ClassVar[str] = "wikitext103"
    folders: ClassVar[tuple[str, ...]] = (
        "wikitext-103",
        "wikitext-103-v1",
        "WikiText103/wikitext-103",
    )
    archives: ClassVar[tuple[str, ...]] = ("wikitext-103-v1.zip", "wikitext-103.zip")
    hub: ClassVar[Mapping[str, str]] = {
        "path": "Salesforce/wikitext",
        "name": "wikitext-103-v1",
        "column": "text",
    }
    published_lines: ClassVar[SplitSizes] = SplitSizes(1_801_350, 3_760, 4_358)
    published_words: ClassVar[int] = 267_735
    published_tokens: ClassVar[int] = 103_227_021
