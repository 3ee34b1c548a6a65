"""Sample files of data sets that do not come without files, one writer per kind of data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

SENTENCES = """\
 = The road = \n
 The road that an optimizer takes is long , and its turns are few . \n
 = = Steps = = \n
 Each step follows the slope of the loss at the place where it stands . \n
 A small step loses little , and a large step may lose the way . \n
 The <unk> of a step is the gradient of one minibatch , not of all examples . \n
 = = Noise = = \n
 Noise turns the step , but the mean of many steps still points down the slope . \n
 The end of the road is known only when the last step is done . \n
 A second walk along the same road measures each turn against that end . \n
"""
"""Ours, in the manner of WikiText: headings, blank lines, <unk>."""


def write_text(root: Path, *, repeats: int = 4) -> None:
    """WikiText-2's three splits in its own layout: `repeats` times twenty lines to train on."""
    folder = root / "wikitext-2"
    folder.mkdir(parents=True, exist_ok=True)
    for split, times in (("train", repeats), ("valid", 1), ("test", 1)):
        (folder / f"wiki.{split}.tokens").write_text(SENTENCES * times, encoding="utf-8")


SAMPLES: dict[str, Callable[[Path], None]] = {"text": write_text}
"""Kind of data -> writer of small files for one of its data sets, under a data folder."""
