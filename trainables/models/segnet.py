"""SegNet."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.models.contract import ModelConfig
from trainables.models.shapes import divisible_image_shape

STAGES = ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3)
"""Output channels of the encoder's convolutions: the 13 of VGG-16."""


class SegNet(ModelConfig):
    """SegNet (Badrinarayanan et al. 2017, section 3): VGG-16's convolutions and their mirror image.

    Every convolution is 3x3, with bias; ReLU, then BatchNorm, in P1's order (the paper has
    BatchNorm first). Each of the five stages ends with a 2x2 max pooling; on the way back every
    value returns to the place that its maximum came from. The last convolution gives the scores.
    torch's initialisation. 29,446,470 parameters at width 1, three channels and six classes.
    """

    name: ClassVar[str] = "segnet"
    data_kind: ClassVar[str] = "tiles"

    width: float = Field(default=1.0, ge=1 / 64)
    """Factor on the channels of every convolution, rounded down; 1/64 leaves one channel."""

    def build(self, input_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
        """The network; [b, C, H, W] -> [b, num_outputs, H, W].

        Raises:
            UserError: the input is no image, or its sides are no multiples of 32.
        """
        num_channels = divisible_image_shape(self.name, input_shape, 2 ** len(STAGES))[0]
        widths = [[int(width * self.width) for width in stage] for stage in STAGES]
        return SegNetwork(num_channels, num_outputs, widths)


class SegNetwork(nn.Module):
    """The encoder's stages, and the decoder's in the opposite direction."""

    def __init__(self, num_channels: int, num_outputs: int, widths: list[list[int]]) -> None:
        super().__init__()
        stages = [[num_channels], *widths]
        self.encoder = nn.ModuleList(
            [
                nn.Sequential(*_convolutions([before[-1], *stage]))
                for before, stage in pairwise(stages)
            ]
        )
        self.decoder = nn.ModuleList(
            [
                nn.Sequential(*_convolutions([*reversed(stage), before[-1]]))
                for before, stage in reversed([*pairwise(widths)])
            ]
        )
        head = nn.Conv2d(widths[0][0], num_outputs, kernel_size=3, padding=1)
        self.decoder.append(nn.Sequential(*_convolutions([*reversed(widths[0])]), head))

    def forward(self, images: Tensor) -> Tensor:
        """Scores of every class at every pixel."""
        hidden, places = images, []
        for stage in self.encoder:
            full = stage(hidden)
            hidden, where = F.max_pool2d(full, 2, return_indices=True)
            places.append((where, full.shape))
        for stage, (where, shape) in zip(self.decoder, reversed(places), strict=True):
            hidden = stage(unpool(hidden, where, shape))
        return hidden


def unpool(pooled: Tensor, places: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Zeros of that shape [b, C, H, W], but each pooled value at the place of its maximum.

    max_unpool2d itself raises in strict deterministic mode, on account of places that repeat; in
    poolings that do not overlap none does, and this scatter gives the same bits.
    """
    batch, channels, height, width = shape
    flat = pooled.new_zeros(batch, channels, height * width)
    return flat.scatter(2, places.flatten(2), pooled.flatten(2)).view(shape)


def _convolutions(channels: list[int]) -> list[nn.Module]:
    return [
        module
        for fan_in, fan_out in pairwise(channels)
        for module in (
            nn.Conv2d(fan_in, fan_out, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.BatchNorm2d(fan_out),
        )
    ]
