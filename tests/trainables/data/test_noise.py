"""Data: noisy labels, random labels and inputs without structure, on any classification data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainables.data.cifar10 import CIFAR10
from trainables.data.digits import Digits
from trainables.data.images import LabelledImages
from trainables.data.registry import DATA
from trainables.errors import UserError
from trainables.registry import build

HERE = Path()

Helper = Callable[..., Any]


def labels(**options: Any) -> np.ndarray[Any, Any]:
    return Digits(**options).load(HERE).train.labels


def test_without_noise_the_data_are_those_of_the_files() -> None:
    assert Digits(noise_seed=7).load(HERE).digest == Digits().load(HERE).digest


def test_a_share_of_the_training_labels_is_drawn_over_all_classes() -> None:
    noisy, clean = labels(label_noise=0.4), labels()
    # a drawn label is the true one in a tenth of the cases; 3 deviations of 1500 draws
    assert (noisy != clean).mean() == pytest.approx(0.4 * 0.9, abs=0.04)
    wrong = noisy[noisy != clean]
    assert np.bincount(wrong, minlength=10).min() > 20
    assert noisy.dtype == np.int64


def test_random_labels_say_nothing_about_the_images() -> None:
    assert (labels(label_noise=1) == labels()).mean() == pytest.approx(0.1, abs=0.03)


def test_labels_that_validate_stay_true() -> None:
    noisy, clean = Digits(label_noise=1).load(HERE), Digits().load(HERE)
    assert np.array_equal(noisy.validation.labels, clean.validation.labels)
    assert np.array_equal(noisy.train.images, clean.train.images)


def test_more_noise_contains_less_and_more_examples_contain_fewer() -> None:
    clean, some, more = labels(), labels(label_noise=0.2), labels(label_noise=0.6)
    changed = some != clean
    assert np.array_equal(more[changed], some[changed])
    assert np.array_equal(labels(label_noise=0.2, train_examples=100), some[:100])


def test_another_seed_is_other_noise_and_other_data() -> None:
    first, second = (Digits(label_noise=0.4, noise_seed=seed).load(HERE) for seed in (0, 1))
    assert not np.array_equal(first.train.labels, second.train.labels)
    digests = {first.digest, second.digest, Digits().load(HERE).digest}
    assert len(digests) == 3
    assert Digits(label_noise=0.4).load(HERE).digest == first.digest


def test_shuffled_pixels_are_one_permutation_of_all_images_and_splits() -> None:
    noisy, clean = Digits(input_noise="shuffled_pixels").load(HERE), Digits().load(HERE)
    order = [
        np.flatnonzero((column == clean.train.images.reshape(1500, 64).T).all(1))
        for column in noisy.train.images.reshape(1500, 64).T
    ]
    # pixels that are 0 in every image cannot be told apart
    certain = [(new, old[0]) for new, old in enumerate(order) if len(old) == 1]
    assert len(certain) > 50
    assert all(len(old) for old in order)
    moved, kept = noisy.validation.images.reshape(-1, 64), clean.validation.images.reshape(-1, 64)
    for new, old in certain:
        assert np.array_equal(moved[:, new], kept[:, old])


def test_random_pixels_keep_each_images_values_and_no_place(tmp_path: Path) -> None:
    noisy, clean = Digits(input_noise="random_pixels").load(HERE), Digits().load(HERE)
    both = [data.train.images.reshape(1500, 64) for data in (noisy, clean)]
    assert np.array_equal(*(np.sort(images, axis=1) for images in both))
    # the mean image is flat where that of digits is not
    assert both[0].mean(0).std() < 0.3 < both[1].mean(0).std()


def test_gaussian_pixels_have_the_datas_mean_and_deviation(
    tmp_path: Path, cifar_tree: Helper
) -> None:
    cifar_tree(tmp_path)
    noisy = CIFAR10(input_noise="gaussian").load(tmp_path)
    pixels = noisy.train.images / 255
    assert pixels.mean((0, 2, 3)) == pytest.approx(noisy.mean, abs=0.01)
    assert pixels.std((0, 2, 3)) == pytest.approx(noisy.std, abs=0.01)
    assert np.array_equal(noisy.train.labels, CIFAR10().load(tmp_path).train.labels)
    shorter = CIFAR10(input_noise="gaussian", train_examples=9).load(tmp_path)
    assert np.array_equal(shorter.train.images, noisy.train.images[:9])
    assert noisy.test is not None
    assert not np.array_equal(noisy.test.images[0], noisy.train.images[0])


@pytest.mark.parametrize("name", [name for name, config in DATA.items() if config.kind == "images"])
def test_every_classification_data_set_takes_noise(name: str) -> None:
    assert issubclass(DATA[name], LabelledImages)
    with pytest.raises(UserError, match=r"data\.label_noise: .*less than or equal to 1, got 1\.5"):
        build(DATA[name], {"label_noise": 1.5}, "data")
