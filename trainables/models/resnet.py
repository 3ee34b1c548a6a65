"""ResNet-18/34/50/152 of any width, from torchvision's ResNet class."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from trainables.models.contract import ModelConfig
from trainables.models.shapes import image_shape

PLANES = (64, 128, 256, 512)
"""Channels of the four stages at width 1 (He et al. 2016, table 1)."""

GROUPS = 32
"""Groups of GroupNorm (Wu & He 2018); fewer where they would not have two channels or more each."""


class ResNet(ModelConfig):
    """torchvision's ResNet with all planes scaled by `width`, and one of two stems.

    The scaled networks have the shapes and the order of parameters of P1's ResNet18-2, ResNet50-2
    and ResNet152-0.5; wide_resnet50_2 doubles the inner planes only and is another network.
    Initialisation goes with the stem, as in P1's code: `cifar` keeps torch's defaults (uniform in
    +-1/sqrt(fan_in)), `imagenet` is torchvision's (convolutions normal, variance 2/fan_out).
    No residual branch starts at zero.

    `norm` and `skips` are the plausible causes of P1's appendix D. GroupNorm has as many parameters
    as BatchNorm. Without skips a block's output is that of its convolutions alone; the 1x1
    projections of the blocks that change the shape hold parameters and stay, so that both networks
    have the same ones.
    """

    channels_last: ClassVar[bool] = True
    block: ClassVar[Literal["BasicBlock", "Bottleneck"]]
    depths: ClassVar[tuple[int, int, int, int]]

    width: float = Field(default=1.0, ge=1 / 64)
    """Factor on the channels of every stage, rounded down; 1/64 leaves one channel."""
    stem: Literal["cifar", "imagenet"] = "cifar"
    """cifar: 3x3 convolution of stride 1; imagenet: 7x7 of stride 2, then 3x3 max pooling."""
    norm: Literal["batch", "group", "none"] = "batch"
    """Normalisation after each convolution: BatchNorm, GroupNorm of 32 groups, or none at all."""
    skips: bool = True
    """Add a block's input to its output where both have the same shape."""

    def build(self, input_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
        """The network for images [C, H, W]; at width 1 and stem imagenet, torchvision's own.

        Raises:
            UserError: the input is no image.
        """
        # Imported here: it takes 3 s, which a command that builds no ResNet need not wait for.
        from torchvision.models import resnet

        num_channels = image_shape(self.name, input_shape)[0]
        block = getattr(resnet, self.block)
        with torch.device("meta"):  # what is replaced below costs neither time nor draws
            net = resnet.ResNet(block, list(self.depths), num_outputs, norm_layer=self._norm)
        self._set_stem(net, num_channels)
        for stage, (planes, depth) in enumerate(zip(PLANES, self.depths, strict=True), start=1):
            stride = 1 if stage == 1 else 2
            layer = net._make_layer(block, self._scaled(planes), depth, stride)
            setattr(net, f"layer{stage}", layer)
        net.fc = nn.Linear(self._scaled(PLANES[-1]) * block.expansion, num_outputs)
        if not self.skips:
            _remove_skips(net, block)
        if self.stem == "imagenet":
            _initialise_as_torchvision(net)
        return net  # type: ignore[no-any-return]

    def _scaled(self, planes: int) -> int:
        return int(planes * self.width)

    def _set_stem(self, net: Any, num_channels: int) -> None:
        net.inplanes = self._scaled(PLANES[0])
        if self.stem == "imagenet":
            net.conv1 = nn.Conv2d(num_channels, net.inplanes, 7, stride=2, padding=3, bias=False)
        else:
            net.conv1 = nn.Conv2d(num_channels, net.inplanes, 3, stride=1, padding=1, bias=False)
            net.maxpool = nn.Identity()
        net.bn1 = self._norm(net.inplanes)

    def _norm(self, channels: int) -> nn.Module:
        if self.norm == "batch":
            return nn.BatchNorm2d(channels)
        if self.norm == "group":
            groups = max(1, math.gcd(2 * GROUPS, channels) // 2)
            return nn.GroupNorm(groups, channels)
        return nn.Identity()


class NoSkip(nn.Module):
    """In the place of an identity skip: adds nothing."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Zero, of shape []."""
        return inputs.new_zeros(())


def _remove_skips(net: nn.Module, block: type[nn.Module]) -> None:
    # torchvision's blocks add downsample(x), or x itself where there is none.
    for module in net.modules():
        if isinstance(module, block) and module.downsample is None:
            module.downsample = NoSkip()


def _initialise_as_torchvision(net: nn.Module) -> None:
    # torchvision.models.resnet.ResNet.__init__; BatchNorm is 1 and 0 by default already.
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class ResNet18(ResNet):
    """ResNet-18; P1's CIFAR-10 default, 11,173,962 parameters with stem cifar and 10 classes."""

    name: ClassVar[str] = "resnet18"
    block: ClassVar[Literal["BasicBlock", "Bottleneck"]] = "BasicBlock"
    depths: ClassVar[tuple[int, int, int, int]] = (2, 2, 2, 2)


class ResNet34(ResNet):
    """ResNet-34; P2's "standard ResNet-34", which names no stem."""

    name: ClassVar[str] = "resnet34"
    block: ClassVar[Literal["BasicBlock", "Bottleneck"]] = "BasicBlock"
    depths: ClassVar[tuple[int, int, int, int]] = (3, 4, 6, 3)


class ResNet50(ResNet):
    """ResNet-50, of bottleneck blocks."""

    name: ClassVar[str] = "resnet50"
    block: ClassVar[Literal["BasicBlock", "Bottleneck"]] = "Bottleneck"
    depths: ClassVar[tuple[int, int, int, int]] = (3, 4, 6, 3)


class ResNet152(ResNet):
    """ResNet-152, of bottleneck blocks."""

    name: ClassVar[str] = "resnet152"
    block: ClassVar[Literal["BasicBlock", "Bottleneck"]] = "Bottleneck"
    depths: ClassVar[tuple[int, int, int, int]] = (3, 8, 36, 3)
