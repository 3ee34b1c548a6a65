"""Token files: layouts, vocabularies, the index, and what is wrong with them."""

from __future__ import annotations

import importlib.util
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from trainables.data.ptb import PTB
from trainables.data.text import TextConfig, TextData, TextSplit
from trainables.data.wikitext import WikiText2, WikiText103
from trainables.errors import UserError

REAL = Path(os.environ.get("OPTPATH_TEST_DATA", Path(__file__).parents[3].parent / "shared/data"))

TRAIN = " = Cats = \n\n The cat sat on the mat . \n the cat <unk> . "
VALID = "The dog sat . \n\n"
TEST = " the mat \n"


def write(root: Path, folder: str, name: str, **splits: str | bytes) -> Path:
    for split, text in splits.items():
        file = root / folder / name.format(split=split)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return root


def wikitext(root: Path, **splits: str | bytes) -> Path:
    given: dict[str, str | bytes] = {"train": TRAIN, "valid": VALID, "test": TEST, **splits}
    return write(root, "wikitext-2", "wiki.{split}.tokens", **given)


def line(split: TextSplit, index: int) -> list[int]:
    return split.tokens[split.starts[index] : split.starts[index + 1]].tolist()


def lines(split: TextSplit) -> list[list[int]]:
    return [line(split, i) for i in range(len(split))]


# --- numbers -----------------------------------------------------------------------------------


def test_words_are_numbered_as_they_come_and_every_line_ends(tmp_path: Path) -> None:
    data = WikiText2().load(wikitext(tmp_path))
    # <eos> 0, <unk> 1, = 2, Cats 3, The 4, cat 5, sat 6, on 7, the 8, mat 9, . 10
    assert lines(data.train) == [[2, 3, 2, 0], [0], [4, 5, 6, 7, 8, 9, 10, 0], [8, 5, 1, 10, 0]]
    assert data.num_words == 11
    assert data.train.tokens.dtype == np.int32
    assert data.train.starts.dtype == np.int64


def test_the_vocabulary_is_the_training_splits_and_other_words_are_unknown(tmp_path: Path) -> None:
    data = WikiText2().load(wikitext(tmp_path))
    assert lines(data.validation) == [[4, 1, 6, 10, 0], [0]]
    assert data.test is not None
    assert lines(data.test) == [[8, 9, 0]]


def test_rare_words_are_unknown_if_asked_for(tmp_path: Path) -> None:
    text = "the cat the dog \n cat the ."
    data = WikiText2(least_count=2).load(wikitext(tmp_path, train=text))
    assert lines(data.train) == [[2, 3, 2, 1, 0], [3, 2, 1, 0]]
    assert data.num_words == 4


def test_the_authors_vocabulary_is_lower_case_frequent_and_smaller_than_the_network(
    tmp_path: Path,
) -> None:
    text = "The cat the Cat \n the dog the cat \n\n cat The end cat ."
    data = WikiText2(vocabulary="authors").load(wikitext(tmp_path, train=text, valid="Cat dog"))
    # the 5, cat 5: <unk> 0, <pad> 1, the 2, cat 3; no end of line
    assert lines(data.train) == [[2, 3, 2, 3], [2, 0, 2, 3], [], [3, 2, 0, 3, 0]]
    assert lines(data.validation) == [[3, 0]]
    assert data.padding == 1
    assert data.num_words == len({"<eos>", "<unk>", *text.split()})
    assert data.train.tokens.max() < data.num_words


def test_white_space_of_every_kind_separates_words_and_only_newlines_lines(tmp_path: Path) -> None:
    data = WikiText2().load(wikitext(tmp_path, train="a\u00a0b\tc\r\nd\u2028e\n", valid="a b\nd e"))
    assert [len(words) for words in lines(data.train)] == [4, 3]
    assert lines(data.validation) == [[2, 3, 0], [5, 6, 0]]


# --- splits and limits -------------------------------------------------------------------------


def test_sizes_count_lines_before_and_after_the_index_is_there(tmp_path: Path) -> None:
    root = wikitext(tmp_path)
    config = WikiText2()
    before = config.sizes(root)
    assert (before.train, before.validation, before.test) == (4, 2, 1)
    config.prepare(root)
    assert config.sizes(root) == before


def test_limits_take_the_first_lines_and_keep_the_vocabulary(tmp_path: Path) -> None:
    root = wikitext(tmp_path)
    whole = WikiText2().load(root)
    part = WikiText2(train_examples=2, validation_examples=1).load(root)
    assert lines(part.train) == lines(whole.train)[:2]
    assert len(part.train.tokens) == 5
    assert lines(part.validation) == lines(whole.validation)[:1]
    assert (part.num_words, part.digest) == (whole.num_words, whole.digest)


def test_the_test_split_can_stand_in_for_a_training_split(tmp_path: Path) -> None:
    root = write(tmp_path, "wikitext-2", "{split}.txt", valid=VALID, test=TRAIN)
    data = WikiText2(training_split="test").load(root)
    assert len(data.train) == 4
    assert data.test is None
    assert WikiText2(training_split="test").sizes(root).test == 0


@pytest.mark.parametrize(
    ("config", "folder", "name"),
    [
        (WikiText2(), "wikitext-2", "wiki.{split}.tokens"),
        (WikiText2(), "wikitext-2-v1", "{split}.txt"),
        (WikiText103(), "wikitext-103", "wiki.{split}.tokens"),
        (PTB(), "ptb", "ptb.{split}.txt"),
        (PTB(), "simple-examples/data", "ptb.{split}.txt"),
        (PTB(), "penn", "{split}.txt"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_usual_layouts_are_found(
    config: TextConfig, folder: str, name: str, tmp_path: Path
) -> None:
    usual = WikiText2().load(wikitext(tmp_path / "usual"))
    found = config.load(write(tmp_path, folder, name, train=TRAIN, valid=VALID, test=TEST))
    assert found.digest == usual.digest


def test_a_zip_file_is_read_as_it_is(tmp_path: Path) -> None:
    usual = WikiText2().load(wikitext(tmp_path / "usual"))
    with zipfile.ZipFile(tmp_path / "wikitext-2-v1.zip", "w") as archive:
        for split, text in (("train", TRAIN), ("valid", VALID), ("test", TEST)):
            archive.writestr(f"wikitext-2/wiki.{split}.tokens", text)
    assert WikiText2().sizes(tmp_path).train == 4
    assert WikiText2().load(tmp_path).digest == usual.digest


# --- the index ---------------------------------------------------------------------------------


def test_the_index_is_made_once_and_anew_when_a_file_changes(tmp_path: Path) -> None:
    root = wikitext(tmp_path)
    first = WikiText2().load(root).digest
    made = {file: file.stat().st_mtime_ns for file in (root / ".optpath-cache").iterdir()}
    assert WikiText2().load(root).digest == first
    assert {f: f.stat().st_mtime_ns for f in (root / ".optpath-cache").iterdir()} == made
    wikitext(root, train=TRAIN + "\n more")
    assert WikiText2().load(root).digest != first


def test_the_arrays_are_memory_mapped(tmp_path: Path) -> None:
    data = WikiText2().load(wikitext(tmp_path))
    assert isinstance(data.train.tokens, np.memmap)


def test_published_files_are_known_by_their_number_of_lines(tmp_path: Path) -> None:
    root = wikitext(tmp_path, train="\n" * 36_718, valid="\n" * 3_760, test="\n" * 4_358)
    assert WikiText2().signature(root) == ((), 33_278)
    assert WikiText2().num_tokens(root) == 2_088_628
    assert not (root / ".optpath-cache").exists()


def test_other_files_are_counted(tmp_path: Path) -> None:
    root = wikitext(tmp_path)
    assert WikiText2().signature(root) == ((), 11)
    assert WikiText2().num_tokens(root) == 18
    assert WikiText2(train_examples=2).num_tokens(root) == 5


# --- mistakes ----------------------------------------------------------------------------------


def test_nothing_there_says_where_it_looked_and_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(
        UserError,
        match=r"data wikitext2 not found: looked for .*wikitext-2/wiki\.train\.tokens, .*"
        r"wikitext-2-v1\.zip.* \(or train\.txt\); set OPTPATH_DOWNLOAD=1 .*OPTPATH_DATA",
    ) as caught:
        WikiText2().sizes(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_missing_split_is_named_and_the_stand_in_offered(tmp_path: Path) -> None:
    root = write(tmp_path, "wikitext-2", "{split}.txt", valid=VALID, test=TEST)
    with pytest.raises(
        UserError,
        match=r"wikitext-2/train\.txt: missing, although other files of wikitext2 are there; "
        r"put it beside them, or set data\.training_split=test to train on that small split$",
    ):
        WikiText2().sizes(root)
    root = write(tmp_path / "other", "ptb", "ptb.{split}.txt", train=TRAIN, test=TEST)
    with pytest.raises(UserError, match=r"ptb\.valid\.txt: missing, .*put it beside them$"):
        PTB().sizes(root)


def test_a_file_in_another_encoding_is_named_with_its_line(tmp_path: Path) -> None:
    root = wikitext(tmp_path, train="good line\n caf\u00e9 \n".encode("latin-1"))
    with pytest.raises(
        UserError,
        match=r"wiki\.train\.tokens: line 2 is not UTF-8 \(invalid continuation byte at byte 4 of "
        r"the line\); convert the file to UTF-8$",
    ):
        WikiText2().prepare(root)


def test_a_file_without_words_is_named(tmp_path: Path) -> None:
    root = wikitext(tmp_path, valid=b"")
    with pytest.raises(UserError, match=r"wiki\.valid\.tokens: holds no word; put the validation"):
        WikiText2().prepare(root)


def test_a_damaged_zip_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "wikitext-2-v1.zip").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(UserError, match=r"wikitext-2-v1\.zip: not readable \(.*put a whole file"):
        WikiText2().sizes(tmp_path)


@pytest.mark.skipif(
    importlib.util.find_spec("datasets") is not None, reason="the datasets library is installed"
)
def test_downloading_without_the_extra_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPTPATH_DOWNLOAD", "1")
    assert WikiText2().sizes(tmp_path).train == 36_718
    assert WikiText2(training_split="test").sizes(tmp_path).train == 4_358
    with pytest.raises(UserError, match=r"data wikitext2: .*pip install 'optpath\[text\]'"):
        WikiText2().prepare(tmp_path)


# --- real text ---------------------------------------------------------------------------------


def real(root: Path, config: type[TextConfig], folder: str) -> TextData:
    """The real validation and test files, linked beside a cache that can be written."""
    if not (REAL / folder).is_dir():
        pytest.skip(f"no {folder} in {REAL}; set OPTPATH_TEST_DATA to the folder that has it")
    (root / config.folders[0]).symlink_to(REAL / folder)
    return config(training_split="test").load(root)


def test_real_wikitext_has_the_published_numbers_of_words(tmp_path: Path) -> None:
    data = real(tmp_path, WikiText2, "wikitext-2")
    assert (len(data.train), len(data.validation)) == (4_358, 3_760)
    # 241,211 and 213,886 words, and an end of each line
    assert (len(data.train.tokens), len(data.validation.tokens)) == (245_569, 217_646)
    assert data.num_words == 14_143  # by a count of its own: 14,142 words and the end of a line


def test_real_ptb_has_the_published_numbers_of_words(tmp_path: Path) -> None:
    data = real(tmp_path, PTB, "ptb")
    assert (len(data.train), len(data.validation)) == (3_761, 3_370)
    assert (len(data.train.tokens), len(data.validation.tokens)) == (82_430, 73_760)
    assert data.num_words < 10_000
