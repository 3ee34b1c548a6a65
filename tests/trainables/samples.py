"""Sample files of data sets that do not come without files, one writer per kind of data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from trainables.data.registry import DATA
from trainables.data.text import TextConfig
from trainables.data.text_files import SPLITS

SENTENCES = """\
 = The road = \n
 The road that an optimizer takes is long , and its turns are few .
 Each step follows the slope of the loss at the place where it stands .
 A small step loses little , and a large step may lose the way .

 = = Noise = = \n
 The <unk> of a step is the gradient of one minibatch , not of all examples .
 Noise turns the step , but the mean of many steps still points down the slope .
 The end of the road is known only when the last step is done .
 A second walk along the same road measures each turn against that end .
 It is the same walk : the same noise , the same steps and the same end , bit for bit , or \
else what is measured along the second walk says nothing at all about the first one .

"""
"""Fifteen lines, ours, in the manner of WikiText: headings, blank lines, <unk>."""


def write_images(root: Path, seed: int, *, per_class: int = 10) -> None:
    """`<root>/images/<class>/`: two classes of 8x8 grey images, drawn from the seed."""
    draw = np.random.default_rng(seed)
    for name in ("cat", "dog"):
        folder = root / "images" / name
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(per_class):
            pixels = draw.integers(256, size=(8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")


def write_text(root: Path, *, repeats: int = 8) -> None:
    """The three splits of every text data set in its own layout: `repeats` times the sentences."""
    for config in DATA.values():
        if issubclass(config, TextConfig):
            folder = root / config.folders[0]
            folder.mkdir(parents=True, exist_ok=True)
            for split in SPLITS:
                file = folder / config.file_names[0].format(split=split)
                file.write_text(SENTENCES * repeats, encoding="utf-8")


SAMPLES: dict[str, Callable[[Path], None]] = {"text": write_text}
"""Kind of data -> writer of small files for its data sets, under a data folder."""
