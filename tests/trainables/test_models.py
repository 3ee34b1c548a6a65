"""Models: parameter counts of the papers' networks, initialisation, and the images they take."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from trainables.errors import UserError
from trainables.models.cnn import CNN
from trainables.models.contract import ModelConfig
from trainables.models.mlp import MLP
from trainables.models.registry import MODELS
from trainables.models.resnet import ResNet18, ResNet34, ResNet50, ResNet152
from trainables.randomness import seeded

CIFAR, MNIST, DIGITS, IMAGENET = (3, 32, 32), (1, 28, 28), (1, 8, 8), (3, 224, 224)

COUNTS = {
    "p1_medium_mlp": (MLP(hidden=(4096,) * 3), CIFAR, 10, 46_190_602, 8),
    "tiny_mlp": (MLP(hidden=(64, 64, 64)), DIGITS, 10, 13_130, 8),
    "no_hidden_layer": (MLP(hidden=()), DIGITS, 10, 650, 2),
    "cnn_cifar": (CNN(), CIFAR, 10, 356_810, 10),
    "cnn_batch_norm": (CNN(batch_norm=True), CIFAR, 10, 357_258, 16),
    "cnn_linear_head": (CNN(hidden=()), CIFAR, 10, 113_738, 8),
    "cnn_mnist": (CNN(), MNIST, 10, 241_546, 10),
    "cnn_tiny": (CNN(channels=(8, 16, 32), hidden=()), (3, 16, 16), 10, 7_322, 8),
    "resnet18_1_cifar": (ResNet18(), CIFAR, 10, 11_173_962, 62),
    "resnet18_2_cifar": (ResNet18(width=2), CIFAR, 10, 44_662_922, 62),
    "resnet18_3_cifar": (ResNet18(width=3), CIFAR, 10, 100_466_890, 62),
    "resnet18_eighth_cifar": (ResNet18(width=1 / 8), CIFAR, 10, 176_402, 62),
    "resnet18_10_imagenet_stem": (ResNet18(stem="imagenet"), IMAGENET, 10, 11_181_642, 62),
    "resnet18_1": (ResNet18(stem="imagenet"), IMAGENET, 1000, 11_689_512, 62),
    "resnet18_2": (ResNet18(stem="imagenet", width=2), IMAGENET, 1000, 45_693_032, 62),
    "resnet18_3": (ResNet18(stem="imagenet", width=3), IMAGENET, 1000, 102_011_560, 62),
    "resnet34_cifar": (ResNet34(), CIFAR, 10, 21_282_122, 110),
    "resnet34_imagenet_stem": (ResNet34(stem="imagenet"), CIFAR, 10, 21_289_802, 110),
    "resnet50_1": (ResNet50(stem="imagenet"), IMAGENET, 1000, 25_557_032, 161),
    "resnet50_2": (ResNet50(stem="imagenet", width=2), IMAGENET, 1000, 98_004_072, 161),
    "resnet152_half": (ResNet152(stem="imagenet", width=0.5), IMAGENET, 1000, 15_601_160, 467),
    "resnet152_1": (ResNet152(stem="imagenet"), IMAGENET, 1000, 60_192_808, 467),
}


@pytest.mark.parametrize("case", COUNTS)
def test_parameters_are_as_many_as_the_papers_networks_have(case: str) -> None:
    model, shape, num_outputs, num_parameters, num_tensors = COUNTS[case]
    with torch.device("meta"):
        parameters = list(model.build(shape, num_outputs).parameters())
    assert sum(parameter.numel() for parameter in parameters) == num_parameters
    assert len(parameters) == num_tensors


def test_imagenet_stem_at_width_1_is_torchvisions_network_bit_for_bit() -> None:
    from torchvision.models import resnet18

    with seeded(3):
        ours = ResNet18(stem="imagenet").build(IMAGENET, 10).state_dict()
    with seeded(3):
        theirs = resnet18(num_classes=10).state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_cifar_stem_has_the_shapes_and_order_of_torchvisions_modules() -> None:
    from torchvision.models import resnet18

    with torch.device("meta"):
        ours, theirs = ResNet18().build(CIFAR, 10), resnet18(num_classes=10)
        theirs.conv1 = nn.Conv2d(3, 64, 3, stride=1, padding=1, bias=False)
    assert [(name, p.shape) for name, p in ours.named_parameters()] == [
        (name, p.shape) for name, p in theirs.named_parameters()
    ]


def convolutions(model: ModelConfig, shape: tuple[int, ...]) -> list[nn.Conv2d]:
    with seeded(5):
        net = model.build(shape, 10)
    return [module for module in net.modules() if isinstance(module, nn.Conv2d)]


@pytest.mark.parametrize("width", [0.5, 1.0])
def test_cifar_stem_keeps_torchs_uniform_initialisation(width: float) -> None:
    for convolution in convolutions(ResNet18(width=width), CIFAR):
        weight = convolution.weight.detach().double()
        bound = 1 / math.sqrt(weight[0].numel())  # kaiming_uniform with a = sqrt(5)
        assert weight.abs().max() <= bound * (1 + 1e-6)
        assert weight.std() == pytest.approx(bound / math.sqrt(3), rel=0.05)


@pytest.mark.parametrize("width", [0.5, 1.0])
def test_imagenet_stem_draws_normal_weights_of_variance_2_over_fan_out(width: float) -> None:
    for convolution in convolutions(ResNet18(width=width, stem="imagenet"), IMAGENET):
        weight = convolution.weight.detach().double()
        std = math.sqrt(2 / weight[:, 0].numel())
        assert weight.std() == pytest.approx(std, rel=0.05)
        # The uniform distribution of that variance ends at 1.73 standard deviations.
        assert weight.abs().max() > 2.5 * std


@pytest.mark.parametrize("name", sorted(MODELS))
@pytest.mark.parametrize("shape", [CIFAR, MNIST, DIGITS], ids=["cifar", "mnist", "digits"])
def test_every_model_takes_colour_grey_and_tiny_images(name: str, shape: tuple[int, ...]) -> None:
    options = {"width": 1 / 16} if name.startswith("resnet") else {}
    with seeded(0):
        net = MODELS[name](**options).build(shape, 7)
    assert net(torch.zeros(2, *shape)).shape == (2, 7)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_building_is_a_function_of_the_default_generators_seed(name: str) -> None:
    options = {"width": 1 / 16} if name.startswith("resnet") else {}

    def weights(seed: int) -> torch.Tensor:
        with seeded(seed):
            net = MODELS[name](**options).build(CIFAR, 10)
        return nn.utils.parameters_to_vector(net.parameters())

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_resnet_blocks_stay_out_of_the_generator_while_torchvisions_are_replaced() -> None:
    with seeded(4):
        first = ResNet18(width=1 / 16).build(CIFAR, 10).state_dict()["conv1.weight"]
    with seeded(4):
        alone = nn.Conv2d(3, 4, 3, bias=False).weight
    assert torch.equal(first, alone)


def test_imagenet_stem_shrinks_the_image_four_times_more() -> None:
    images = torch.zeros(1, 3, 64, 64)
    sizes = {}
    for stem in ("cifar", "imagenet"):
        net = ResNet18(width=1 / 16, stem=stem).build((3, 64, 64), 10)
        sizes[stem] = net.maxpool(net.conv1(images)).shape[-1]
    assert sizes == {"cifar": 64, "imagenet": 16}


def test_dropout_follows_every_relu_and_is_absent_at_zero() -> None:
    def kinds(model: MLP) -> list[type[nn.Module]]:
        return [type(module) for module in model.build(DIGITS, 10).children()]

    block = [nn.Linear, nn.ReLU]
    assert kinds(MLP()) == [nn.Flatten, *block, *block, nn.Linear]
    assert kinds(MLP(hidden=(5,), dropout=0.2)) == [nn.Flatten, *block, nn.Dropout, nn.Linear]


def test_batch_norm_stands_between_convolution_and_relu() -> None:
    block = CNN(batch_norm=True).build(CIFAR, 10)[0]
    assert [type(module) for module in block] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d]


def test_an_image_too_small_for_the_blocks_is_named_with_the_least_size() -> None:
    with pytest.raises(UserError, match=r"4 blocks need images of at least 16x16, got 8x8; give"):
        CNN(channels=(8, 8, 8, 8)).build(DIGITS, 10)


@pytest.mark.parametrize("model", [CNN(), ResNet18()], ids=["cnn", "resnet18"])
def test_an_input_that_is_no_image_is_refused(model: ModelConfig) -> None:
    with pytest.raises(
        UserError, match=rf"model {model.name} needs images .*\(64,\); use model mlp"
    ):
        model.build((64,), 10)
