"""Data: MNIST and CIFAR-10 in torchvision's files, missing, corrupt, and as real images."""

from __future__ import annotations

import gzip
import hashlib
import os
import pickle
import shutil
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from trainables.data import cifar10, mnist
from trainables.data.cifar10 import CIFAR10
from trainables.data.contract import DataConfig
from trainables.data.image_folder import ImageFolder
from trainables.data.images import statistics
from trainables.data.mnist import MNIST
from trainables.data.registry import DATA
from trainables.errors import UserError

Helper = Callable[..., Any]

REAL = Path(os.environ.get("OPTPATH_TEST_DATA", Path(__file__).parents[3].parent / "shared/data"))


# --- data that are missing ---------------------------------------------------------------------


@pytest.mark.parametrize("ask", ["resolved", "sizes", "prepare", "load"])
@pytest.mark.parametrize("name", ["cifar10", "mnist"])
def test_missing_data_say_where_they_were_looked_for_and_how_to_get_them(
    name: str, ask: str, tmp_path: Path
) -> None:
    official = {"cifar10": "cifar-10-python.tar.gz", "mnist": "MNIST/raw/train-images-idx3-ubyte"}
    with pytest.raises(UserError) as error:
        getattr(DATA[name](), ask)(tmp_path)
    message = str(error.value)
    assert message.startswith(
        f"data {name} not found: looked for {tmp_path}/{name}/{{train,test}}/"
    )
    assert official[name] in message
    assert "OPTPATH_DOWNLOAD=1" in message
    assert message.endswith("set OPTPATH_DATA to the folder that has one of them")
    assert "\n" not in message


def test_a_missing_tree_does_not_offer_the_download_of_another_layout(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not found") as error:
        CIFAR10(layout="folder").sizes(tmp_path)
    assert "OPTPATH_DOWNLOAD" not in str(error.value)


def test_a_missing_image_folder_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"looked for {tmp_path}/pets/train/<class>/ .*data\.path"):
        ImageFolder(path="pets").sizes(tmp_path)


def test_download_is_asked_of_torchvision_only_when_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(root: str, **options: Any) -> None:
        raise OSError(f"no route from {root} {options}")

    monkeypatch.setattr("torchvision.datasets.CIFAR10", unreachable)
    with pytest.raises(UserError, match="not found"):
        CIFAR10().prepare(tmp_path)
    monkeypatch.setenv("OPTPATH_DOWNLOAD", "1")
    assert CIFAR10().sizes(tmp_path).train == 40_000  # known before the download
    with pytest.raises(UserError, match=rf"download to {tmp_path} failed .*'download': True"):
        CIFAR10().prepare(tmp_path)


# --- torchvision's files -----------------------------------------------------------------------


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-30])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def make_text(file: Path) -> None:
    file.write_text("no data at all")


def write_idx(file: Path, array: NDArray[np.uint8]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    file.write_bytes(header + array.tobytes())


def mnist_files(root: Path, monkeypatch: pytest.MonkeyPatch) -> NDArray[np.uint8]:
    images = np.random.default_rng(2).integers(0, 256, (30, 28, 28), dtype=np.uint8)
    labels = np.arange(30, dtype=np.uint8) % 10
    raw = root / "MNIST/raw"
    write_idx(raw / "train-images-idx3-ubyte", images[:20])
    write_idx(raw / "train-labels-idx1-ubyte", labels[:20])
    write_idx(raw / "t10k-images-idx3-ubyte", images[20:])
    write_idx(raw / "t10k-labels-idx1-ubyte", labels[20:])
    monkeypatch.setattr(MNIST, "official_counts", {"train": 20, "test": 10})
    return images


def test_mnist_reads_what_torchvision_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import MNIST as TorchvisionMNIST  # noqa: N811

    mnist_files(tmp_path, monkeypatch)
    data = MNIST().resolved(tmp_path).load(tmp_path)
    oracle = TorchvisionMNIST(str(tmp_path), train=True)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(1))
    both = np.concatenate([data.train.images, data.validation.images])
    assert np.array_equal(both[:, 0], oracle.data[order].numpy())
    assert np.array_equal(data.train.labels, oracle.targets[order][:16].numpy())


def test_mnist_unpacks_downloaded_archives_without_leave_to_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import MNIST as TorchvisionMNIST  # noqa: N811

    images = mnist_files(tmp_path, monkeypatch)
    published = {}
    for name in mnist.ARCHIVES:
        file = tmp_path / "MNIST/raw" / name
        archive = file.with_name(f"{name}.gz")
        archive.write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
        published[name] = hashlib.md5(archive.read_bytes()).hexdigest()
    monkeypatch.setattr(mnist, "ARCHIVES", published)
    resources = [(f"{name}.gz", md5) for name, md5 in published.items()]
    monkeypatch.setattr(TorchvisionMNIST, "resources", resources)
    data = MNIST(validation_fraction=0).load(tmp_path)
    assert sorted(map(bytes, data.validation.images)) == sorted(map(bytes, images[20:]))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (truncate, r"15666 bytes, 15696 expected"),
        (make_text, "no IDX file of bytes"),
        (empty, "no IDX file of bytes"),
        (lambda file: write_idx(file, np.zeros((19, 28, 28), np.uint8)), r"holds \(19, 28, 28\)"),
    ],
)
def test_a_corrupt_mnist_file_is_named(
    damage: Callable[[Path], None], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mnist_files(tmp_path, monkeypatch)
    damage(tmp_path / "MNIST/raw/train-images-idx3-ubyte")
    with pytest.raises(UserError, match=rf"train-images-idx3-ubyte: corrupt \({reason}.*DOWNLOAD"):
        MNIST().prepare(tmp_path)


def test_a_missing_mnist_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mnist_files(tmp_path, monkeypatch)
    (tmp_path / "MNIST/raw/t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(UserError, match=r"t10k-labels-idx1-ubyte: missing, although other files"):
        MNIST().prepare(tmp_path)


def test_files_with_other_numbers_of_images_are_not_mnist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mnist_files(tmp_path, monkeypatch)
    monkeypatch.setattr(MNIST, "official_counts", {"train": 21, "test": 10})
    with pytest.raises(UserError, match="20 train images where there are 21"):
        MNIST().prepare(tmp_path)


def cifar_files(root: Path, monkeypatch: pytest.MonkeyPatch) -> NDArray[np.uint8]:
    """Torchvision's files with 4 images in each batch, with NumPy 1's dtypes."""
    from torchvision.datasets import CIFAR10 as TorchvisionCIFAR10  # noqa: N811

    folder = root / "cifar-10-batches-py"
    folder.mkdir()
    images = np.random.default_rng(3).integers(0, 256, (24, 3072), dtype=np.uint8)
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    contents: dict[str, Any] = {
        name: {"data": images[4 * i : 4 * i + 4], "labels": [0, 1, 2, i]}
        for i, name in enumerate(names)
    } | {"batches.meta": {"label_names": list(CIFAR10.class_names)}}
    published = {}
    for name, content in contents.items():
        # NumPy 2 pickles dtype("u1", False, True), NumPy 1 dtype("u1", 0, 1), of which 2.4.0 to
        # 2.4.4 warns; dtype("u1", 1, 1) makes every later one warn in the same words.
        pickled = pickle.dumps(content, protocol=2).replace(b"\x89\x88\x87", b"K\x01K\x01\x87")
        (folder / name).write_bytes(pickled)
        published[name] = hashlib.md5(pickled).hexdigest()
    meta = {"filename": "batches.meta", "key": "label_names", "md5": published.pop("batches.meta")}
    monkeypatch.setattr(TorchvisionCIFAR10, "meta", meta)
    pairs = [list(pair) for pair in published.items()]
    monkeypatch.setattr(TorchvisionCIFAR10, "train_list", pairs[:5])
    monkeypatch.setattr(TorchvisionCIFAR10, "test_list", pairs[5:])
    monkeypatch.setattr(CIFAR10, "official_counts", {"train": 20, "test": 4})
    return images.reshape(24, 3, 32, 32)


def test_cifar10_reads_torchvisions_files_without_numpys_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = cifar_files(tmp_path, monkeypatch)
    batch = (tmp_path / "cifar-10-batches-py/test_batch").read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what NumPy 2.4 says, which no user is to read
        assert np.array_equal(pickle.loads(batch)["data"].reshape(-1, 3, 32, 32), images[20:])
    data = CIFAR10().resolved(tmp_path).load(tmp_path)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(1)).numpy()
    assert np.array_equal(data.train.images, images[:20][order[:16]])
    assert np.array_equal(data.validation.images, images[:20][order[16:]])


def test_torchvisions_files_come_before_a_tree_and_the_layout_is_then_an_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cifar_tree: Helper
) -> None:
    cifar_tree(tmp_path)
    assert CIFAR10().resolved(tmp_path) == CIFAR10(layout="folder")
    cifar_files(tmp_path, monkeypatch)
    assert CIFAR10().resolved(tmp_path) == CIFAR10(layout="torchvision")
    assert CIFAR10(layout="folder").resolved(tmp_path).sizes(tmp_path).train == 80


def test_a_cifar10_file_with_another_md5_is_never_unpickled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cifar_files(tmp_path, monkeypatch)
    file = tmp_path / "cifar-10-batches-py/data_batch_3"
    file.write_bytes(b"cos\nabort\n.")  # would end the process if it were unpickled
    with pytest.raises(UserError, match=r"data_batch_3: corrupt \(its md5 .*OPTPATH_DOWNLOAD=1"):
        CIFAR10().prepare(tmp_path)


def pack(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from torchvision.datasets import CIFAR10 as TorchvisionCIFAR10  # noqa: N811

    archive = root / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(root / "cifar-10-batches-py", "cifar-10-batches-py")
    shutil.rmtree(root / "cifar-10-batches-py")
    md5 = hashlib.md5(archive.read_bytes()).hexdigest()
    monkeypatch.setattr(cifar10, "ARCHIVE_MD5", md5)
    monkeypatch.setattr(TorchvisionCIFAR10, "tgz_md5", md5)
    return archive


def test_a_downloaded_archive_is_unpacked_without_leave_to_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = cifar_files(tmp_path, monkeypatch)
    pack(tmp_path, monkeypatch)
    data = CIFAR10().load(tmp_path)
    assert data.test is not None
    assert sorted(map(bytes, data.test.images)) == sorted(map(bytes, images[20:]))


def test_a_corrupt_archive_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cifar_files(tmp_path, monkeypatch)
    truncate(pack(tmp_path, monkeypatch))
    with pytest.raises(UserError, match=r"cifar-10-python\.tar\.gz: corrupt .*delete it and set"):
        CIFAR10().prepare(tmp_path)


def test_checksums_and_constants_are_torchvisions() -> None:
    from torchvision import datasets
    from torchvision.datasets.folder import IMG_EXTENSIONS

    from trainables.data.folders import EXTENSIONS

    root = Path("r")
    official = datasets.CIFAR10
    batches = [*official.train_list, *official.test_list]
    names = [*(name for name, _ in batches), official.meta["filename"]]
    assert [file.name for file in CIFAR10().official_files(root)] == names
    assert CIFAR10().official_archives(root) == {root / official.filename: official.tgz_md5}
    archives = {path.name: md5 for path, md5 in MNIST().official_archives(root).items()}
    assert archives == dict(datasets.MNIST.resources)
    assert set(EXTENSIONS) == set(IMG_EXTENSIONS)


# --- real images -------------------------------------------------------------------------------


def unpack(archive: str, folder: Path, per_class: int) -> None:
    """The first images of each class of the real archive, in a tree."""
    file = REAL / archive
    if not file.is_file():
        pytest.skip(f"no {archive} in {REAL}; set OPTPATH_TEST_DATA to the folder that has it")
    taken: dict[str, int] = {}
    with zipfile.ZipFile(file) as content:
        for name in content.namelist():
            parent = str(Path(name).parent)
            if not name.endswith("/") and taken.setdefault(parent, 0) < per_class:
                taken[parent] += 1
                content.extract(name, folder)


@pytest.mark.parametrize(
    ("config", "archive"),
    [(CIFAR10(), "cifar10-jpeg.zip"), (MNIST(), "mnist-png.zip")],
    ids=["cifar10", "mnist"],
)
def test_real_images_in_the_published_tree(
    config: DataConfig, archive: str, tmp_path: Path
) -> None:
    unpack(archive, tmp_path / Path(archive).stem, per_class=25)
    config = config.resolved(tmp_path)
    sizes = config.sizes(tmp_path)
    assert (sizes.train, sizes.validation, sizes.test) == (200, 50, 250)
    data = config.load(tmp_path)
    assert data.test is not None
    assert np.bincount(data.test.labels).tolist() == [25] * 10
    mean, std = statistics(data.train.images)
    # Within what 200 images can say about the published constants.
    assert mean == pytest.approx(data.mean, abs=0.05)
    assert std == pytest.approx(data.std, abs=0.07)
    assert len(set(map(bytes, data.train.images))) == 200
