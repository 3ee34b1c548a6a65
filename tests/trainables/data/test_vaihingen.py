"""Tiles in ISPRS's layout: colours, splits, the cache, what is refused; and the stand-in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from trainables.data import tiles as tiles_module
from trainables.data.tiles import Tile, TileData
from trainables.data.tiles_files import TileFolder
from trainables.data.tiles_stand_in import StandInTiles, brightness_classes, photograph_files
from trainables.data.vaihingen import Vaihingen
from trainables.errors import UserError

# Typed from the contest's description and from INVENTORY B0.
COLOURS = [(255, 255, 255), (0, 0, 255), (0, 255, 255), (0, 255, 0), (255, 255, 0), (255, 0, 0)]
TRAIN = [1, 3, 5, 7, 11, 13, 15, 17, 21, 23, 26]
VALIDATION = [28, 30, 32, 34, 37]
TEST = [2, 4, 6, 8, 10, 12, 14, 16, 20, 22, 24, 27, 29, 31, 33, 35, 38]

FEW = Vaihingen(train_tiles=(1, 3), validation_tiles=(28,), patch_size=4)


def write_tile(root: Path, number: int, size: tuple[int, int] = (6, 9)) -> None:
    """A tile of `size` (height, width) whose pixels are its number; row i has class i mod 6."""
    folder = TileFolder(root / "vaihingen")
    folder.image(1).parent.mkdir(parents=True, exist_ok=True)
    folder.ground_truth(1).parent.mkdir(parents=True, exist_ok=True)
    height, width = size
    Image.new("RGB", (width, height), (number, 0, 255 - number)).save(folder.image(number))
    classes = np.array(COLOURS, dtype=np.uint8)[np.arange(height) % 6]
    mask = np.repeat(classes[:, None], width, axis=1)
    Image.fromarray(mask).save(folder.ground_truth(number))


@pytest.fixture
def folder(tmp_path: Path) -> TileFolder:
    """Tiles 1 and 3 to train on, 28 to validate."""
    for number in (1, 3, 28):
        write_tile(tmp_path, number)
    return TileFolder(tmp_path / "vaihingen")


def numbers(tiles: tuple[Tile, ...]) -> list[int]:
    return [int(tile.pixels[0, 0, 0]) for tile in tiles]


def all_tiles(data: TileData) -> list[Tile]:
    return [*data.train, *data.validation, *data.test]


# --- colours and splits ------------------------------------------------------------------------


def test_colours_are_the_contests_classes(folder: TileFolder, tmp_path: Path) -> None:
    data = FEW.load(tmp_path)
    names = "impervious surfaces, building, low vegetation, tree, car, clutter"
    assert ", ".join(data.class_names) == names
    for tile in all_tiles(data):
        assert tile.classes.tolist() == [[row] * 9 for row in range(6)]
        assert tile.pixels.shape == (6, 9, 3)


def test_tiles_are_split_by_number_as_in_p1(tmp_path: Path) -> None:
    for number in (*TRAIN, *VALIDATION, *TEST):
        write_tile(tmp_path, number)
    config = Vaihingen(patch_size=4)
    data = config.load(tmp_path)
    assert numbers(data.train) == TRAIN
    assert numbers(data.validation) == VALIDATION
    assert numbers(data.test) == TEST
    sizes = config.sizes(tmp_path)
    assert (sizes.train, sizes.validation, sizes.test) == (10_000, 5, 17)
    assert config.signature(tmp_path) == ((3, 4, 4), 6)
    assert Vaihingen().signature(tmp_path) == ((3, 256, 256), 6)


def test_without_ground_truth_of_test_tiles_there_is_no_test_split(
    folder: TileFolder, tmp_path: Path
) -> None:
    write_tile(tmp_path, 2)
    folder.ground_truth(2).unlink()  # as ISPRS published it at first
    assert FEW.sizes(tmp_path).test == 0
    assert FEW.load(tmp_path).test == ()
    assert FEW.resolved(tmp_path).test_tiles == ()


def test_some_ground_truth_of_the_test_tiles_is_not_silently_a_smaller_split(
    folder: TileFolder, tmp_path: Path
) -> None:
    write_tile(tmp_path, 2)
    with pytest.raises(UserError, match=r"area4\.tif: missing, a tile of the test split; .*test_t"):
        FEW.sizes(tmp_path)


# --- the cache ---------------------------------------------------------------------------------


def test_tiles_are_memory_mapped(folder: TileFolder, tmp_path: Path) -> None:
    for tile in all_tiles(FEW.load(tmp_path)):
        assert isinstance(tile.pixels, np.memmap)
        assert isinstance(tile.classes, np.memmap)


def test_files_are_decoded_once_and_anew_when_they_change(
    folder: TileFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert FEW.digest(tmp_path) is None
    FEW.prepare(tmp_path)
    first = FEW.load(tmp_path).digest
    assert FEW.digest(tmp_path) == first
    read: list[int] = []
    decode = TileFolder.read

    def noted(self: TileFolder, tile: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        read.append(tile)
        return decode(self, tile)

    monkeypatch.setattr(tiles_module.TileFolder, "read", noted)
    assert FEW.load(tmp_path).digest == first
    assert read == []
    write_tile(tmp_path, 3, size=(7, 9))
    assert FEW.digest(tmp_path) is None
    assert FEW.load(tmp_path).digest != first
    assert read == [1, 3, 28]


def test_another_split_of_the_same_tiles_is_other_data(folder: TileFolder, tmp_path: Path) -> None:
    swapped = FEW.model_copy(update={"train_tiles": (1, 28), "validation_tiles": (3,)})
    assert numbers(swapped.load(tmp_path).validation) == [3]
    assert swapped.load(tmp_path).digest != FEW.load(tmp_path).digest


# --- what is refused, before anything trains ---------------------------------------------------


def break_colour(folder: TileFolder) -> None:
    mask = np.asarray(Image.open(folder.ground_truth(3))).copy()
    mask[2, 5] = (0, 0, 0)
    Image.fromarray(mask).save(folder.ground_truth(3))


def convert(mode: str) -> Callable[[TileFolder], None]:
    def do(folder: TileFolder) -> None:
        Image.open(folder.image(3)).convert(mode).save(folder.image(3))

    return do


BROKEN: dict[str, tuple[Callable[[TileFolder], None], str]] = {
    "image missing": (
        lambda folder: folder.image(3).unlink(),
        r"top/top_mosaic_09cm_area3\.tif: missing, a tile of the train split; .*data\.train_tiles$",
    ),
    "no ground truth": (
        lambda folder: folder.ground_truth(28).unlink(),
        r"gts_for_participants/top_mosaic_09cm_area28\.tif: missing, so tile 28 of the validation "
        r"split has no ground truth; put it there, or take 28 out of data\.validation_tiles$",
    ),
    "no split": (
        lambda folder: folder.image(28).unlink(),
        r"top: no tile of the validation split \(28\) is there; .*data\.validation_tiles$",
    ),
    "unknown colour": (
        break_colour,
        r"gts_for_participants/top_mosaic_09cm_area3\.tif: colour \(0, 0, 0\) at row 2, column 5 "
        r"belongs to no class; known: impervious surfaces \(255, 255, 255\), .*black boundaries",
    ),
    "grey image": (convert("L"), r"top/.*area3\.tif: channels L \(mode L\) where red, green and"),
    "four channels": (convert("RGBA"), r"area3\.tif: channels R\+G\+B\+A \(mode RGBA\) where"),
    "sizes differ": (
        lambda folder: Image.new("RGB", (8, 6), COLOURS[0]).save(folder.ground_truth(3)),
        r"gts_for_participants/.*area3\.tif: 8x6 pixels, but .*top/.*area3\.tif has 9x6; replace",
    ),
    "smaller than a patch": (
        lambda folder: write_tile(folder.folder.parent, 3, size=(9, 3)),
        r"top/.*area3\.tif: 3x9 pixels, smaller than a patch; give data\.patch_size at most 3$",
    ),
    "no image at all": (
        lambda folder: folder.image(3).write_text("hello") and None,
        r"top/.*area3\.tif: corrupt image \(.*\); replace it by a good copy$",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_set_is_named_when_it_is_prepared(
    case: str, folder: TileFolder, tmp_path: Path
) -> None:
    spoil, message = BROKEN[case]
    spoil(folder)
    with pytest.raises(UserError, match=message) as found:
        FEW.prepare(tmp_path)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
@pytest.mark.parametrize("which", ["image", "ground_truth"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.5, 0.9])
def test_a_truncated_file_is_named(
    which: str, share: float, compression: str, folder: TileFolder, tmp_path: Path
) -> None:
    file: Path = getattr(folder, which)(3)
    pixels = np.random.default_rng(0).integers(256, size=(40, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, compression=compression)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match=rf"{file.parent.name}/{file.name}: corrupt image"):
        FEW.prepare(tmp_path)


def test_an_absent_set_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"vaihingen not found: looked for .*/vaihingen/top/.*area1"
    ):
        Vaihingen().sizes(tmp_path)


def test_a_tile_belongs_to_one_split() -> None:
    with pytest.raises(ValueError, match="tile 3 is named twice; give each tile to one split"):
        Vaihingen(train_tiles=(1, 3), validation_tiles=(3,))


# --- the stand-in ------------------------------------------------------------------------------


def test_the_stand_in_has_vaihingens_layout(tmp_path: Path) -> None:
    data = StandInTiles().load(tmp_path)
    written = StandInTiles().folder(tmp_path).folder
    files = sorted(str(file.relative_to(written)) for file in written.rglob("*.tif"))
    assert files == sorted(
        f"{part}/top_mosaic_09cm_area{number}.tif"
        for part in ("top", "gts_for_participants")
        for number in (*TRAIN, *VALIDATION, *TEST)
    )
    read = Vaihingen(path=str(written), patch_size=32).load(tmp_path)
    assert read.digest == data.digest
    assert [len(split) for split in (data.train, data.validation, data.test)] == [11, 5, 17]


def test_every_split_of_the_stand_in_has_every_class(tmp_path: Path) -> None:
    data = StandInTiles().load(tmp_path)
    for tiles in (data.train, data.validation, data.test):
        assert {int(c) for tile in tiles for c in np.unique(tile.classes)} == set(range(6))


def test_the_stand_ins_pixels_are_the_photographs(tmp_path: Path) -> None:
    data = StandInTiles().load(tmp_path)
    photographs = [np.asarray(Image.open(file)) for file in photograph_files()]
    for k, tile in enumerate(all_tiles(data)):
        height, width, _ = tile.pixels.shape
        places = np.argwhere((photographs[k % 2] == tile.pixels[0, 0]).all(axis=2))
        assert any(
            np.array_equal(photographs[k % 2][y : y + height, x : x + width], tile.pixels)
            for y, x in places
        )


def test_the_stand_ins_classes_are_sixths_of_the_brightness() -> None:
    pixels = np.random.default_rng(0).integers(256, size=(60, 70, 3), dtype=np.uint8)
    classes = brightness_classes(pixels)
    brightness = pixels.astype(int).sum(axis=2)
    for darker, brighter in ((0, 1), (2, 3), (4, 5)):
        assert brightness[classes == darker].max() < brightness[classes == brighter].min()
    shares = np.bincount(classes.ravel()) / classes.size
    assert shares == pytest.approx(np.full(6, 1 / 6), abs=0.01)


def test_the_stand_in_says_that_it_is_one() -> None:
    assert StandInTiles.name.startswith("stand_in")
    assert StandInTiles.citation.startswith("Stand-in")
    assert "photographs" in (StandInTiles.__doc__ or "")


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / ".optpath-cache").write_text("a file")
    with pytest.raises(UserError, match=r"cannot store the stand-in tiles there .*OPTPATH_DATA"):
        StandInTiles().load(tmp_path)
