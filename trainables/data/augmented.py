"""Images of any size brought to one size: drawn crops to train on, the middle to evaluate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from trainables.data.folders import middle, open_image

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

ATTEMPTS = 10
"""Crops that are drawn before the middle is taken; torchvision's RandomResizedCrop."""

Range = tuple[float, float]


@dataclass(frozen=True)
class Transform:
    """torchvision's RandomResizedCrop and RandomHorizontalFlip, or Resize and CenterCrop."""

    size: int
    """Side of the result in pixels."""
    resize: int
    """What the shorter side is brought to before the middle is cut out."""
    scale: Range
    """Least and greatest share of the area in a crop."""
    ratio: Range
    """Least and greatest width over height of a crop."""
    flip: bool

    def random(self, file: str, draw: torch.Generator) -> NDArray[np.uint8]:
        """A drawn crop, resized, perhaps mirrored: uint8 [3, size, size].

        Raises:
            UserError: the file is no readable image; names it.
        """
        from PIL import Image

        image = open_image(file, channels=3)
        top, left, height, width = random_crop(*image.size, self.scale, self.ratio, draw)
        image = image.crop((left, top, left + width, top + height))
        image = image.resize((self.size, self.size), Image.Resampling.BILINEAR)
        pixels = _channels_first(image)
        mirrored = self.flip and torch.rand(1, generator=draw).item() < 0.5
        return np.ascontiguousarray(pixels[:, :, ::-1]) if mirrored else pixels

    def clean(self, file: str) -> NDArray[np.uint8]:
        """The middle of the resized image: uint8 [3, size, size]; raises as `random` does."""
        return _channels_first(middle(open_image(file, channels=3), self.resize, self.size))


def _channels_first(image: PILImage) -> NDArray[np.uint8]:
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def random_crop(
    width: int, height: int, scale: Range, ratio: Range, draw: torch.Generator
) -> tuple[int, int, int, int]:
    """Top, left, height and width of a crop, drawn as RandomResizedCrop.get_params draws them.

    Area uniform in `scale` times the image's, ratio uniform in its logarithm, place uniform; after
    ten crops that do not fit, the middle with the nearest allowed ratio.
    """
    logs = tuple(torch.log(torch.tensor(ratio)).tolist())
    for _ in range(ATTEMPTS):
        area = width * height * torch.empty(1).uniform_(*scale, generator=draw).item()
        aspect = torch.exp(torch.empty(1).uniform_(*logs, generator=draw)).item()
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            top = int(torch.randint(height - h + 1, (1,), generator=draw).item())
            left = int(torch.randint(width - w + 1, (1,), generator=draw).item())
            return top, left, h, w
    own = width / height
    w = round(height * ratio[1]) if own > ratio[1] else width
    h = round(width / ratio[0]) if own < ratio[0] else height
    return (height - h) // 2, (width - w) // 2, h, w
