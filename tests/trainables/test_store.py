"""The store: whole files or none, seals that break, locks that hold."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from trainables.errors import UserError
from trainables.store import (
    STORE_VERSION,
    Folder,
    Store,
    StoreDamaged,
    read_sealed,
    read_table,
    read_tensors,
    write_bytes,
    write_json,
    write_sealed,
    write_table,
    write_tensors,
    write_yaml,
)

VALUES = {"name": "ä", "rate": 1e-05, "list": [1, 2.5, None], "nested": {"b": True, "a": 0.1 + 0.2}}


def flipped(content: bytes, spot: int, bit: int = 0) -> bytes:
    return content[:spot] + bytes([content[spot] ^ (1 << bit)]) + content[spot + 1 :]


def test_a_seal_gives_the_values_back(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "manifest.json"
    assert read_sealed(path) is None
    write_sealed(path, VALUES)
    assert read_sealed(path) == {"store_version": STORE_VERSION, **VALUES}


def test_any_flipped_bit_breaks_the_seal(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    write_sealed(path, VALUES)
    content = path.read_bytes()
    for spot in range(len(content)):
        for bit in (0, 5):  # another character; another case, as in 1e-05 and 1E-05
            path.write_bytes(flipped(content, spot, bit))
            with pytest.raises(StoreDamaged, match=r"manifest\.json: (altered|not a manifest)"):
                read_sealed(path)
    path.write_bytes(content)
    assert read_sealed(path) is not None


@pytest.mark.parametrize("content", [b"", b"[]", b"3", b"null", b"{}", b'{"digest": 1}', b"\xff"])
def test_what_is_no_manifest_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "manifest.json"
    path.write_bytes(content)
    with pytest.raises(StoreDamaged, match=r"manifest\.json: .*delete its folder and run again"):
        read_sealed(path)


def test_a_newer_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    write_sealed(path, {"store_version": STORE_VERSION + 1})
    with pytest.raises(UserError, match="written by a newer optpath; upgrade optpath"):
        read_sealed(path)


def test_what_has_no_place_in_json_is_not_written(tmp_path: Path) -> None:
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="not JSON compliant"):
            write_sealed(tmp_path / "manifest.json", {"value": value})
    assert not list(tmp_path.iterdir())


def test_a_manifest_names_its_files_and_finds_the_bad_one(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    names = ["a.txt", "sub/b.txt"]
    for name in names:
        write_bytes(tmp_path / name, name.encode())
    folder.check_files()  # not sealed, so nothing is promised
    folder.write_manifest({"x": 1}, names)
    folder.check_files()
    assert (folder.manifest() or {})["files"].keys() == set(names)
    write_bytes(tmp_path / "a.txt", b"a.txu")
    with pytest.raises(StoreDamaged, match=r"a\.txt: content differs from its manifest's SHA-256"):
        folder.check_files()
    (tmp_path / "a.txt").unlink()
    with pytest.raises(StoreDamaged, match=r"a\.txt: missing, though its manifest names it"):
        folder.check_files()


def test_a_manifest_of_a_missing_file_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Folder(tmp_path).write_manifest({}, ["absent.txt"])
    assert Folder(tmp_path).manifest() is None


def test_a_write_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_bytes(path, b"old")

    def fail(descriptor: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space left"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"


def test_leftovers_of_killed_writers_are_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in (".steps.parquet.12.tmp", "references/.9.safetensors.7.tmp", "kept.tmp", ".kept"):
        write_bytes(tmp_path / name, b"half")
    Folder(tmp_path).remove_leftovers()
    left = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"kept.tmp", ".kept"}


def test_tensors_come_back_bit_for_bit(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    tensors = {
        "weights": torch.randn(300),
        "view": torch.randn(4, 6).t(),
        "count": torch.tensor(3),
        "half": torch.randn(5).bfloat16(),
        "nan": torch.tensor([float("nan"), -0.0]),
    }
    write_tensors(path, tensors, {"step": "4"})
    back, metadata = read_tensors(path)
    assert metadata == {"step": "4"}
    assert back.keys() == tensors.keys()
    for name, value in tensors.items():
        assert back[name].dtype == value.dtype
        assert back[name].shape == value.shape
        assert (
            back[name].numpy(force=True).tobytes() == value.contiguous().numpy().tobytes()
            if (value.dtype != torch.bfloat16)
            else torch.equal(back[name], value)
        )


@pytest.mark.parametrize("content", [b"", b"no tensors here", b"\x80\x04K\x01."])
def test_unreadable_tensors_are_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(StoreDamaged, match=r"a\.safetensors: not readable"):
        read_tensors(path)
    with pytest.raises(StoreDamaged, match=r"absent\.safetensors: not readable"):
        read_tensors(tmp_path / "absent.safetensors")


def test_a_table_comes_back_and_is_written_the_same_twice(tmp_path: Path) -> None:
    values = random.Random(0)
    table = pd.DataFrame(
        {
            "run_id": ["r"] * 4,
            "step": np.arange(4),
            "gamma": [values.random(), np.nan, -0.0, 1e-300],
        }
    )
    for name in ("a.parquet", "b.parquet"):
        write_table(tmp_path / name, table)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    back = read_table(tmp_path / "a.parquet")
    pd.testing.assert_frame_equal(back, table, check_exact=True)
    assert np.signbit(back["gamma"][2])


def test_names_of_sweeps_are_those_with_a_plan(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.sweep_names() == []
    for name in ("b", "a"):
        write_json(store.sweep(name).path / "plan.json", {})
    write_yaml(store.sweep("unplanned").path / "spec.yaml", {})
    assert store.sweep_names() == ["a", "b"]


def test_a_lock_excludes_and_is_given_back(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "t")
    with folder.lock():
        start = time.monotonic()
        with (
            pytest.raises(UserError, match="in use by another process; wait for that sweep"),
            folder.lock(patience_seconds=0.25),
        ):
            pass
        assert time.monotonic() - start >= 0.25
        with Folder(tmp_path / "other").lock(patience_seconds=0):
            pass
    with pytest.raises(ZeroDivisionError), folder.lock(patience_seconds=0):
        _ = 1 / 0
    with folder.lock(patience_seconds=0):
        pass


HOLDER = """
import fcntl, os, signal, sys, time
handle = open(sys.argv[1], "a")
fcntl.flock(handle, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(float(sys.argv[2]))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_lock_outlives_no_killed_process_and_is_waited_for(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    arguments = [sys.executable, "-S", "-c", HOLDER, str(tmp_path / "lock"), "0.4"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="in use"), folder.lock(patience_seconds=0):
            pass
        with folder.lock(patience_seconds=30):
            assert holder.wait() == -9


def test_files_are_readable_text_where_people_look(tmp_path: Path) -> None:
    write_yaml(tmp_path / "config.yaml", {"batch_size": 3, "a": [1]})
    assert (tmp_path / "config.yaml").read_text() == "batch_size: 3\na:\n- 1\n"
    write_sealed(tmp_path / "manifest.json", {"status": "done"})
    assert json.loads((tmp_path / "manifest.json").read_text())["status"] == "done"
