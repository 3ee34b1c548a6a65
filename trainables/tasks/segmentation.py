"""Segmentation: a class for every pixel, learnt from patches of large tiles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.data.tiles import Tile, TileData, TilesConfig
from trainables.randomness import generator
from trainables.tasks.contract import Task, TaskConfig

if TYPE_CHECKING:
    from torchmetrics import Metric

    from trainables.config import RunConfig

EVALUATION_PIXELS = 2**18
"""Pixels per evaluation batch: four windows of 256x256. Ours, untuned; it bounds the memory."""


class Segmentation(TaskConfig):
    """Mean cross-entropy over the pixels of random patches; metrics over every pixel of a split.

    accuracy is the share of pixels whose class is right, mean_iou the mean over the classes that
    occur of |predicted and true| / |predicted or true|.
    """

    name: ClassVar[str] = "segmentation"
    data_kind: ClassVar[str] = "tiles"
    judged_by: ClassVar[str] = "accuracy"

    def bind(self, config: RunConfig, data_root: Path, device: torch.device) -> Task:
        """The task; tiles stay memory-mapped files, patches go to the device."""
        data = config.data.load(data_root)
        assert isinstance(data, TileData), "RunConfig compares the kinds"
        assert isinstance(config.data, TilesConfig), "whose data are tiles"
        return SegmentationTask(config, config.data, data, device)

    def num_train(self, config: RunConfig, data_root: Path) -> int:
        """Number of patches that are drawn in an epoch."""
        return config.data.sizes(data_root).train


@dataclass(frozen=True)
class Patches:
    """The patches of an epoch: which tile, where in it, and how they are turned; each [n]."""

    tile: NDArray[np.int64]
    top: NDArray[np.int64]
    left: NDArray[np.int64]
    flipped: NDArray[np.bool_]
    mirrored: NDArray[np.bool_]


def draw_patches(
    shapes: Sequence[tuple[int, int]], config: TilesConfig, seeds: tuple[int, int], epoch: int
) -> Patches:
    """The patches of an epoch, a pure function of (data-order seed, augmentation seed, epoch).

    Every tile is as likely as any other, whatever its size, and in it every place at which a patch
    fits, the last row and column included. Source: P1 A.3, patches "taken randomly within images".
    """
    count = config.train_examples
    order, augmentation = seeds
    tile = torch.randint(len(shapes), (count,), generator=generator(order, epoch, "tile")).numpy()
    place = generator(order, epoch, "place")
    shares = torch.rand(count, 2, dtype=torch.float64, generator=place).numpy()
    free = np.array(shapes)[tile] - config.patch_size + 1
    corners = (shares * free).astype(np.int64)

    def turned(what: str, wanted: bool) -> NDArray[np.bool_]:
        draw = torch.rand(count, generator=generator(augmentation, epoch, what)).numpy()
        return (draw < 0.5) & wanted

    return Patches(
        tile=tile,
        top=corners[:, 0],
        left=corners[:, 1],
        flipped=turned("flip", config.flip),
        mirrored=turned("mirror", config.mirror),
    )


@dataclass(frozen=True)
class Window:
    """A square of a tile, whose first rows and columns may be another window's already."""

    top: int
    left: int
    seen_rows: int
    seen_columns: int


def windows(height: int, width: int, size: int) -> list[Window]:
    """Windows of size x size that together show every pixel, and as new exactly once.

    They lie side by side; the last of a row or column is moved back into the tile.
    """
    return [
        Window(top, left, seen_rows, seen_columns)
        for top, seen_rows in _starts(height, size)
        for left, seen_columns in _starts(width, size)
    ]


def _starts(length: int, size: int) -> list[tuple[int, int]]:
    starts = [(start, 0) for start in range(0, length - size + 1, size)]
    rest = length % size
    return [*starts, (length - size, size - rest)] if rest else starts


class SegmentationTask(Task):
    """Minibatches of patches cut from memory-mapped tiles; drawn a whole epoch at once."""

    metrics: ClassVar[tuple[str, ...]] = ("accuracy", "mean_iou")

    def __init__(
        self, config: RunConfig, options: TilesConfig, data: TileData, device: torch.device
    ) -> None:
        self._config = config
        self._options = options
        self._device = device
        self._num_classes = len(data.class_names)
        self.data_digest = data.digest
        self.calendar = config.calendar(options.train_examples)
        splits = {"train": data.train, "validation": data.validation, "test": data.test}
        self._splits = {name: tiles for name, tiles in splits.items() if tiles}
        self.splits = tuple(self._splits)
        self._shapes = [tile.classes.shape for tile in data.train]
        self._format = torch.channels_last if config.channels_last() else torch.contiguous_format
        self._drawn_epoch = -1

    def build_model(self) -> nn.Module:
        """The configured architecture for these patches and classes."""
        size = self._options.patch_size
        return self._config.model.build((3, size, size), self._num_classes)

    def loss(self, model: nn.Module, step: int) -> Tensor:
        """Mean cross-entropy over all pixels of minibatch `step`, every class weighing the same."""
        return _mean_loss(model, *self.minibatch(step))

    def num_held_out(self, size: int) -> int:
        """As many as the windows of the validation tiles fill."""
        return len(self._held_out) // size

    def held_out_loss(self, model: nn.Module, number: int, size: int) -> Tensor:
        """Of windows that lie side by side; a window at a border overlaps the one before it."""
        chosen = self._held_out[number * size : (number + 1) * size]
        patches = [self._cut(tile, window.top, window.left) for tile, window in chosen]
        return _mean_loss(model, *self._to_device(patches))

    @cached_property
    def _held_out(self) -> list[tuple[Tile, Window]]:
        found: list[tuple[Tile, Window]] = []
        for tile in self._splits["validation"]:
            height, width = tile.classes.shape
            found += [(tile, w) for w in windows(height, width, self._options.patch_size)]
        return found

    def minibatch(self, step: int) -> tuple[Tensor, Tensor]:
        """Augmented patches [b, 3, P, P] in [0, 1] and classes [b, P, P]; a pure function."""
        epoch, index = self.calendar.place(step)
        if epoch != self._drawn_epoch:
            seeds = self._config.seed_for("data_order"), self._config.seed_for("augmentation")
            self._patches = draw_patches(self._shapes, self._options, seeds, epoch)
            self._drawn_epoch = epoch
        count = self._options.train_examples
        rows = range(count)[self._config.minibatch(count, epoch, index)]
        return self._to_device([self._patch(row) for row in rows])

    def _patch(self, row: int) -> Tile:
        patches = self._patches
        tile = self._splits["train"][patches.tile[row]]
        turns = slice(None, None, -1 if patches.flipped[row] else 1)
        mirror = slice(None, None, -1 if patches.mirrored[row] else 1)
        patch = self._cut(tile, int(patches.top[row]), int(patches.left[row]))
        return Tile(patch.pixels[turns, mirror], patch.classes[turns, mirror])

    def _cut(self, tile: Tile, top: int, left: int) -> Tile:
        size = self._options.patch_size
        rows, columns = slice(top, top + size), slice(left, left + size)
        return Tile(tile.pixels[rows, columns], tile.classes[rows, columns])

    def _to_device(self, patches: Sequence[Tile]) -> tuple[Tensor, Tensor]:
        pixels = torch.from_numpy(np.stack([patch.pixels for patch in patches]))
        classes = torch.from_numpy(np.stack([patch.classes for patch in patches]))
        images = pixels.to(self._device).permute(0, 3, 1, 2).float().div_(255)  # P1's code: /255
        return images.contiguous(memory_format=self._format), classes.to(self._device).long()

    def evaluate(self, model: nn.Module, split: str) -> dict[str, float]:
        """Mean cross-entropy and the metrics over every pixel of the split's tiles, each once."""
        metrics = self._new_metrics()
        loss = torch.zeros((), dtype=torch.float64, device=self._device)
        num_pixels = 0
        was_training = model.training
        model.eval()
        with torch.no_grad():
            for scores, classes in self._new_pixels(model, split):
                loss += F.cross_entropy(scores, classes, reduction="none").double().sum()
                predicted = scores.argmax(1)
                for metric in metrics.values():
                    metric.update(predicted, classes)
                num_pixels += len(classes)
        model.train(was_training)
        values = {name: metric.compute().item() for name, metric in metrics.items()}
        return {"loss": loss.item() / num_pixels, **values}

    def _new_metrics(self) -> dict[str, Metric]:
        # imported here: it takes a second, which a command that trains nothing need not wait for
        from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

        # arguments are not checked: the check looks at every pixel once more
        count = self._num_classes
        accuracy = MulticlassAccuracy(count, average="micro", validate_args=False)
        mean_iou = MulticlassJaccardIndex(count, average="macro", validate_args=False)
        return {"accuracy": accuracy.to(self._device), "mean_iou": mean_iou.to(self._device)}

    def _new_pixels(self, model: nn.Module, split: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Scores [m, classes] and classes [m] of pixels not shown before, batch by batch."""
        size = self._options.patch_size
        at_once = max(1, EVALUATION_PIXELS // size**2)
        for tile in self._splits[split]:
            height, width = tile.classes.shape
            found = windows(height, width, size)
            for start in range(0, len(found), at_once):
                batch = found[start : start + at_once]
                images, classes = self._to_device([self._cut(tile, w.top, w.left) for w in batch])
                new = torch.ones(classes.shape, dtype=torch.bool)
                for mask, window in zip(new, batch, strict=True):
                    mask[: window.seen_rows] = False
                    mask[:, : window.seen_columns] = False
                new = new.to(self._device)
                yield model(images).float().permute(0, 2, 3, 1)[new], classes[new]


def _mean_loss(model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    # the reduced form for images raises in strict deterministic mode: it adds by atomics
    return F.cross_entropy(model(images).float(), classes, reduction="none").mean()
