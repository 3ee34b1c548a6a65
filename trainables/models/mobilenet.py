"""MobileNetV2 from torchvision's class, with two stems."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import nn

from trainables.models.contract import ModelConfig
from trainables.models.shapes import image_shape

STAGES = (
    *((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)),
    *((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
)
"""Expansion, channels, blocks and stride of each stage (Sandler et al. 2018, table 2)."""


class MobileNetV2(ModelConfig):
    """torchvision's MobileNetV2; 2,236,682 parameters with 10 classes, whatever the stem.

    The stem `cifar` has stride 1 in the first convolution and in the second stage, so that 4x4
    pixels of a 32x32 image reach the head and not one. Initialisation is torchvision's. The head
    has dropout, whose masks are seeded by the step.
    """

    name: ClassVar[str] = "mobilenet_v2"
    channels_last: ClassVar[bool] = True

    stem: Literal["cifar", "imagenet"] = "cifar"
    """imagenet is torchvision's network, which shrinks the image four times more."""
    width: float = Field(default=1.0, gt=0)
    """Factor on the channels of every stage, rounded to multiples of 8; the last layer's 1280
    channels are never fewer."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Probability of dropping one of the head's inputs."""

    def build(self, input_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
        """The network for images [C, H, W].

        Raises:
            UserError: the input is no image.
        """
        # Imported here: it takes 3 s, which a command that builds no MobileNet need not wait for.
        from torchvision.models import mobilenet

        num_channels = image_shape(self.name, input_shape)[0]
        net = mobilenet.MobileNetV2(
            num_outputs,
            width_mult=self.width,
            inverted_residual_setting=self._stages(),
            dropout=self.dropout,
        )
        self._set_stem(net, num_channels)
        return net  # type: ignore[no-any-return]

    def _stages(self) -> list[list[int]]:
        stages = [list(stage) for stage in STAGES]
        if self.stem == "cifar":
            stages[1][-1] = 1
        return stages

    def _set_stem(self, net: Any, num_channels: int) -> None:
        first = net.features[0][0]
        stride = 1 if self.stem == "cifar" else 2
        if num_channels == first.in_channels:
            first.stride = (stride, stride)
            return
        convolution = nn.Conv2d(
            num_channels, first.out_channels, 3, stride=stride, padding=1, bias=False
        )
        nn.init.kaiming_normal_(convolution.weight, mode="fan_out")  # as all of torchvision's
        net.features[0][0] = convolution
