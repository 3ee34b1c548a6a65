"""Data: ImageNet's layout read from disk, and the pipeline against torchvision's transforms."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from trainables.data.augmented import Transform, random_crop
from trainables.data.image_stream import ImageStream
from trainables.data.imagenet import ImageNet
from trainables.data.prefetch import BATCHES_AHEAD, Prefetch, num_decoders
from trainables.errors import UserError

Helper = Callable[..., Any]

IMAGENET = Transform(224, 256, (0.08, 1.0), (3 / 4, 4 / 3), flip=True)


def write_jpegs(
    root: Path, per_class: int = 6, sizes: tuple[tuple[int, int], ...] = ((60, 40), (40, 70))
) -> None:
    """A tree in ImageNet's layout: two classes, JPEGs of several sizes, as many to validate."""
    draw = np.random.default_rng(5)
    for part in ("train", "val"):
        for name in ("n01440764", "n01443537"):
            (root / part / name).mkdir(parents=True)
            for i in range(per_class):
                width, height = sizes[i % len(sizes)]
                coarse = draw.integers(0, 256, (5, 5, 3), dtype=np.uint8)
                image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
                image.save(root / part / name / f"{name}_{i}.JPEG", quality=95)


# --- what is done to an image ------------------------------------------------------------------


@pytest.mark.parametrize("size", [(500, 375), (40, 300), (300, 40), (7, 9), (1, 1)])
def test_crops_are_drawn_as_torchvisions(size: tuple[int, int]) -> None:
    from torchvision.transforms import RandomResizedCrop

    width, height = size
    image = Image.new("RGB", size)
    with torch.random.fork_rng():
        for seed in range(30):
            torch.manual_seed(seed)
            theirs = RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3])
            draw = torch.Generator().manual_seed(seed)
            assert random_crop(width, height, (0.08, 1.0), (3 / 4, 4 / 3), draw) == theirs


def test_training_images_are_torchvisions_transform_of_the_same_draws(tmp_path: Path) -> None:
    from torchvision.transforms import Compose, RandomHorizontalFlip, RandomResizedCrop

    write_jpegs(tmp_path, per_class=2)
    oracle = Compose([RandomResizedCrop(224), RandomHorizontalFlip()])
    mirrored = set()
    for seed, file in enumerate(sorted(tmp_path.rglob("*.JPEG"))):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            theirs = np.asarray(oracle(Image.open(file).convert("RGB"))).transpose(2, 0, 1)
        ours = IMAGENET.random(str(file), torch.Generator().manual_seed(seed))
        assert np.array_equal(ours, theirs)
        plain = Transform(224, 256, (0.08, 1.0), (3 / 4, 4 / 3), flip=False)
        unmirrored = plain.random(str(file), torch.Generator().manual_seed(seed))
        mirrored.add(not np.array_equal(ours, unmirrored))
    assert mirrored == {True, False}


def test_evaluated_images_are_torchvisions_resize_and_center_crop(tmp_path: Path) -> None:
    from torchvision.transforms import CenterCrop, Compose, Resize

    write_jpegs(tmp_path, per_class=2, sizes=((300, 211), (31, 64)))
    oracle = Compose([Resize(256), CenterCrop(224)])
    for file in tmp_path.rglob("*.JPEG"):
        theirs = np.asarray(oracle(Image.open(file).convert("RGB"))).transpose(2, 0, 1)
        assert np.array_equal(IMAGENET.clean(str(file)), theirs)


def test_grey_and_cmyk_jpegs_become_colour_images(tmp_path: Path) -> None:
    for mode in ("L", "CMYK"):
        Image.new(mode, (50, 40)).save(tmp_path / f"{mode}.JPEG")
        assert IMAGENET.clean(str(tmp_path / f"{mode}.JPEG")).shape == (3, 224, 224)


# --- files and splits --------------------------------------------------------------------------


def test_splits_are_the_folders_in_an_order_drawn_from_the_split_seed(tmp_path: Path) -> None:
    write_jpegs(tmp_path / "tree")
    data = ImageStream(path="tree", size=32, resize=36).load(tmp_path)
    for part, split in (("train", data.train), ("val", data.validation)):
        assert sorted(split.files) == sorted(map(str, (tmp_path / "tree" / part).rglob("*.JPEG")))
        parents = [Path(file).parent.name for file in split.files]
        assert [data.class_names[label] for label in split.labels] == parents
    assert data.train.labels.tolist() != sorted(data.train.labels.tolist())
    other = ImageStream(path="tree", split_seed=2).load(tmp_path)
    assert other.train.files != data.train.files
    limited = ImageStream(path="tree", train_examples=5).load(tmp_path)
    assert limited.train.files == data.train.files[:5]


def test_the_digest_is_that_of_a_copy_but_not_of_other_files_or_noise(tmp_path: Path) -> None:
    import shutil

    write_jpegs(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two", copy_function=shutil.copyfile)
    first, copy = (ImageStream(path=name).load(tmp_path).digest for name in ("one", "two"))
    noisy = ImageStream(path="one", label_noise=1).load(tmp_path)
    assert first == copy != noisy.digest
    assert (
        noisy.train.labels.tolist() != ImageStream(path="one").load(tmp_path).train.labels.tolist()
    )
    file = next((tmp_path / "two/train").rglob("*.JPEG"))
    file.rename(file.with_name("other.JPEG"))
    assert ImageStream(path="two").load(tmp_path).digest != first


def test_missing_imagenet_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=rf"looked for {tmp_path}/imagenet/train/<class>/.*ImageNet"
    ):
        ImageNet().sizes(tmp_path)


def test_a_tree_with_other_than_1000_classes_is_not_imagenet(tmp_path: Path) -> None:
    write_jpegs(tmp_path / "imagenet", per_class=1)
    with pytest.raises(UserError, match=r"2 class folders where .* 1000; use data image_stream"):
        ImageNet().sizes(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 300}, "resize: 256 is less than size, 300"),
        ({"crop_scale": (0.5, 0.1)}, r"crop_scale: 0\.5 to 0\.1 is no range"),
        ({"crop_ratio": (0.0, 1.0)}, r"crop_ratio: 0\.0 to 1\.0 is no range"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ImageStream(**options)


# --- batches ahead of their time ---------------------------------------------------------------


def squares(num_threads: int, made: list[int]) -> Prefetch[int, int]:
    """Batch k is the squares of 3k, 3k + 1, 3k + 2; `made` collects what was computed."""

    def make(item: int) -> int:
        made.append(item)
        return item * item

    return Prefetch(lambda k: [3 * k, 3 * k + 1, 3 * k + 2], make, num_threads)


@pytest.mark.parametrize("num_threads", [0, 1, 3])
def test_batches_are_the_same_in_any_order_for_any_number_of_threads(num_threads: int) -> None:
    batches = squares(num_threads, [])
    for k in (0, 0, 1, 2, 1000, 3, 4, 2, 5, 7, 6, 0):
        assert batches.batch(k) == [(3 * k + i) ** 2 for i in range(3)]


def test_the_next_batches_are_begun_once_the_walk_is_seen_and_made_once() -> None:
    made: list[int] = []
    batches = squares(1, made)
    batches.batch(5)
    for k in (6, 7, 8):
        batches.batch(k)
        batches.batch(1000 + 7 * k)  # a probe that looks elsewhere stops nothing
    batches.made([0])  # waits until the one thread has done all that was begun before
    walked = [item for item in made if 15 <= item < 1000]
    assert walked == sorted(set(walked))
    assert max(walked) == 3 * (8 + BATCHES_AHEAD) + 2


def test_threads_end_with_their_batches() -> None:
    batches = squares(3, [])
    batches.batch(0)
    started = {thread for thread in threading.enumerate() if thread.name.startswith("decode")}
    assert started
    del batches
    for thread in started:
        thread.join(timeout=10)
    assert not any(thread.is_alive() for thread in started)


def test_the_number_of_threads_is_the_runs_or_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPTPATH_DECODERS", raising=False)
    assert num_decoders() == torch.get_num_threads()
    monkeypatch.setenv("OPTPATH_DECODERS", "0")
    assert num_decoders() == 0
    monkeypatch.setenv("OPTPATH_DECODERS", "many")
    with pytest.raises(UserError, match=r"OPTPATH_DECODERS: 'many' is no number of threads; give"):
        num_decoders()
