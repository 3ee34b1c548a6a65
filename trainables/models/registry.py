"""The registry of models: one line per model."""

from __future__ import annotations

from trainables.models.cnn import CNN
from trainables.models.contract import ModelConfig
from trainables.models.mlp import MLP
from trainables.models.mobilenet import MobileNetV2
from trainables.models.resnet import ResNet18, ResNet34, ResNet50, ResNet152
from trainables.models.segnet import SegNet
from trainables.models.transformer import Transformer
from trainables.models.unet import UNet
from trainables.models.vector import Vector
from trainables.models.vgg import VGG11, VGG16, VGG19
from trainables.registry import registry_of

MODELS: dict[str, type[ModelConfig]] = registry_of(
    *(MLP, CNN, ResNet18, ResNet34, ResNet50, ResNet152),
    *(VGG11, VGG16, VGG19, MobileNetV2),
    *(UNet, SegNet, Transformer),
    *(Vector,),
)
