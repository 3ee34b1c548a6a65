"""Other files under the same names: no pass is built on results of the former ones."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from sweeps.identity import trajectory_id
from tests.trainables.samples import write_images
from trainables.config import RunConfig
from trainables.errors import UserError
from trainables.job import Job, Place, Progress, RunJob
from trainables.passes import work
from trainables.reference import CHECKPOINT, load_record
from trainables.store import Store

CONFIG: dict[str, Any] = {
    "data": {"name": "image_folder", "size": 8, "grey": True},
    "model": {"name": "mlp", "hidden": [4]},
    "batch_size": 8,
    "budget": {"epochs": 3},
}
"""Three epochs of two steps."""


@pytest.fixture
def roots(tmp_path: Path) -> tuple[Path, Path]:
    """Two data folders with the same names of files, and other images in them."""
    former, present = tmp_path / "former", tmp_path / "present"
    for seed, root in enumerate((former, present)):
        write_images(root, seed)
    return former, present


def config(**options: Any) -> RunConfig:
    return RunConfig.parse({**CONFIG, **options})


def do(store: Store, root: Path, run: RunConfig, **job: Any) -> Iterator[Progress]:
    place = Place(store, root, torch.device("cpu"), 1, checkpoint_seconds=0)
    return work(Job("t", (RunJob("a", run),), **job), place)


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def refusal(what: str, former: Path, present: Path, digest: str) -> str:
    found = RunConfig.parse(CONFIG).data.digest(present)
    assert found is not None
    words = (
        f"{what}: computed from data image_folder with digest {digest[:12]}, and those in "
        f"{present} have {found[:12]} now; point OPTPATH_DATA at the former, or keep the results "
        "of these apart: --storage DIR"
    )
    return f"^{re.escape(words)}$"


def test_a_reference_pass_is_not_measured_again_with_other_data(
    store: Store, roots: tuple[Path, Path]
) -> None:
    former, present = roots
    list(do(store, former, config()))
    record = load_record(store.trajectory("t"))
    assert record is not None
    store.run("a").manifest_path.unlink()
    before = files(store.trajectory("t").path)
    config().data.prepare(present)
    with pytest.raises(UserError, match=refusal("trajectory t", *roots, record.data_digest)):
        list(do(store, present, config(probes=["path", "layers"])))
    assert files(store.trajectory("t").path) == before
    list(do(store, former, config(probes=["path", "layers"])))
    assert store.run("a").manifest() is not None


@pytest.mark.parametrize("num_yields", [2, 3 + 2], ids=["reference", "replay"])
def test_a_pass_does_not_go_on_from_its_checkpoint_with_other_data(
    store: Store, tmp_path: Path, roots: tuple[Path, Path], num_yields: int
) -> None:
    former, present = roots
    working = do(store, former, config())
    phases = [next(working).phase for _ in range(num_yields)]
    working.close()
    assert phases[-1] == ("reference" if num_yields == 2 else "replay")
    assert (store.trajectory("t").path / CHECKPOINT).is_file()
    with pytest.raises(UserError, match="trajectory t: computed from data image_folder with"):
        list(do(store, present, config()))
    list(do(store, former, config()))
    whole = Store(tmp_path / "whole")
    list(do(whole, former, config()))
    assert files(store.run("a").path) == files(whole.run("a").path)


def test_the_same_files_elsewhere_are_no_other_data(
    store: Store, tmp_path: Path, roots: tuple[Path, Path]
) -> None:
    former, _ = roots
    working = do(store, former, config())
    next(working)
    working.close()
    shutil.copytree(former / "images", tmp_path / "copy" / "images")
    steps = [progress.step for progress in do(store, tmp_path / "copy", config())]
    assert steps == [4, 6, 2, 4, 6], "the reference pass goes on after its first epoch"


def test_another_seed_s_reference_from_other_data_is_not_measured_against(
    store: Store, roots: tuple[Path, Path]
) -> None:
    former, present = roots
    run = config(probes=["path", {"name": "references", "seeds": [7]}])
    other = run.with_seed(7)
    others = {trajectory_id(other): other}
    working = do(store, former, run, others=others)
    phases = []
    while "reference" not in phases:
        phases.append(next(working).phase)
    working.close()
    for path in store.trajectory("t").path.glob("*.safetensors"):
        path.unlink()
    with pytest.raises(UserError, match=f"trajectory {trajectory_id(other)}: computed from data"):
        list(do(store, present, run, others=others))


def test_a_worker_with_other_data_than_the_driver_s_begins_nothing(
    store: Store, roots: tuple[Path, Path]
) -> None:
    former, present = roots
    data = config().data
    digests = {root: data.load(root).digest for root in roots}
    words = (
        rf"^data image_folder: digest {digests[present][:12]} in {present} on \S+, where the sweep "
        rf"was started with {digests[former][:12]}; give all machines the same files$"
    )
    with pytest.raises(UserError, match=words):
        list(do(store, present, config(), data_digest=digests[former]))
    assert [path.name for path in store.trajectory("t").path.iterdir()] == ["lock"]
    list(do(store, former, config(), data_digest=digests[former]))
    assert store.run("a").manifest() is not None
