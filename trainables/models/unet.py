"""U-Net."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.models.contract import ModelConfig
from trainables.models.shapes import divisible_image_shape

BASE = 32
"""Channels of the first level at width 1: P1's, half of Ronneberger et al.'s (INVENTORY C)."""

POOLINGS = 4


class UNet(ModelConfig):
    """U-Net (Ronneberger et al. 2015, figure 1) with BatchNorm and padded convolutions.

    Five levels of two [Conv3x3 - BatchNorm - ReLU], channels doubling, 2x2 max pooling between
    them; on the way up a 2x2 transposed convolution halves the channels, and what the same level
    had on the way down is put beside it. A 1x1 convolution ends it. torch's initialisation.
    7,763,206 parameters at width 1, three channels and six classes.
    """

    name: ClassVar[str] = "unet"
    data_kind: ClassVar[str] = "tiles"

    width: float = Field(default=1.0, ge=1 / BASE)
    """Factor on the channels of every level, rounded down; 1/32 leaves one channel."""

    def build(self, input_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
        """The network; [b, C, H, W] -> [b, num_outputs, H, W].

        Raises:
            UserError: the input is no image, or its sides are no multiples of 16.
        """
        num_channels = divisible_image_shape(self.name, input_shape, 2**POOLINGS)[0]
        return UNetwork(num_channels, num_outputs, int(BASE * self.width))


class UNetwork(nn.Module):
    """The levels on the way down, and those on the way up."""

    def __init__(self, num_channels: int, num_outputs: int, base: int) -> None:
        super().__init__()
        widths = [base * 2**level for level in range(POOLINGS + 1)]
        self.down = nn.ModuleList([_level(*ends) for ends in pairwise((num_channels, *widths))])
        upwards = list(pairwise(reversed(widths)))
        self.enlarge = nn.ModuleList(
            [nn.ConvTranspose2d(below, here, kernel_size=2, stride=2) for below, here in upwards]
        )
        self.up = nn.ModuleList([_level(2 * here, here) for _, here in upwards])
        self.head = nn.Conv2d(base, num_outputs, kernel_size=1)

    def forward(self, images: Tensor) -> Tensor:
        """Scores of every class at every pixel."""
        skips = []
        hidden = images
        for level in self.down[:-1]:
            skips.append(level(hidden))
            hidden = F.max_pool2d(skips[-1], 2)
        hidden = self.down[-1](hidden)
        for enlarge, level, skip in zip(self.enlarge, self.up, reversed(skips), strict=True):
            hidden = level(torch.cat([enlarge(hidden), skip], dim=1))
        scores: Tensor = self.head(hidden)
        return scores


def _level(fan_in: int, fan_out: int) -> nn.Sequential:
    return nn.Sequential(*_convolution(fan_in, fan_out), *_convolution(fan_out, fan_out))


def _convolution(fan_in: int, fan_out: int) -> list[nn.Module]:
    # no bias: BatchNorm would take it away
    convolution = nn.Conv2d(fan_in, fan_out, kernel_size=3, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(fan_out), nn.ReLU()]
