"""Trees of images as torchvision's ImageFolder reads them: one folder per class."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trainables.data.arrays import Indices, Part
from trainables.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""torchvision.datasets.folder.IMG_EXTENSIONS; importing it would take 3 s."""

CONVERTED = ("1", "L", "P", "RGB", "YCbCr", "CMYK")
"""Pillow's modes that become 8-bit red, green and blue, or luminance, and lose nothing that shows.
Trees mix them (ImageNet has grey and CMYK JPEGs), and torchvision's ImageFolder converts them too;
unlike it, nothing else is converted: 16 bits would be clipped, transparent pixels take on a colour
that nobody sees."""
ALPHA = ("LA", "PA", "RGBA")
"""Modes with an alpha channel, which may be opaque everywhere."""

NUM_THREADS = min(8, os.cpu_count() or 1)
"""Decoding threads; PIL decodes without the interpreter's lock. The bound is ours, untuned."""


@dataclass(frozen=True)
class Tree:
    """The images of a folder in ImageFolder's order: by class, then by path."""

    folder: Path
    class_names: tuple[str, ...]
    files: tuple[str, ...]
    labels: tuple[int, ...]
    fingerprint: str
    """Hash of relative paths, sizes and modification times."""
    digest: str
    """Hash of relative paths and sizes: the same for a copy elsewhere."""


def find_tree(folder: Path) -> Tree:
    """The tree under a folder with one sub-folder per class.

    Repeated calls in a process list the files again only when an image or class came or went.

    Raises:
        UserError: there are no class folders, or one of them has no image.
    """
    classes = _class_folders(folder)
    if not classes:
        raise UserError(
            f"{folder}: no class folders; expected {folder}/<class>/<image>.jpg or .png"
        )
    return _list_tree(folder, tuple(c.stat().st_mtime_ns for c in (folder, *classes)))


def _class_folders(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        return sorted(folder / e.name for e in entries if e.is_dir() and not e.name.startswith("."))


@lru_cache(maxsize=32)
def _list_tree(folder: Path, _times: tuple[int, ...]) -> Tree:
    classes = _class_folders(folder)
    files: list[str] = []
    labels: list[int] = []
    for label, class_folder in enumerate(classes):
        images = _images_under(class_folder)
        if not images:
            raise UserError(f"{class_folder}: no image; expected files {' '.join(EXTENSIONS)}")
        files += images
        labels += [label] * len(images)
    names = tuple(c.name for c in classes)
    statuses = _statuses(folder, files)
    without_times = _hash(line.rpartition("\t")[0] for line in statuses)
    return Tree(folder, names, tuple(files), tuple(labels), _hash(statuses), without_times)


def _images_under(folder: Path) -> list[str]:
    return [
        os.path.join(parent, name)
        for parent, _, names in sorted(os.walk(folder, followlinks=True))
        for name in sorted(names)
        if name.lower().endswith(EXTENSIONS)
    ]


def fingerprint(folder: Path, files: Sequence[str]) -> str:
    """Hash of the files' paths relative to the folder, sizes and modification times."""
    return _hash(_statuses(folder, files))


def _statuses(folder: Path, files: Sequence[str]) -> list[str]:
    lines = []
    skip = len(str(folder)) + 1  # os.path.relpath takes a second for 60,000 files
    for file in files:
        status = os.stat(file)
        name = file[skip:].replace(os.sep, "/")
        lines.append(f"{name}\t{status.st_size}\t{status.st_mtime_ns}")
    return lines


def _hash(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def part_of_tree(tree: Tree, shape: tuple[int, int, int], *, resize: bool) -> Part:
    """The tree's images as a part of that shape; without `resize` they must have it already."""

    def decode_one(index: int) -> NDArray[np.uint8]:
        return decode(tree.files[index], shape, resize=resize)

    def read(indices: Indices) -> NDArray[np.uint8]:
        with ThreadPoolExecutor(NUM_THREADS) as pool:
            return np.stack(list(pool.map(decode_one, indices)))

    return Part(shape, np.asarray(tree.labels, dtype=np.int64), read)


def decode(file: str, shape: tuple[int, int, int], *, resize: bool) -> NDArray[np.uint8]:
    """One image as uint8 [C, H, W]; 1 channel is luminance, 3 are red, green, blue.

    With `resize`, the shorter side is brought to the wanted size and the middle is cut out, as
    torchvision's Resize and CenterCrop do.

    Raises:
        UserError: the file is no readable 8-bit image, or has another size; names the file.
    """
    channels, height, width = shape
    pixels = open_image(file, channels)
    if resize:
        pixels = middle(pixels, height, height)
    if pixels.size != (width, height):
        found = "x".join(map(str, pixels.size))
        raise UserError(f"{file}: image of {found} pixels where {width}x{height} are expected")
    return np.asarray(pixels).reshape(height, width, channels).transpose(2, 0, 1)


def open_image(file: str, channels: int) -> PILImage:
    """The decoded image, luminance (1 channel) or red, green and blue (3).

    Images of other channels are converted where that shows the same picture: see `CONVERTED`.

    Raises:
        UserError: the file is no readable 8-bit image, or has transparent pixels; names the file.
    """
    from PIL import Image

    wanted = "L" if channels == 1 else "RGB"
    try:
        with Image.open(file) as image:
            if image.mode in ALPHA or "transparency" in image.info:
                return _opaque(image.convert("RGBA"), file, image.mode).convert(wanted)
            if image.mode not in CONVERTED:
                raise UserError(f"{file}: pixels of mode {image.mode}; convert it to 8 bits RGB")
            return image.convert(wanted)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        # What PIL raises for broken files, PNG's SyntaxError included.
        raise UserError(
            f"{file}: corrupt image ({' '.join(str(error).split())}); "
            "replace it by a good copy or remove it"
        ) from None


def _opaque(image: PILImage, file: str, mode: str) -> PILImage:
    lowest, _ = image.getchannel("A").getextrema()
    if lowest == 255:
        return image
    raise UserError(
        f"{file}: transparent pixels (mode {mode}), whose colour nobody sees; lay it over a "
        "background and save it as RGB, or remove it"
    )


def middle(image: PILImage, resize: int, size: int) -> PILImage:
    """The middle square of `size` pixels, after the shorter side was brought to `resize`."""
    from PIL import Image

    shorter = min(image.size)
    width, height = (int(resize * side / shorter) for side in image.size)
    if shorter != resize:
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return image.crop((left, top, left + size, top + size))
