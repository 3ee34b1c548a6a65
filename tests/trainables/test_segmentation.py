"""Segmentation: where patches come from, how they are turned, and what evaluation counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.config import RunConfig
from trainables.data.tiles import TileData
from trainables.data.tiles_stand_in import StandInTiles
from trainables.errors import UserError
from trainables.tasks.segmentation import Patches, SegmentationTask, draw_patches, windows

SEEDS = (5, 6)


def drawn(shapes: list[tuple[int, int]], size: int, epoch: int = 0, **options: Any) -> Patches:
    config = StandInTiles(train_examples=4000, patch_size=size, **options)
    return draw_patches(shapes, config, SEEDS, epoch)


def fields(patches: Patches) -> list[list[int]]:
    return [getattr(patches, name).tolist() for name in Patches.__dataclass_fields__]


# --- patches -----------------------------------------------------------------------------------


def test_patches_lie_within_their_tiles_and_reach_the_last_row_and_column() -> None:
    shapes = [(10, 13), (8, 8), (21, 9)]
    patches = drawn(shapes, 8)
    for tile, (height, width) in enumerate(shapes):
        mine = patches.tile == tile
        assert set(patches.top[mine].tolist()) == set(range(height - 8 + 1))
        assert set(patches.left[mine].tolist()) == set(range(width - 8 + 1))


def test_every_tile_and_every_place_is_as_likely_as_any_other() -> None:
    patches = drawn([(12, 8), (100, 100)], 8)
    assert np.bincount(patches.tile) / 4000 == pytest.approx([0.5, 0.5], abs=0.04)  # 5 sigma
    tops = np.bincount(patches.top[patches.tile == 0])
    assert tops / tops.sum() == pytest.approx(np.full(5, 0.2), abs=0.045)


def test_half_of_the_patches_are_flipped_and_half_mirrored_independently() -> None:
    patches = drawn([(9, 9)], 8)
    turns = np.bincount(2 * patches.flipped + patches.mirrored) / 4000
    assert turns == pytest.approx(np.full(4, 0.25), abs=0.035)
    plain = drawn([(9, 9)], 8, flip=False, mirror=False)
    assert not plain.flipped.any()
    assert not plain.mirrored.any()
    assert fields(plain)[:3] == fields(patches)[:3]


def test_patches_are_a_pure_function_of_seeds_and_epoch() -> None:
    shapes = [(50, 60), (40, 70)]
    first = drawn(shapes, 8, epoch=3)
    assert fields(drawn(shapes, 8, epoch=3)) == fields(first)
    assert fields(drawn(shapes, 8, epoch=4))[1] != fields(first)[1]
    config = StandInTiles(train_examples=4000, patch_size=8)
    turned = draw_patches(shapes, config, (5, 7), 3)
    assert fields(turned)[:3] == fields(first)[:3]  # another augmentation seed, the same places
    assert fields(turned)[3] != fields(first)[3]


@pytest.fixture
def config() -> RunConfig:
    """The smallest U-Net on stand-in tiles, four steps per epoch."""
    return RunConfig.parse(
        {
            "task": "segmentation",
            "data": {"name": "stand_in_tiles", "train_examples": 40, "patch_size": 16},
            "model": {"name": "unet", "width": 1 / 32},
            "batch_size": 10,
        }
    )


def bound(config: RunConfig, root: Path) -> tuple[SegmentationTask, TileData]:
    task = config.task.bind(config, root, torch.device("cpu"))
    data = config.data.load(root)
    assert isinstance(task, SegmentationTask)
    assert isinstance(data, TileData)
    return task, data


@pytest.mark.parametrize("memory_format", ["contiguous", "channels_last"])
def test_a_minibatch_is_those_patches_turned_and_scaled(
    memory_format: str, config: RunConfig, tmp_path: Path
) -> None:
    config = config.model_copy(update={"memory_format": memory_format})
    task, data = bound(config, tmp_path)
    shapes = [tile.classes.shape for tile in data.train]
    seeds = config.seed_for("data_order"), config.seed_for("augmentation")
    assert isinstance(config.data, StandInTiles)
    patches = draw_patches(shapes, config.data, seeds, 1)
    images, classes = task.minibatch(4 + 2)  # epoch 1, third of four minibatches
    assert images.shape == (10, 3, 16, 16)
    for row in range(10):
        k = 20 + row
        tile = data.train[patches.tile[k]]
        top, left = patches.top[k], patches.left[k]
        pixels = tile.pixels[top : top + 16, left : left + 16]
        truth = tile.classes[top : top + 16, left : left + 16]
        if patches.flipped[k]:
            pixels, truth = np.flipud(pixels), np.flipud(truth)
        if patches.mirrored[k]:
            pixels, truth = np.fliplr(pixels), np.fliplr(truth)
        expected = torch.from_numpy(pixels.transpose(2, 0, 1).astype(np.float32)) / 255
        assert torch.equal(images[row], expected)
        assert classes[row].tolist() == truth.tolist()


def test_the_loss_is_the_mean_over_all_pixels(config: RunConfig, tmp_path: Path) -> None:
    task, _ = bound(config, tmp_path)
    model = task.build_model()
    images, classes = task.minibatch(2)
    scores = model(images).permute(0, 2, 3, 1).reshape(-1, 6).double()
    expected = F.cross_entropy(scores, classes.reshape(-1))
    assert task.loss(model, 2).item() == pytest.approx(expected.item(), rel=1e-6)


def test_held_out_minibatches_are_the_validation_tiles_windows(
    config: RunConfig, tmp_path: Path
) -> None:
    task, data = bound(config, tmp_path)
    model = task.build_model()
    places = [
        (tile, window) for tile in data.validation for window in windows(*tile.classes.shape, 16)
    ]
    assert task.num_held_out(10) == len(places) // 10
    last = len(places) // 10 - 1
    for number in (0, last):
        images, classes = [], []
        for tile, window in places[10 * number : 10 * number + 10]:
            cut = (slice(window.top, window.top + 16), slice(window.left, window.left + 16))
            images.append(tile.pixels[cut].transpose(2, 0, 1).astype(np.float32) / 255)
            classes.append(tile.classes[cut].astype(np.int64))
        scores = model(torch.from_numpy(np.stack(images))).double()
        expected = F.cross_entropy(scores, torch.from_numpy(np.stack(classes)))
        found = task.held_out_loss(model, number, 10)
        assert found.item() == pytest.approx(expected.item(), rel=1e-6)


# --- evaluation --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [4, 5, 8])
@pytest.mark.parametrize("shape", [(8, 8), (9, 8), (15, 16), (17, 11)])
def test_windows_show_every_pixel_as_new_exactly_once(shape: tuple[int, int], size: int) -> None:
    seen = np.zeros(shape, dtype=int)
    for window in windows(*shape, size):
        assert 0 <= window.top <= shape[0] - size
        assert 0 <= window.left <= shape[1] - size
        new = seen[window.top : window.top + size, window.left : window.left + size]
        new[window.seen_rows :, window.seen_columns :] += 1
    assert (seen == 1).all()


class Pixelwise(nn.Module):
    """Looks at each pixel alone, so that windows cannot matter; never predicts class 5."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 6, kernel_size=1)
        nn.init.constant_(self.layer.bias[5:], -100.0)

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images)  # type: ignore[no-any-return]


@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize("patch_size", [16, 33])
def test_evaluation_counts_every_pixel_once(
    split: str, patch_size: int, config: RunConfig, tmp_path: Path
) -> None:
    data_config = {**config.data.model_dump(), "name": "stand_in_tiles", "patch_size": patch_size}
    task, data = bound(RunConfig.parse({**config.plain(), "data": data_config}), tmp_path)
    torch.manual_seed(0)
    model = Pixelwise()
    tiles = getattr(data, split)
    pixels = np.concatenate([tile.pixels.reshape(-1, 3) for tile in tiles]) / 255
    truth = torch.from_numpy(np.concatenate([tile.classes.reshape(-1) for tile in tiles])).long()
    weight = model.layer.weight.detach().double().reshape(6, 3)
    assert model.layer.bias is not None
    scores = torch.from_numpy(pixels) @ weight.T + model.layer.bias.detach().double()
    predicted = scores.argmax(1)
    ious = [
        ((predicted == c) & (truth == c)).sum().item() / ((predicted == c) | (truth == c)).sum()
        for c in range(6)
    ]
    values = task.evaluate(model, split)
    assert values["loss"] == pytest.approx(F.cross_entropy(scores, truth).item(), rel=1e-6)
    assert values["accuracy"] == pytest.approx(
        (predicted == truth).double().mean().item(), abs=1e-4
    )
    assert values["mean_iou"] == pytest.approx(float(np.mean(ious)), abs=1e-4)


def test_a_class_that_does_not_occur_has_no_part_in_the_mean_iou(
    config: RunConfig, tmp_path: Path
) -> None:
    task, data = bound(config, tmp_path)
    for tile in data.validation:  # the private copy of a memory map: the file stays as it is
        tile.classes[...] = 2
    task._splits["validation"] = data.validation

    class Half(nn.Module):
        """Class 2 for the upper half of a window, class 4 for the lower."""

        def forward(self, images: Tensor) -> Tensor:
            scores = images.new_zeros(len(images), 6, 16, 16)
            scores[:, 2, :8] = scores[:, 4, 8:] = 1
            return scores

    values = task.evaluate(Half(), "validation")
    # class 2 has IoU = accuracy, class 4 has 0, and the four others do not occur
    assert values["mean_iou"] == pytest.approx(values["accuracy"] / 2)


# --- what does not fit together ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "resnet18"}, r"model resnet18 takes images, task segmentation reads tiles"),
        ({"data": "digits"}, r"task segmentation reads tiles, data digits holds images"),
        ({"task": "classification"}, r"task classification reads images, data stand_in_tiles"),
    ],
)
def test_members_of_different_kinds_are_refused(
    change: dict[str, Any], message: str, config: RunConfig
) -> None:
    with pytest.raises(UserError, match=message):
        RunConfig.parse({**config.plain(), **change})
