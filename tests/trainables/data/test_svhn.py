"""Data: SVHN in its .mat files, MNIST in SVHN's format, and images padded to a larger size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from trainables.data import svhn
from trainables.data.cifar10 import CIFAR10
from trainables.data.digits import Digits
from trainables.data.images import statistics
from trainables.data.mnist import MNIST
from trainables.data.mnist_as_svhn import MNISTAsSVHN
from trainables.data.svhn import SVHN, read_mat, write_mat
from trainables.errors import UserError

Helper = Callable[..., Any]


def write_svhn(root: Path, monkeypatch: pytest.MonkeyPatch) -> NDArray[np.uint8]:
    """SVHN's two files with 20 and 10 drawn images, all digits in turn."""
    images = np.random.default_rng(4).integers(0, 256, (30, 3, 32, 32), dtype=np.uint8)
    labels = np.arange(30) % 10
    write_mat(root / "train_32x32.mat", images[:20], labels[:20])
    write_mat(root / "test_32x32.mat", images[20:], labels[20:])
    monkeypatch.setattr(SVHN, "official_counts", {"train": 20, "test": 10})
    return images


def test_svhn_reads_what_torchvision_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import SVHN as TorchvisionSVHN  # noqa: N811

    write_svhn(tmp_path, monkeypatch)
    monkeypatch.setattr(TorchvisionSVHN, "_check_integrity", lambda _: True)
    oracle = TorchvisionSVHN(str(tmp_path), split="train")
    data = SVHN().resolved(tmp_path).load(tmp_path)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(1)).numpy()
    assert np.array_equal(data.train.images, oracle.data[order][:16])
    assert np.array_equal(data.validation.images, oracle.data[order][16:])
    assert np.array_equal(data.train.labels, oracle.labels[order][:16])
    assert (data.mean, data.std) == statistics(data.train.images)


def test_svhns_files_and_checksums_are_torchvisions() -> None:
    from torchvision.datasets import SVHN as TorchvisionSVHN  # noqa: N811

    theirs = {part: tuple(TorchvisionSVHN.split_list[part][1:]) for part in ("train", "test")}
    assert theirs == svhn.FILES


def test_the_label_10_is_the_digit_0(tmp_path: Path) -> None:
    from scipy.io import loadmat

    write_mat(tmp_path / "x.mat", np.zeros((3, 3, 32, 32), np.uint8), np.array([0, 1, 9]))
    assert loadmat(tmp_path / "x.mat")["y"].tolist() == [[10], [1], [9]]
    assert read_mat(tmp_path / "x.mat")[1].tolist() == [0, 1, 9]


def test_missing_svhn_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data svhn not found: .*train_32x32\.mat.*DOWNLOAD=1"):
        SVHN().sizes(tmp_path)


def test_svhn_asks_torchvision_for_both_files_when_it_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def official(root: str, split: str, download: bool) -> None:
        asked.append(split)
        if len(asked) == 2:
            write_svhn(Path(root), monkeypatch)

    monkeypatch.setattr("torchvision.datasets.SVHN", official)
    monkeypatch.setenv("OPTPATH_DOWNLOAD", "1")
    assert SVHN().sizes(tmp_path).train == 58_606  # of 73,257: known before the download
    SVHN().prepare(tmp_path)
    assert asked == ["train", "test"]
    assert SVHN().sizes(tmp_path).train == 16


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:5000])


def make_text(file: Path) -> None:
    file.write_text("no data at all")


def without_images(file: Path) -> None:
    from scipy.io import savemat

    savemat(file, {"y": np.ones((20, 1))})


def of_another_shape(file: Path) -> None:
    from scipy.io import savemat

    savemat(file, {"X": np.zeros((28, 28, 3, 20), np.uint8), "y": np.ones((20, 1))})


def with_another_label(file: Path) -> None:
    write_mat(file, np.zeros((20, 3, 32, 32), np.uint8), np.full(20, 11))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (cut_short, "."),
        (make_text, "."),
        (without_images, "no variables X and y"),
        (of_another_shape, r"X is uint8 \(28, 28, 3, 20\) for 20 labels"),
        (with_another_label, "labels from 11 to 11 where 1 to 10 are expected"),
    ],
)
def test_a_corrupt_file_of_svhn_is_named(
    damage: Callable[[Path], None], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_svhn(tmp_path, monkeypatch)
    damage(tmp_path / "train_32x32.mat")
    with pytest.raises(UserError, match=rf"train_32x32\.mat: corrupt \(.*{reason}.*DOWNLOAD") as e:
        SVHN().prepare(tmp_path)
    assert "\n" not in str(e.value)


# --- MNIST in SVHN's format --------------------------------------------------------------------


def test_mnist_as_svhn_is_mnist_in_three_equal_channels_of_32x32(
    tmp_path: Path, write_tree: Helper
) -> None:
    for part in ("train", "test"):
        write_tree(tmp_path / "mnist" / part, MNIST.class_names, 3, 28, grey=True)
    ours, mnist = MNISTAsSVHN().load(tmp_path), MNIST().load(tmp_path)
    assert MNISTAsSVHN().signature(tmp_path) == SVHN().signature(tmp_path)
    assert np.array_equal(ours.train.labels, mnist.train.labels)
    for channel in range(3):
        assert np.array_equal(ours.train.images[:, channel, 2:-2, 2:-2], mnist.train.images[:, 0])
    assert not ours.train.images[:, :, :2].any()
    assert ours.digest != mnist.digest
    assert ours.mean == pytest.approx(ours.train.images.mean((0, 2, 3)) / 255)


# --- padding -----------------------------------------------------------------------------------


def test_mnist_is_padded_to_32x32_with_black_on_all_sides(
    tmp_path: Path, write_tree: Helper
) -> None:
    for part in ("train", "test"):
        write_tree(tmp_path / "mnist" / part, MNIST.class_names, 3, 28, grey=True)
    plain, padded = MNIST().load(tmp_path), MNIST(padded_size=32).load(tmp_path)
    assert MNIST(padded_size=32).signature(tmp_path) == ((1, 32, 32), 10)
    assert np.array_equal(padded.train.images[:, :, 2:-2, 2:-2], plain.train.images)
    assert padded.train.images.sum() == plain.train.images.sum()
    assert np.array_equal(padded.train.labels, plain.train.labels)
    assert padded.mean == plain.mean
    assert isinstance(padded.train.images, np.memmap)
    assert padded.digest != plain.digest


def test_an_odd_pixel_of_padding_goes_below_and_to_the_right(tmp_path: Path) -> None:
    plain, padded = Digits().load(tmp_path), Digits(padded_size=11).load(tmp_path)
    assert np.array_equal(padded.train.images[:, :, 1:9, 1:9], plain.train.images)
    assert padded.train.images.shape == (1500, 1, 11, 11)


def test_a_size_below_the_images_own_is_a_user_error(tmp_path: Path, cifar_tree: Helper) -> None:
    cifar_tree(tmp_path, per_class=1)
    with pytest.raises(UserError, match=r"padded_size: 28 is less than the 32x32 .* at least 32$"):
        CIFAR10(padded_size=28).signature(tmp_path)
    with pytest.raises(UserError, match=r"padded_size: 7 .*8x8 pixels of digits"):
        Digits(padded_size=7).load(tmp_path)
