"""Small convolutional network of plain blocks."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

from pydantic import Field
from torch import nn

from trainables.errors import UserError
from trainables.models.contract import ModelConfig
from trainables.models.mlp import MLP
from trainables.models.shapes import Width, image_shape


class CNN(ModelConfig):
    """[Conv3x3 - ReLU - MaxPool2] for every channel count, then hidden Linear layers and a head.

    P2's "three convolution blocks and one fully-connected block"; channel counts and widths are
    ours, the paper names none. torch's default initialisation.
    """

    name: ClassVar[str] = "cnn"

    channels: tuple[Width, ...] = Field(default=(32, 64, 128), min_length=1)
    """Output channels of the blocks; each block halves height and width, rounding down."""
    hidden: tuple[Width, ...] = (128,)
    """Widths of the hidden layers after the blocks; () puts the head on the last block."""
    batch_norm: bool = False
    """BatchNorm between each convolution and its ReLU."""

    def build(self, input_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
        """The network for images [C, H, W].

        Raises:
            UserError: the input is no image, or a block would leave no pixel.
        """
        num_channels, height, width = image_shape(self.name, input_shape)
        shrink = 2 ** len(self.channels)
        if min(height, width) < shrink:
            raise UserError(
                f"model cnn: {len(self.channels)} blocks need images of at least "
                f"{shrink}x{shrink}, got {height}x{width}; "
                "give model.channels fewer entries or use model mlp"
            )
        blocks = [self._block(*ends) for ends in pairwise((num_channels, *self.channels))]
        features = (self.channels[-1], height // shrink, width // shrink)
        return nn.Sequential(*blocks, MLP(hidden=self.hidden).build(features, num_outputs))

    def _block(self, fan_in: int, fan_out: int) -> nn.Sequential:
        convolution = nn.Conv2d(fan_in, fan_out, kernel_size=3, padding=1)
        norm = [nn.BatchNorm2d(fan_out)] if self.batch_norm else []
        return nn.Sequential(convolution, *norm, nn.ReLU(), nn.MaxPool2d(2))
