"""VGG-11/16/19 with and without BatchNorm, with two heads."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from trainables.errors import UserError
from trainables.models.contract import ModelConfig
from trainables.models.shapes import image_shape

STAGES = (64, 128, 256, 512, 512)
"""Channels of the five stages at width 1 (Simonyan & Zisserman 2015, table 1)."""

SHRINK = 32
"""Each of the five stages ends in a max pooling that halves height and width."""

FULL_SIDE, FULL_UNITS = 7, 4096
"""Side of the feature map that the full head reads, and its hidden units (ibid.)."""


class VGG(ModelConfig):
    """Stages of 3x3 convolutions with ReLU, a max pooling after each, then a linear head.

    `linear` is the head for CIFAR-10: one Linear on the last 512 channels, averaged over what is
    left of the image (one pixel of 32x32). `full` is torchvision's of three Linear layers with
    dropout, on a 7x7 map; torchvision brings any map to 7x7 by an adaptive pooling whose backward
    pass has no deterministic CUDA form, so here 1x1 is repeated, 7x7 taken as it is, and any other
    refused: the same function. Initialisation is torchvision's: convolutions normal with variance
    2/fan_out, biases 0; Linear of the full head normal with deviation 0.01, that of the linear head
    torch's default. P1 and P2 say neither which head nor whether there is BatchNorm.
    """

    depths: ClassVar[tuple[int, int, int, int, int]]

    batch_norm: bool = False
    """BatchNorm between each convolution and its ReLU."""
    head: Literal["linear", "full"] = "linear"
    """linear: one Linear without dropout; full: torchvision's, 119.6 million weights at width 1."""
    dropout: float = Field(default=0.5, ge=0, lt=1)
    """Probability of dropping a unit of the full head's two hidden layers."""
    width: float = Field(default=1.0, ge=1 / 64)
    """Factor on all channels and on the full head's units, rounded down; 1/64 leaves 1 channel."""

    def build(self, input_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
        """The network for images [C, H, W].

        Raises:
            UserError: the input is no image or smaller than 32x32, or the full head cannot read it.
        """
        num_channels, height, width = image_shape(self.name, input_shape)
        if min(height, width) < SHRINK:
            raise UserError(
                f"model {self.name} needs images of at least {SHRINK}x{SHRINK}, got "
                f"{height}x{width}; set data.padded_size={SHRINK} or use model cnn"
            )
        side = self._full_side(height, width) if self.head == "full" else 1
        net = nn.Sequential(self._features(num_channels), *self._head(side, num_outputs))
        _initialise_as_torchvision(net, full=self.head == "full")
        return net

    def _full_side(self, height: int, width: int) -> int:
        side = height // SHRINK
        if height // SHRINK != width // SHRINK or side not in (1, FULL_SIDE):
            raise UserError(
                f"model {self.name}: head full reads images of 32x32 or 224x224, got "
                f"{height}x{width}; set model.head=linear"
            )
        return side

    def _features(self, num_channels: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        ends = pairwise([num_channels, *(self._scaled(n) for n in STAGES)])
        for (fan_in, fan_out), depth in zip(ends, self.depths, strict=True):
            for i in range(depth):
                layers.append(nn.Conv2d(fan_out if i else fan_in, fan_out, 3, padding=1))
                layers += [nn.BatchNorm2d(fan_out)] if self.batch_norm else []
                layers.append(nn.ReLU(inplace=True))
            layers.append(nn.MaxPool2d(2))
        return nn.Sequential(*layers)

    def _head(self, side: int, num_outputs: int) -> list[nn.Module]:
        channels, units = self._scaled(STAGES[-1]), self._scaled(FULL_UNITS)
        if self.head == "linear":
            return [SpatialMean(), nn.Linear(channels, num_outputs)]
        repeat = [Repeat(FULL_SIDE)] if side == 1 else []
        widths = [channels * FULL_SIDE**2, units, units]
        hidden: list[nn.Module] = []
        for fan_in, fan_out in pairwise(widths):
            hidden += [nn.Linear(fan_in, fan_out), nn.ReLU(inplace=True), nn.Dropout(self.dropout)]
        return [*repeat, nn.Flatten(), *hidden, nn.Linear(units, num_outputs)]

    def _scaled(self, channels: int) -> int:
        return int(channels * self.width)


class SpatialMean(nn.Module):
    """Mean over height and width: [N, C, H, W] -> [N, C]."""

    def forward(self, features: Tensor) -> Tensor:
        """The mean of each channel."""
        return features.mean((2, 3))


class Repeat(nn.Module):
    """One pixel repeated to a square: [N, C, 1, 1] -> [N, C, side, side]."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, features: Tensor) -> Tensor:
        """What an adaptive average pooling to that side does to one pixel."""
        return features.expand(-1, -1, self.side, self.side)


def _initialise_as_torchvision(net: nn.Module, *, full: bool) -> None:
    # torchvision.models.vgg.VGG.__init__; BatchNorm is 1 and 0 by default already.
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        elif full and isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, 0.01)
            nn.init.zeros_(module.bias)


class VGG11(VGG):
    """VGG-11 (configuration A); 9,225,610 parameters with the linear head and 10 classes."""

    name: ClassVar[str] = "vgg11"
    depths: ClassVar[tuple[int, int, int, int, int]] = (1, 1, 2, 2, 2)


class VGG16(VGG):
    """VGG-16 (configuration D), P2's; 14,719,818 parameters with the linear head, 10 classes."""

    name: ClassVar[str] = "vgg16"
    depths: ClassVar[tuple[int, int, int, int, int]] = (2, 2, 3, 3, 3)


class VGG19(VGG):
    """VGG-19 (configuration E); 20,029,514 parameters with the linear head and 10 classes."""

    name: ClassVar[str] = "vgg19"
    depths: ClassVar[tuple[int, int, int, int, int]] = (2, 2, 4, 4, 4)
