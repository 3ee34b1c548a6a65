"""Data: trees of images, how they are decoded and stored, and what is said of broken ones."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from trainables.data.cifar10 import CIFAR10
from trainables.data.folders import decode
from trainables.data.image_folder import ImageFolder
from trainables.errors import UserError

Helper = Callable[..., Any]


# --- trees of images ---------------------------------------------------------------------------


def test_files_are_in_the_order_of_torchvisions_image_folder(
    tmp_path: Path, write_tree: Helper
) -> None:
    from torchvision.datasets import ImageFolder as TorchvisionImageFolder

    from trainables.data.folders import find_tree

    write_tree(tmp_path, ["b", "a", "c"], 3, 4, grey=True)
    (tmp_path / "a" / "deeper").mkdir()
    shutil.copy(tmp_path / "b" / "000.png", tmp_path / "a" / "deeper" / "0.PNG")
    (tmp_path / "a" / "notes.txt").write_text("no image")
    tree, oracle = find_tree(tmp_path), TorchvisionImageFolder(tmp_path)
    assert list(zip(tree.files, tree.labels, strict=True)) == oracle.samples
    assert list(tree.class_names) == oracle.classes


@pytest.mark.parametrize("shape", [(40, 30), (30, 41), (25, 25), (16, 16), (16, 50)])
def test_resizing_and_cutting_are_torchvisions(shape: tuple[int, int], tmp_path: Path) -> None:
    from torchvision.transforms import CenterCrop, Compose, Resize

    pixels = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    oracle = Compose([Resize(16), CenterCrop(16)])(Image.fromarray(pixels))
    ours = decode(str(tmp_path / "x.png"), (3, 16, 16), resize=True)
    assert np.array_equal(ours, np.asarray(oracle).transpose(2, 0, 1))


def test_image_folder_uses_the_subfolders_that_are_there(
    tmp_path: Path, write_tree: Helper, splits: Helper
) -> None:
    for part, count in (("train", 6), ("val", 3), ("test", 2)):
        write_tree(tmp_path / "pets" / part, ["cat", "dog"], count, 8, grey=False)
    config = ImageFolder(path="pets", size=8)
    data = config.load(tmp_path)
    assert data.class_names == ("cat", "dog")
    assert {name: len(split.labels) for name, split in splits(data).items()} == {
        "train": 12,
        "validation": 6,
        "test": 4,
    }
    assert data.mean == pytest.approx(data.train.images.mean((0, 2, 3)) / 255)


def test_image_folder_without_parts_carves_a_fraction(
    tmp_path: Path, write_tree: Helper, first_pixels: Helper
) -> None:
    write_tree(tmp_path / "pets", ["cat", "dog"], 10, 8, grey=True)
    data = ImageFolder(path=str(tmp_path / "pets"), size=8, grey=True).load(tmp_path / "elsewhere")
    assert data.train.images.shape == (16, 1, 8, 8)
    assert sorted(first_pixels(data.train) + first_pixels(data.validation)) == list(range(20))
    # Measured on the training split alone: the validation images are not seen.
    assert data.mean == pytest.approx(data.train.images.mean((0, 2, 3)) / 255)


def test_a_channel_without_variation_is_a_user_error(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(5):
            Image.new("RGB", (8, 8), (i, 7, i)).save(tmp_path / "images" / name / f"{i}.png")
    with pytest.raises(UserError, match=r"same value everywhere in channel 1; .*data\.grey=true"):
        ImageFolder().load(tmp_path)


def test_fraction_0_without_test_images_is_a_user_error(tmp_path: Path, write_tree: Helper) -> None:
    write_tree(tmp_path / "images", ["cat", "dog"], 2, 8, grey=True)
    with pytest.raises(UserError, match=r"validates on the test images, .* has none; give"):
        ImageFolder(validation_fraction=0).sizes(tmp_path)


@pytest.mark.parametrize("part", ["val", "validation", "test"])
def test_a_tree_without_its_training_images_is_a_user_error(
    part: str, tmp_path: Path, write_tree: Helper
) -> None:
    write_tree(tmp_path / "pets" / part, ["cat", "dog"], 3, 8, grey=False)
    with pytest.raises(UserError, match=r"pets/train: missing, although \w+ images .*put the"):
        ImageFolder(path="pets", size=8).sizes(tmp_path)


def test_parts_with_other_classes_are_a_user_error(tmp_path: Path, write_tree: Helper) -> None:
    write_tree(tmp_path / "images/train", ["cat", "dog"], 2, 8, grey=True)
    write_tree(tmp_path / "images/test", ["cat", "cow"], 2, 8, grey=True)
    with pytest.raises(UserError, match=r"other class folders than .*train \(cow dog\)"):
        ImageFolder().sizes(tmp_path)


def test_a_class_without_images_is_a_user_error(tmp_path: Path, write_tree: Helper) -> None:
    write_tree(tmp_path / "images", ["cat", "dog"], 2, 8, grey=True)
    (tmp_path / "images/emu").mkdir()
    with pytest.raises(UserError, match=r"images/emu: no image; expected files \.jpg"):
        ImageFolder().sizes(tmp_path)


def test_a_folder_without_classes_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(UserError, match=r"images: no class folders; expected .*<class>"):
        ImageFolder().sizes(tmp_path)


def test_class_folders_of_another_data_set_are_a_user_error(
    tmp_path: Path, write_tree: Helper
) -> None:
    write_tree(tmp_path / "cifar10/train", ["cat", "dog"], 2, 32, grey=False)
    write_tree(tmp_path / "cifar10/test", ["cat", "dog"], 2, 32, grey=False)
    with pytest.raises(UserError, match="class folders cat dog where cifar10 has airplane"):
        CIFAR10().sizes(tmp_path)


# --- stored arrays -----------------------------------------------------------------------------


def decoding_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: Any, **__: Any) -> None:
        raise AssertionError("an image was decoded")

    monkeypatch.setattr("trainables.data.folders.decode", forbidden)


def test_sizes_and_a_second_load_decode_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cifar_tree: Helper
) -> None:
    cifar_tree(tmp_path)
    before = CIFAR10().load(tmp_path)
    decoding_forbidden(monkeypatch)
    after = CIFAR10(train_examples=7, crop_padding=0, flip=True).load(tmp_path)
    assert np.array_equal(after.train.images, before.train.images[:7])
    assert CIFAR10().sizes(tmp_path).train == 80


def test_sizes_decode_nothing_before_preparing_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cifar_tree: Helper
) -> None:
    cifar_tree(tmp_path)
    decoding_forbidden(monkeypatch)
    sizes = CIFAR10().sizes(tmp_path)
    assert (sizes.train, sizes.validation, sizes.test) == (80, 20, 20)
    assert not (tmp_path / ".optpath-cache").exists()


def test_all_splits_are_views_of_memory_mapped_files(
    tmp_path: Path, cifar_tree: Helper, splits: Helper
) -> None:
    cifar_tree(tmp_path)
    data = CIFAR10(train_examples=50).load(tmp_path)
    files = {name: memory_map_of(split.images) for name, split in splits(data).items()}
    assert files["train"] == files["validation"] != files["test"]
    assert Path(files["train"]).parent == tmp_path / ".optpath-cache"


def memory_map_of(array: NDArray[np.uint8]) -> str:
    assert isinstance(array, np.memmap)
    assert array.base is not None  # a view, not a copy
    return str(array.filename)


def test_writing_to_a_loaded_array_leaves_the_file_alone(
    tmp_path: Path, cifar_tree: Helper, first_pixels: Helper
) -> None:
    cifar_tree(tmp_path)
    data = CIFAR10().load(tmp_path)
    data.train.images[:] = 0
    assert first_pixels(CIFAR10().load(tmp_path).train) != first_pixels(data.train)


def test_only_whole_files_are_left_under_their_names(tmp_path: Path, cifar_tree: Helper) -> None:
    cifar_tree(tmp_path)
    CIFAR10().prepare(tmp_path)
    names = [file.name for file in (tmp_path / ".optpath-cache").iterdir()]
    arrays = ["test-images.npy", "test-labels.npy", "train-images.npy", "train-labels.npy"]
    assert sorted(name.split("-", 2)[-1] for name in names if name.endswith(".npy")) == arrays
    assert [name.rpartition(".")[2] for name in names if not name.endswith(".npy")] == ["json"]


def test_an_interrupted_decoding_is_not_taken_for_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cifar_tree: Helper, first_pixels: Helper
) -> None:
    cifar_tree(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("trainables.data.arrays.statistics", interrupted)
        with pytest.raises(KeyboardInterrupt):
            CIFAR10().prepare(tmp_path)
    data = CIFAR10().load(tmp_path)
    assert sorted(first_pixels(data.train) + first_pixels(data.validation)) == list(range(100))


def interrupted(_: Any) -> None:
    raise KeyboardInterrupt


def test_changed_files_are_decoded_anew_and_have_another_digest(
    tmp_path: Path, write_tree: Helper
) -> None:
    write_tree(tmp_path / "images", ["cat", "dog"], 10, 8, grey=True)
    before = ImageFolder(size=8).load(tmp_path)
    Image.new("L", (8, 8), 200).save(tmp_path / "images/cat/new.png")
    folder = tmp_path / "images/cat"
    os.utime(folder, ns=(0, time.time_ns() + 10**9))  # file systems count time in coarse steps
    after = ImageFolder(size=8).load(tmp_path)
    assert len(after.train.labels) + len(after.validation.labels) == 21
    assert after.digest != before.digest


def test_equal_files_elsewhere_have_the_same_digest(tmp_path: Path, write_tree: Helper) -> None:
    for folder in ("one", "two"):
        write_tree(tmp_path / folder / "images", ["cat", "dog"], 10, 8, grey=True)
    digests = {ImageFolder(size=8).load(tmp_path / name).digest for name in ("one", "two")}
    assert len(digests) == 1


def test_a_damaged_stored_file_is_named_with_what_to_delete(
    tmp_path: Path, cifar_tree: Helper
) -> None:
    cifar_tree(tmp_path)
    CIFAR10().prepare(tmp_path)
    (file,) = (tmp_path / ".optpath-cache").glob("*-train-images.npy")
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(UserError, match=rf"{file.name}: damaged .*; delete .*\.json to have"):
        CIFAR10().load(tmp_path)


def test_a_data_folder_that_cannot_be_written_to_is_a_user_error(
    tmp_path: Path, cifar_tree: Helper
) -> None:
    cifar_tree(tmp_path)
    (tmp_path / ".optpath-cache").write_text("a file where the folder should be")
    with pytest.raises(UserError, match=r"cannot store decoded images there .*OPTPATH_DATA"):
        CIFAR10().prepare(tmp_path)


# --- images that are wrong ---------------------------------------------------------------------


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-30])


def make_text(file: Path) -> None:
    file.write_text("no image at all")


def empty(file: Path) -> None:
    file.write_bytes(b"")


@pytest.mark.parametrize("damage", [truncate, make_text, empty])
def test_a_corrupt_image_is_named(
    damage: Callable[[Path], None], tmp_path: Path, cifar_tree: Helper
) -> None:
    cifar_tree(tmp_path, per_class=2)
    damage(tmp_path / "cifar10/train/dog/001.png")
    with pytest.raises(UserError, match=r"train/dog/001\.png: corrupt image \(.*\); replace") as e:
        CIFAR10(validation_fraction=0).prepare(tmp_path)
    assert "\n" not in str(e.value)
    left = [file.name for file in (tmp_path / ".optpath-cache").iterdir()]
    assert not any(name.endswith((".tmp", ".json", "images.npy")) for name in left)


def test_an_image_of_another_size_is_named(tmp_path: Path, cifar_tree: Helper) -> None:
    cifar_tree(tmp_path, per_class=2)
    Image.new("RGB", (40, 32)).save(tmp_path / "cifar10/test/cat/000.png")
    with pytest.raises(UserError, match=r"cat/000\.png: image of 40x32 .* 32x32 are expected"):
        CIFAR10(validation_fraction=0).prepare(tmp_path)


def test_sixteen_bit_pixels_are_refused_and_not_clipped(tmp_path: Path) -> None:
    deep = np.full((8, 8), 3000, dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "x.png")
    with pytest.raises(UserError, match=r"x\.png: pixels of mode I;16; convert it to 8 bits RGB"):
        decode(str(tmp_path / "x.png"), (1, 8, 8), resize=False)


PIXELS = np.random.default_rng(3).integers(0, 256, (4, 4, 3), dtype=np.uint8)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "LA", "RGBA"])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_differing_channels_are_converted_as_torchvision_does(
    mode: str, channels: int, tmp_path: Path
) -> None:
    from torchvision.datasets.folder import default_loader

    path = tmp_path / f"x{'.jpg' if mode == 'CMYK' else '.png'}"
    Image.fromarray(PIXELS).convert(mode).save(path)
    ours = decode(str(path), (channels, 4, 4), resize=False)
    theirs = default_loader(str(path))
    if channels == 3:
        assert np.array_equal(ours, np.asarray(theirs).transpose(2, 0, 1))
    assert ours.shape == (channels, 4, 4)


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P"])
def test_transparent_pixels_are_refused_and_not_given_a_colour(mode: str, tmp_path: Path) -> None:
    image = Image.fromarray(PIXELS).convert(mode)
    if mode == "P":
        image.save(tmp_path / "x.png", transparency=int(np.asarray(image)[0, 0]))
    else:
        image.putalpha(254)
        image.save(tmp_path / "x.png")
    with pytest.raises(UserError, match=rf"x\.png: transparent pixels \(mode {mode}\).*RGB") as e:
        decode(str(tmp_path / "x.png"), (3, 4, 4), resize=False)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("mode", ["F", "LAB", "I;16"])
def test_other_kinds_of_pixels_are_refused_by_name(mode: str, tmp_path: Path) -> None:
    Image.new(mode, (4, 4)).save(tmp_path / "x.tif")
    with pytest.raises(
        UserError, match=rf"x\.tif: pixels of mode {mode}; convert it to 8 bits RGB"
    ):
        decode(str(tmp_path / "x.tif"), (3, 4, 4), resize=False)
