"""Other files under the same names: the store's results are not taken for results of theirs."""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

from sweeps.catalogue import load_spec
from sweeps.cli import main
from sweeps.launch import order
from sweeps.plan import Plan, make_plan
from sweeps.plan_store import mark_done, write_plan
from sweeps.ray_session import Launch
from sweeps.same_data import PresentData, check_same_data
from sweeps.status import sweep_status
from tests.trainables.samples import write_images
from trainables.data.image_folder import ImageFolder
from trainables.errors import UserError
from trainables.job import Place
from trainables.passes import work
from trainables.store import Store

SPEC: dict[str, Any] = {
    "name": "mine",
    "base": {
        "data": {"name": "image_folder", "size": 8, "grey": True},
        "model": {"name": "mlp", "hidden": [4]},
        "batch_size": 8,
        "budget": {"epochs": 2},
    },
    "seeds": [0, 1],
}

Planned = Callable[..., Plan]


@pytest.fixture
def roots(tmp_path: Path) -> tuple[Path, Path]:
    """Two data folders with the same names of files, and other images in them."""
    former, present = tmp_path / "former", tmp_path / "present"
    for seed, root in enumerate((former, present)):
        write_images(root, seed)
        ImageFolder(size=8, grey=True).prepare(root)
    return former, present


@pytest.fixture
def planned(tmp_path: Path, store: Store) -> Planned:
    """Plans the sweep, with changes, over a data folder, as the store has it."""

    def plan(root: Path, *changes: str) -> Plan:
        file = tmp_path / "mine.yaml"
        file.write_text(yaml.safe_dump(SPEC))
        return mark_done(make_plan(load_spec(str(file), list(changes)), root), store)

    return plan


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results")


@pytest.fixture
def digests(roots: tuple[Path, Path]) -> tuple[str, ...]:
    """The first digits of the two contents' digests."""
    return tuple(ImageFolder(size=8, grey=True).load(root).digest[:12] for root in roots)


@pytest.fixture
def done(roots: tuple[Path, Path], planned: Planned, store: Store) -> Plan:
    """The sweep, done with the former data."""
    former, _ = roots
    plan = planned(former)
    write_plan(store, plan)
    do(plan, store, former)
    return plan


def do(plan: Plan, store: Store, root: Path) -> None:
    """Do the open runs, without Ray."""
    for trajectory in plan.trajectories:
        sent = order(plan.name, trajectory, Launch(store.root, root), PresentData(root))
        list(work(sent.job(), Place(store, root, torch.device("cpu"), 1)))


@pytest.fixture
def optpath(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs a command over a data folder in this process: exit code, stdout, stderr."""

    def run(root: Path, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setenv("OPTPATH_STORAGE", str(tmp_path / "results"))
        monkeypatch.setenv("OPTPATH_DATA", str(root))
        monkeypatch.setenv("COLUMNS", "250")
        monkeypatch.setattr(sys, "argv", ["optpath", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        return int(end.value.code or 0), captured.out, captured.err

    return run


def manifests(store: Store) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in store.root.rglob("manifest.json")}


@pytest.mark.parametrize("command", ["plan", "run"])
def test_a_finished_run_is_not_reused_for_other_data(
    done: Plan,
    roots: tuple[Path, Path],
    digests: tuple[str, ...],
    store: Store,
    tmp_path: Path,
    optpath: Any,
    command: str,
) -> None:
    before = manifests(store)
    code, out, err = optpath(roots[1], command, str(tmp_path / "mine.yaml"))
    assert (code, out) == (2, "")
    assert err.rstrip("\n").endswith(
        f"run {done.runs[0].run_id}: computed from data image_folder with digest {digests[0]}, and "
        f"those in {roots[1]} have {digests[1]} now; point OPTPATH_DATA at the former, or keep "
        "the results of these apart: --storage DIR"
    )
    assert len(err.splitlines()) == 1
    assert manifests(store) == before


def test_the_former_data_and_a_copy_of_them_are_reused(
    done: Plan, roots: tuple[Path, Path], planned: Planned, store: Store, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(roots[0] / "images", copy / "images")
    done.runs[0].config.data.prepare(copy)
    for root in (roots[0], copy):
        again = planned(root)
        assert not again.open_runs
        assert check_same_data(again, store, root) == []


def test_more_runs_of_the_sweep_are_not_added_with_other_data(
    done: Plan, roots: tuple[Path, Path], planned: Planned, store: Store
) -> None:
    for change in ("seeds=2", "batch_size=4"):
        more = planned(roots[1], change)
        assert len(more.open_runs) == len(more.runs)
        with pytest.raises(UserError, match=f"^run {done.runs[0].run_id}: computed from data"):
            check_same_data(more, store, roots[1])
        assert check_same_data(planned(roots[0], change), store, roots[0]) == []


def test_a_reference_pass_is_not_reused_by_other_probes_or_budgets(
    done: Plan, roots: tuple[Path, Path], planned: Planned, store: Store
) -> None:
    for change in ("probes=[path,layers]", "budget.epochs=3"):
        more = planned(roots[1], change, "name=another")
        (first, _) = more.open_runs
        with pytest.raises(UserError, match=f"^run {first.run_id}: computed from data"):
            check_same_data(more, store, roots[1])
        assert check_same_data(planned(roots[0], change, "name=another"), store, roots[0]) == []


def test_files_that_were_not_read_as_they_are_now_are_said_by_plan_and_refused_by_run(
    done: Plan, roots: tuple[Path, Path], optpath: Any, tmp_path: Path
) -> None:
    folder = roots[0] / "images" / "cat"
    Image.new("L", (8, 8), 200).save(folder / "0.png")
    os.utime(folder, ns=(0, time.time_ns() + 10**9))  # a process lists a folder again by its time
    code, out, _ = optpath(roots[0], "plan", str(tmp_path / "mine.yaml"))
    line = (
        "data image_folder: not compared with what 2 of the stored runs were computed from: not "
        "read yet as they are now"
    )
    assert code == 0
    assert line in " ".join(out.split())
    assert not manifests(Store(roots[0]))
    code, out, err = optpath(roots[0], "run", str(tmp_path / "mine.yaml"))
    assert (code, len(err.splitlines())) == (2, 1)
    assert re.search(rf"run {done.runs[0].run_id}: computed from data image_folder with", err)


def test_the_status_says_so_run_by_run(
    done: Plan, roots: tuple[Path, Path], store: Store, optpath: Any
) -> None:
    former, present = (sweep_status(store, "mine", root) for root in roots)
    assert {(run.state, run.error) for run in former} == {("done", "")}
    error = f"computed from other image_folder data than are now in {roots[1]}"
    assert {(run.state, run.error) for run in present} == {("done", error)}
    code, out, _ = optpath(roots[1], "status", "mine")
    assert code == 0
    assert "computed from other image_folder data" in " ".join(out.split())


def test_where_the_data_are_not_there_the_status_says_nothing_of_them(
    done: Plan, store: Store, tmp_path: Path
) -> None:
    statuses = sweep_status(store, "mine", tmp_path / "nowhere")
    assert {(run.state, run.error) for run in statuses} == {("done", "")}


def test_data_of_other_runs_that_are_not_here_stop_nothing(
    done: Plan, planned: Planned, store: Store, tmp_path: Path
) -> None:
    shutil.rmtree(tmp_path / "former")
    digits = planned(tmp_path / "former", "data=digits")
    (line,) = check_same_data(digits, store, tmp_path / "former")
    assert line.startswith(
        "data image_folder: not compared with what 2 of the stored runs were computed from: data "
        "image_folder not found: looked for"
    )


def test_workers_are_told_what_the_driver_found(
    done: Plan, roots: tuple[Path, Path], planned: Planned, store: Store
) -> None:
    launch = Launch(store.root, roots[1])
    (first, _) = done.trajectories
    sent = order("mine", first, launch, PresentData(roots[1]))
    digest = ImageFolder(size=8, grey=True).load(roots[1]).digest
    assert sent.data_digest == sent.job().data_digest == digest
    (first, _) = planned(roots[0], "data=digits", "name=another").trajectories
    sent = order("another", first, launch, PresentData(roots[1]))
    assert sent.data_digest is None, "installed code makes these"
