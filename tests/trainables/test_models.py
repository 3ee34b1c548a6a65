"""Models: parameter counts of the papers' networks, initialisation, and the images they take."""

from __future__ import annotations

import math
import re

import pytest
import torch
from torch import nn

from trainables.errors import UserError
from trainables.models.cnn import CNN
from trainables.models.contract import ModelConfig
from trainables.models.mlp import MLP
from trainables.models.mobilenet import MobileNetV2
from trainables.models.registry import MODELS
from trainables.models.resnet import ResNet18, ResNet34, ResNet50, ResNet152
from trainables.models.vgg import VGG11, VGG16, VGG19
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
    "resnet18_no_skips": (ResNet18(skips=False), CIFAR, 10, 11_173_962, 62),
    "resnet18_group_norm": (ResNet18(norm="group"), CIFAR, 10, 11_173_962, 62),
    "resnet18_no_norm": (ResNet18(norm="none"), CIFAR, 10, 11_164_362, 22),
    "vgg11": (VGG11(), CIFAR, 10, 9_225_610, 18),
    "vgg16": (VGG16(), CIFAR, 10, 14_719_818, 28),
    "vgg19": (VGG19(), CIFAR, 10, 20_029_514, 34),
    "vgg11_bn": (VGG11(batch_norm=True), CIFAR, 10, 9_231_114, 34),
    "vgg16_bn": (VGG16(batch_norm=True), CIFAR, 10, 14_728_266, 54),
    "vgg19_bn": (VGG19(batch_norm=True), CIFAR, 10, 20_040_522, 66),
    "vgg11_full": (VGG11(head="full"), CIFAR, 10, 128_807_306, 22),
    "vgg16_full": (VGG16(head="full"), CIFAR, 10, 134_301_514, 32),
    "vgg19_full": (VGG19(head="full"), IMAGENET, 10, 139_611_210, 38),
    "mobilenet_v2_cifar": (MobileNetV2(), CIFAR, 10, 2_236_682, 158),
    "mobilenet_v2_grey": (MobileNetV2(), MNIST, 10, 2_236_682 - 2 * 9 * 32, 158),
    "mobilenet_v2": (MobileNetV2(stem="imagenet"), IMAGENET, 1000, 3_504_872, 158),
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


IMAGE_MODELS = sorted(name for name, model in MODELS.items() if model.data_kind == "images")


def narrow(name: str) -> ModelConfig:
    """The model, as narrow as its options allow."""
    return MODELS[name](**({"width": 1 / 16} if "width" in MODELS[name].model_fields else {}))


def taken(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape, or that of the least images which the model's error says to pad them to."""
    try:
        with torch.device("meta"):
            narrow(name).build(shape, 7)
    except UserError as error:
        least = re.search(r"images of at least (\d+)x\1, .*set data\.padded_size=\1", str(error))
        if least is None:
            raise
        return shape[0], int(least[1]), int(least[1])
    return shape


@pytest.mark.parametrize("name", IMAGE_MODELS)
@pytest.mark.parametrize("shape", [CIFAR, MNIST, DIGITS], ids=["cifar", "mnist", "digits"])
def test_every_model_takes_colour_and_grey_and_names_images_too_small(
    name: str, shape: tuple[int, ...]
) -> None:
    shape = taken(name, shape)
    with seeded(0):
        net = narrow(name).build(shape, 7)
    assert net(torch.zeros(2, *shape)).shape == (2, 7)
    assert taken(name, CIFAR) == CIFAR


@pytest.mark.parametrize("name", IMAGE_MODELS)
def test_building_is_a_function_of_the_default_generators_seed(name: str) -> None:
    def weights(seed: int) -> torch.Tensor:
        with seeded(seed):
            net = narrow(name).build(CIFAR, 10)
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


# --- VGG ---------------------------------------------------------------------------------------


def test_vgg_features_are_torchvisions_layer_by_layer() -> None:
    from torchvision.models import vgg11, vgg16_bn

    for ours, theirs in ((VGG11(), vgg11), (VGG16(batch_norm=True), vgg16_bn)):
        with torch.device("meta"):
            features = ours.build(CIFAR, 10)[0]
            oracle = theirs(num_classes=10).features
        assert [str(layer) for layer in features] == [str(layer) for layer in oracle]


def test_the_full_head_computes_what_torchvisions_network_computes() -> None:
    from torchvision.models.vgg import VGG as TorchvisionVGG  # noqa: N811

    images = torch.randn(2, 3, 32, 32)
    with seeded(1):
        net = VGG11(head="full", width=1 / 16, dropout=0).build(CIFAR, 10)
    theirs = TorchvisionVGG(net[0], num_classes=10, init_weights=False)
    theirs.classifier = net[3:]
    assert torch.allclose(theirs(images), net(images), atol=1e-6)
    torch.use_deterministic_algorithms(True)
    try:
        net(images).sum().backward()
    finally:
        torch.use_deterministic_algorithms(False)


def test_vgg_draws_normal_convolutions_of_variance_2_over_fan_out_and_zero_biases() -> None:
    for convolution in convolutions(VGG16(width=0.5), CIFAR):
        weight = convolution.weight.detach().double()
        assert weight.std() == pytest.approx(math.sqrt(2 / weight[:, 0].numel()), rel=0.1)
        assert convolution.bias is not None
        assert not convolution.bias.any()


def test_the_full_head_refuses_a_map_that_it_cannot_read() -> None:
    with pytest.raises(UserError, match=r"head full reads images of 32x32 or 224x224, got 64x64"):
        VGG11(head="full").build((3, 64, 64), 10)


# --- MobileNetV2 -------------------------------------------------------------------------------


def test_mobilenet_with_imagenet_stem_is_torchvisions_network_bit_for_bit() -> None:
    from torchvision.models import mobilenet_v2

    with seeded(3):
        ours = MobileNetV2(stem="imagenet").build(IMAGENET, 10).state_dict()
    with seeded(3):
        theirs = mobilenet_v2(num_classes=10).state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_mobilenets_cifar_stem_leaves_4x4_pixels_of_32x32() -> None:
    sizes = {}
    for stem in ("cifar", "imagenet"):
        net = MobileNetV2(width=1 / 16, stem=stem).build(CIFAR, 10).eval()
        sizes[stem] = net.features(torch.zeros(1, *CIFAR)).shape[2:]
    assert sizes == {"cifar": (4, 4), "imagenet": (1, 1)}


# --- normalisation and skips of ResNet (P1 appendix D) -----------------------------------------


def test_without_skips_a_block_returns_what_its_convolutions_return() -> None:
    with seeded(2):
        net = ResNet18(width=1 / 16, norm="none", skips=False).build(CIFAR, 10)
    block, inputs = net.layer1[0], torch.randn(2, 4, 8, 8)
    expected = torch.relu(block.conv2(torch.relu(block.conv1(inputs))))
    assert torch.equal(block(inputs), expected)


def test_skips_on_and_off_have_the_same_weights_and_all_of_them_learn() -> None:
    nets = []
    for skips in (True, False):
        with seeded(2):
            nets.append(ResNet50(width=1 / 16, skips=skips).build(CIFAR, 10))
    with_skips, without = (dict(net.named_parameters()) for net in nets)
    assert list(with_skips) == list(without)
    assert all(torch.equal(with_skips[name], without[name]) for name in without)
    images = torch.randn(4, *CIFAR)
    outputs = [net(images) for net in nets]
    assert not torch.allclose(*outputs)
    outputs[1].sum().backward()
    assert all(p.grad is not None for p in without.values())


@pytest.mark.parametrize(
    ("width", "norms"),
    [
        (1.0, {(32, 64), (32, 128), (32, 256), (32, 512)}),
        (1 / 16, {(2, 4), (4, 8), (8, 16), (16, 32)}),
    ],
)
def test_group_norm_has_32_groups_or_two_channels_in_each(
    width: float, norms: set[tuple[int, int]]
) -> None:
    with torch.device("meta"):
        net = ResNet18(width=width, norm="group").build(CIFAR, 10)
    found = [module for module in net.modules() if isinstance(module, nn.GroupNorm)]
    assert {(norm.num_groups, norm.num_channels) for norm in found} == norms
    assert not any(isinstance(module, nn.BatchNorm2d) for module in net.modules())
