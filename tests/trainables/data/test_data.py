"""Data: what every data set promises, how images are split, and the digits."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import random_split

from tests.trainables.samples import SAMPLES
from trainables.data.cifar10 import CIFAR10
from trainables.data.digits import Digits
from trainables.data.image_stream import ImageStream
from trainables.data.images import ImageConfig, cut_parts, statistics
from trainables.data.registry import DATA
from trainables.data.standard import StandardImages
from trainables.errors import UserError

Helper = Callable[..., Any]


IMAGES = {name: config for name, config in DATA.items() if issubclass(config, ImageConfig)}
LISTED = {name for name, config in DATA.items() if config.kind in ("images", "text")}
"""Patches of tiles are drawn without end, and objectives have no examples."""

# --- the contract, over all members ------------------------------------------------------------


@pytest.fixture(scope="module")
def any_root(tmp_path_factory: pytest.TempPathFactory, write_tree: Helper) -> Path:
    """Files for every data set of the registry that needs some."""
    root = tmp_path_factory.mktemp("data")
    for config in DATA.values():
        if issubclass(config, StandardImages):
            (channels, side, _), folder = config.shape, root / config.folders[0]
            for part, per_class in (("train", 10), ("test", 2)):
                if not (folder / part).exists():  # MNIST is there under two names
                    write_tree(
                        folder / part, config.class_names, per_class, side, grey=channels == 1
                    )
        elif issubclass(config, ImageStream):
            names = [f"n{label:08}" for label in range(config.num_classes or 2)]
            for part in ("train", "val"):
                folder = root / config().path / part
                write_tree(folder, names, max(1, 20 // len(names)), 8, grey=False)
    for write in SAMPLES.values():
        write(root)
    return root


@pytest.mark.parametrize("name", sorted(DATA))
class TestContract:
    """What every data set of the registry promises."""

    def test_loading_again_gives_the_same_data(self, name: str, any_root: Path) -> None:
        try:
            DATA[name]().sizes(any_root)
        except UserError as error:
            pytest.skip(f"no sample files: {error}")
        first, second = (DATA[name]().load(any_root) for _ in range(2))
        assert first.digest == second.digest

    def test_the_digest_is_that_of_what_is_loaded_and_costs_no_file(
        self, name: str, any_root: Path, tmp_path: Path
    ) -> None:
        config, root = DATA[name](), tmp_path / "unread"
        unread = shutil.ignore_patterns(".optpath-cache")
        shutil.copytree(any_root, root, ignore=unread, copy_function=os.link)
        try:
            digest = config.digest(root)
        except UserError as error:
            pytest.skip(f"no sample files: {error}")
        assert config.generated or not (root / ".optpath-cache").exists()
        assert digest in (None, config.load(root).digest)
        assert config.digest(root) == config.load(root).digest

    def test_licence_and_citation_are_stated(self, name: str, any_root: Path) -> None:
        assert DATA[name].licence
        assert DATA[name].citation


@pytest.mark.parametrize("name", sorted(LISTED))
class TestListed:
    """What every data set promises whose splits are lists of examples."""

    def test_sizes_are_those_of_the_loaded_splits(self, name: str, any_root: Path) -> None:
        config = DATA[name]().resolved(any_root)
        sizes = config.sizes(any_root)
        config.prepare(any_root)
        data = config.load(any_root)
        assert sizes.train == len(data.train) > 0
        assert sizes.validation == len(data.validation) > 0
        assert sizes.test == (0 if data.test is None else len(data.test))

    def test_more_examples_than_there_are_is_a_user_error(self, name: str, any_root: Path) -> None:
        config = DATA[name](train_examples=10**6)
        with pytest.raises(UserError, match=r"data\.train_examples: 1000000 .* give at most \d+$"):
            config.sizes(any_root)


@pytest.mark.parametrize("name", sorted(IMAGES))
class TestImages:
    """What every data set of images promises besides."""

    def test_arrays_are_uint8_images_with_int64_labels_of_known_classes(
        self, name: str, any_root: Path, splits: Helper
    ) -> None:
        data = IMAGES[name]().load(any_root)
        for split in splits(data).values():
            assert split.images.dtype == np.uint8
            assert split.labels.dtype == np.int64
            assert split.images.ndim == 4
            assert len(split.images) == len(split.labels)
            assert split.images.shape[1] == len(data.mean) == len(data.std)
            assert set(split.labels.tolist()) <= set(range(len(data.class_names)))

    def test_torch_takes_the_arrays_without_a_warning(self, name: str, any_root: Path) -> None:
        split = IMAGES[name]().load(any_root).train
        assert torch.from_numpy(split.images).dtype == torch.uint8

    def test_loading_again_gives_the_same_images(self, name: str, any_root: Path) -> None:
        first, second = (IMAGES[name]().load(any_root) for _ in range(2))
        assert np.array_equal(first.train.images, second.train.images)


# --- splits ------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_examples", [5, 9, 64, 101])
@pytest.mark.parametrize("fraction", [0.2, 0.37])
def test_carved_splits_are_as_long_as_random_splits(num_examples: int, fraction: float) -> None:
    subsets = random_split(range(num_examples), [1 - fraction, fraction])  # type: ignore[arg-type]
    cuts = cut_parts({"train": num_examples}, fraction, "x")
    lengths = [cuts[split].stop - cuts[split].start for split in ("train", "validation")]
    assert lengths == [len(subset) for subset in subsets]


def test_the_split_is_random_split_with_generator_1(
    tmp_path: Path, cifar_tree: Helper, first_pixels: Helper
) -> None:
    cifar_tree(tmp_path)
    data = CIFAR10().load(tmp_path)
    train, validation = random_split(
        range(100),  # type: ignore[arg-type]
        [80, 20],
        generator=torch.Generator().manual_seed(1),
    )
    assert first_pixels(data.train) == list(train.indices)
    assert first_pixels(data.validation) == list(validation.indices)
    assert data.train.labels.tolist() == [index // 10 for index in train.indices]


def test_no_example_is_in_two_splits_and_none_is_lost(
    tmp_path: Path, cifar_tree: Helper, first_pixels: Helper
) -> None:
    cifar_tree(tmp_path)
    data = CIFAR10().load(tmp_path)
    assert sorted(first_pixels(data.train) + first_pixels(data.validation)) == list(range(100))
    assert sorted(first_pixels(data.test)) == list(range(20))


def test_another_split_seed_is_another_split(
    tmp_path: Path, cifar_tree: Helper, first_pixels: Helper
) -> None:
    cifar_tree(tmp_path)
    first, second = (CIFAR10(split_seed=seed).load(tmp_path) for seed in (1, 2))
    assert first_pixels(first.train) != first_pixels(second.train)
    assert first.digest != second.digest


def test_fraction_0_trains_on_everything_and_validates_on_the_test_images(
    tmp_path: Path, cifar_tree: Helper, first_pixels: Helper
) -> None:
    cifar_tree(tmp_path)
    data = CIFAR10(validation_fraction=0).load(tmp_path)
    assert sorted(first_pixels(data.train)) == list(range(100))
    assert sorted(first_pixels(data.validation)) == list(range(20))
    assert data.test is None


def test_a_fraction_of_less_than_one_image_is_a_user_error(
    tmp_path: Path, cifar_tree: Helper
) -> None:
    cifar_tree(tmp_path, per_class=1)
    with pytest.raises(UserError, match=r"validation_fraction: 0\.05 of the 10 .*larger fraction"):
        CIFAR10(validation_fraction=0.05).sizes(tmp_path)


def test_limits_take_the_first_examples_of_each_split(
    tmp_path: Path, cifar_tree: Helper, first_pixels: Helper, splits: Helper
) -> None:
    cifar_tree(tmp_path)
    whole = CIFAR10().load(tmp_path)
    part = CIFAR10(train_examples=30, validation_examples=5, test_examples=3).load(tmp_path)
    for name, length in (("train", 30), ("validation", 5), ("test", 3)):
        assert first_pixels(splits(part)[name]) == first_pixels(splits(whole)[name])[:length]
    assert part.digest == whole.digest
    assert len(set(part.train.labels.tolist())) > 5  # a sample, not the first classes


def test_cifar10_crops_by_default_and_nothing_else_does() -> None:
    cropping = {name for name, config in IMAGES.items() if getattr(config(), "crop_padding", 0)}
    assert cropping == {"cifar10"}
    assert CIFAR10().crop_padding == 4
    assert not any(getattr(config(), "flip", False) for config in IMAGES.values())


def test_statistics_are_those_of_all_pixels_in_float64() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5000, 3, 2, 3), dtype=np.uint8)
    mean, std = statistics(images)
    scaled = images.astype(np.float64) / 255
    assert mean == pytest.approx(scaled.mean((0, 2, 3)), rel=1e-12)
    assert std == pytest.approx(scaled.std((0, 2, 3)), rel=1e-12)


# --- digits ------------------------------------------------------------------------------------


def test_digits_are_scikit_learns_in_its_order(tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    data = Digits().load(tmp_path)
    assert np.array_equal(data.train.images.reshape(1500, 64), images[:1500])
    assert np.array_equal(data.validation.images.reshape(297, 64), images[1500:])
    assert np.array_equal(data.train.labels, labels[:1500])
    assert np.array_equal(data.validation.labels, labels[1500:])


def test_digits_are_normalised_by_their_training_images(tmp_path: Path) -> None:
    data = Digits().load(tmp_path)
    normalised = (data.train.images / 255 - data.mean[0]) / data.std[0]
    assert abs(normalised.mean()) < 1e-12
    assert normalised.std() == pytest.approx(1, abs=1e-12)


def test_digits_are_identified_by_their_content(tmp_path: Path) -> None:
    # If this changes, every run on digits was made on other data.
    assert Digits().load(tmp_path).digest.startswith("65e5b4619795efb4")
