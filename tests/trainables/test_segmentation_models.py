"""U-Net and SegNet: sizes, structure, unpooling, and full size once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from trainables.config import RunConfig
from trainables.data.tiles_files import COLOURS, TileFolder
from trainables.errors import UserError
from trainables.job import Progress
from trainables.models.contract import ModelConfig
from trainables.models.segnet import SegNet, unpool
from trainables.models.unet import UNet
from trainables.randomness import seeded
from trainables.store import Store

COUNTS = {
    "unet": (UNet(), 7_763_206, 64),  # INVENTORY C
    "segnet": (SegNet(), 29_446_470, 102),  # INVENTORY C
}

SMALL = {"unet": UNet(width=1 / 16), "segnet": SegNet(width=1 / 16)}


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_are_as_many_as_p1s_networks_have(name: str) -> None:
    model, num_parameters, num_tensors = COUNTS[name]
    with torch.device("meta"):
        parameters = list(model.build((3, 256, 256), 6).parameters())
    assert sum(parameter.numel() for parameter in parameters) == num_parameters
    assert len(parameters) == num_tensors


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 64, 32)])
def test_every_pixel_gets_a_score_of_every_class(name: str, shape: tuple[int, int, int]) -> None:
    network = SMALL[name].build(shape, 5)
    assert network(torch.zeros(2, *shape)).shape == (2, 5, *shape[1:])


@pytest.mark.parametrize("name", SMALL)
def test_building_is_a_function_of_the_default_generators_seed(name: str) -> None:
    def weights(seed: int) -> torch.Tensor:
        with seeded(seed):
            network = SMALL[name].build((3, 32, 32), 6)
        return nn.utils.parameters_to_vector(network.parameters())

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def kinds(network: nn.Module) -> list[str]:
    return [type(module).__name__ for module in network.modules()]


def test_segnet_is_vgg_16s_convolutions_and_their_mirror_image() -> None:
    network = _on_meta(SegNet())
    widths = [m.out_channels for m in network.modules() if isinstance(m, nn.Conv2d)]
    encoder = [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    assert widths[:13] == encoder
    assert widths[13:] == [512, 512, 512, 512, 512, 256, 256, 256, 128, 128, 64, 64, 6]
    order = [k for k in kinds(network) if k in ("Conv2d", "ReLU", "BatchNorm2d")]
    assert order == ["Conv2d", "ReLU", "BatchNorm2d"] * 25 + ["Conv2d"]


def test_unet_doubles_its_channels_on_the_way_down_and_halves_them_on_the_way_up() -> None:
    network = _on_meta(UNet())
    widths = [m.out_channels for m in network.modules() if type(m) is nn.Conv2d]
    assert widths[:10] == [32, 32, 64, 64, 128, 128, 256, 256, 512, 512]
    assert widths[10:] == [256, 256, 128, 128, 64, 64, 32, 32, 6]
    upwards = [m for m in network.modules() if isinstance(m, nn.ConvTranspose2d)]
    assert [(m.in_channels, m.out_channels) for m in upwards] == [
        *((512, 256), (256, 128), (128, 64), (64, 32))
    ]


def _on_meta(model: ModelConfig) -> nn.Module:
    with torch.device("meta"):
        return model.build((3, 256, 256), 6)


def test_unets_levels_see_what_the_way_down_had_beside_what_comes_up() -> None:
    network = SMALL["unet"].build((3, 16, 16), 6).eval()
    images = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        for enlarge in network.enlarge:  # type: ignore[union-attr]
            enlarge.weight.zero_()
        scores = network(images)
        # with nothing coming up, the first level alone decides: another deep level changes nothing
        for level in network.down[1:]:  # type: ignore[index]
            for parameter in level.parameters():
                parameter.zero_()
        assert torch.equal(network(images), scores)
        for parameter in network.down[0].parameters():  # type: ignore[index]
            parameter.zero_()
        assert not torch.equal(network(images), scores)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_unpooling_equals_torchs_bit_for_bit(memory_format: torch.memory_format) -> None:
    torch.manual_seed(0)
    images = torch.randn(2, 3, 8, 12).contiguous(memory_format=memory_format)
    ours, theirs = (images.clone().requires_grad_() for _ in range(2))
    weights = torch.randn(2, 3, 8, 12)
    results = []
    for source, back in ((ours, unpool), (theirs, None)):
        pooled, places = F.max_pool2d(source, 2, return_indices=True)
        if back is None:
            result = F.max_unpool2d(pooled, places, 2)
        else:
            result = back(pooled, places, source.shape)
        (result * weights).sum().backward()  # type: ignore[no-untyped-call]
        results.append(result)
    assert torch.equal(*results)
    assert ours.grad is not None
    assert theirs.grad is not None
    assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize(
    ("model", "size", "message"),
    [
        (UNet(), 40, "model unet needs sides that are multiples of 16, got 40x40; .*patch_size=32"),
        (SegNet(), 48, "model segnet needs sides that are multiples of 32, .*patch_size=32"),
        (SegNet(), 16, "multiples of 32, got 16x16; set data.patch_size=32"),
    ],
)
def test_a_patch_that_cannot_be_halved_often_enough_is_refused(
    model: ModelConfig, size: int, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        model.build((3, size, size), 6)


def _write_large_tiles(folder: TileFolder) -> None:
    draw = np.random.default_rng(0)
    folder.image(1).parent.mkdir(parents=True)
    folder.ground_truth(1).parent.mkdir()
    for number in (1, 28):
        pixels = draw.integers(256, size=(300, 260, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder.image(number))
        mask = COLOURS[draw.integers(6, size=(300, 260))]
        Image.fromarray(mask).save(folder.ground_truth(number))


@pytest.mark.slow
@pytest.mark.parametrize("name", COUNTS)
def test_full_size_on_patches_of_256_replays_bit_for_bit(
    name: str, tmp_path: Path, store: Store, finish: Callable[..., list[Progress]]
) -> None:
    _write_large_tiles(TileFolder(tmp_path / "vaihingen"))
    data = {"name": "vaihingen", "train_tiles": [1], "validation_tiles": [28], "train_examples": 2}
    options = {"task": "segmentation", "data": data, "model": name, "optimizer": "momentum"}
    finish(store, a=RunConfig.parse({**options, "batch_size": 1, "budget": {"epochs": 1}}))
    sealed = store.run("a").manifest()
    assert sealed is not None
    assert (sealed["status"], sealed["replay_exact"]) == ("done", True)
