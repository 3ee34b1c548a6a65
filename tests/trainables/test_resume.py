"""A job that was killed at any moment and is done again leaves the bytes of one never killed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import trainables.job
from trainables.config import RunConfig
from trainables.job import Job, Place, Progress, RunJob
from trainables.passes import work
from trainables.reference import CHECKPOINT
from trainables.store import Folder, Store, StoreDamaged
from trainables.verify import verify_run

Tiny = Callable[..., RunConfig]
CPU = torch.device("cpu")


YIELDS = [("reference", step) for step in (3, 5, 6, 8, 9, 12)]
YIELDS += [("replay", step) for step in (3, 6, 8, 9, 12)]
NUM_YIELDS = len(YIELDS)
"""Every epoch end and every budget's end of the job below; one run has no replay."""


SHARED: dict[str, Any] = {
    "model": {"name": "mlp", "hidden": [8], "dropout": 0.2},
    "data": {"name": "digits", "train_examples": 96, "validation_examples": 20, "crop_padding": 1},
    "batch_size": 32,
    "optimizer": "adam",
    "evaluate_every_epochs": 2,
}
OWN: dict[str, dict[str, Any]] = {
    "long": {"budget": {"epochs": 4}},
    "labelled": {
        "budget": {"steps": 8},
        "probes": [{"name": "layers", "every": 2}, "weight_decay"],
    },
    "direct": {"budget": {"steps": 5}, "probes": ["preconditioner"]},
}


@pytest.fixture(scope="module")
def configs() -> dict[str, RunConfig]:
    """Runs that share a trajectory: with and without replay, with tables of every kind."""
    return {name: RunConfig.parse({**SHARED, **own}) for name, own in OWN.items()}


def files(store: Store, names: Iterator[str] | dict[str, Any]) -> dict[str, bytes]:
    folders = [store.run(name).path for name in names]
    return {str(p.relative_to(store.root)): p.read_bytes() for f in folders for p in f.glob("*.*")}


def job(configs: dict[str, RunConfig]) -> Job:
    return Job("t", tuple(RunJob(run_id, config) for run_id, config in configs.items()))


@pytest.fixture(scope="module")
def never_killed(
    configs: dict[str, RunConfig], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    """The files of the runs as one uninterrupted job leaves them."""
    whole = Store(tmp_path_factory.mktemp("whole"))
    place = Place(whole, whole.root, CPU, 1)
    assert [(p.phase, p.step) for p in work(job(configs), place)] == YIELDS
    found = files(whole, configs)
    assert sum(name.endswith("steps.parquet") for name in found) == 3
    return found


@pytest.mark.parametrize(
    ("checkpoint_seconds", "stops"),
    [
        (0.0, (1, 3, 6, 9)),
        (1e9, (2, 8)),
        pytest.param(0.0, range(NUM_YIELDS), marks=pytest.mark.slow),
        pytest.param(1e9, range(NUM_YIELDS), marks=pytest.mark.slow),
    ],
)
def test_stopped_at_every_yield_it_ends_the_same(
    configs: dict[str, RunConfig],
    never_killed: dict[str, bytes],
    tmp_path: Path,
    finish: Callable[..., list[Progress]],
    checkpoint_seconds: float,
    stops: Iterable[int],
) -> None:
    for stop in stops:
        store = Store(tmp_path / f"stopped-{stop}")
        place = Place(store, tmp_path, CPU, 1, checkpoint_seconds)
        working = work(job(configs), place)
        for _ in range(stop + 1):
            progress = next(working)
        assert (progress.phase, progress.step) == YIELDS[stop]
        working.close()
        finish(store, checkpoint_seconds=checkpoint_seconds, **configs)
        assert files(store, configs) == never_killed, f"stopped at yield {stop}"


def test_a_long_epoch_yields_on_its_way_and_resumes_there(
    configs: dict[str, RunConfig],
    never_killed: dict[str, bytes],
    store: Store,
    tmp_path: Path,
    finish: Callable[..., list[Progress]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trainables.job, "SLICE_SECONDS", 0.0)  # every step
    working = work(job(configs), Place(store, tmp_path, CPU, 1, checkpoint_seconds=0))
    stopped = [next(working) for _ in range(12 + 7)][-1]
    working.close()
    assert (stopped.phase, stopped.step) == ("replay", 7)
    rest = finish(store, checkpoint_seconds=0, **configs)
    assert [(p.step, p.epoch, p.first_step) for p in rest] == [
        (step, (step - 1) // 3, 7) for step in range(8, 13)
    ]
    assert files(store, configs) == never_killed


def test_a_resumed_pass_goes_on_from_its_checkpoint(
    tiny: Tiny, store: Store, tmp_path: Path
) -> None:
    place = Place(store, tmp_path, CPU, 1, checkpoint_seconds=0)
    seen = []
    for num_yields in (2, 3, 1, 9):  # stopped in the reference pass, twice in the replay, never
        working = work(job({"a": tiny(budget={"epochs": 4})}), place)
        seen.append([(p.phase, p.step) for _, p in zip(range(num_yields), working, strict=False)])
        working.close()
    assert seen == [
        [("reference", 3), ("reference", 6)],
        [("reference", 9), ("reference", 12), ("replay", 3)],
        [("replay", 6)],
        [("replay", 9), ("replay", 12)],
    ]


def test_stopped_between_the_last_checkpoint_and_the_manifest_it_is_sealed(
    tiny: Tiny, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(folder: Folder, *_: object) -> None:
        raise KeyboardInterrupt(folder.path)

    place = Place(store, tmp_path, CPU, 1)
    with monkeypatch.context() as patch:
        patch.setattr(Folder, "write_manifest", die)
        with pytest.raises(KeyboardInterrupt, match="trajectories/t"):
            list(work(job({"a": tiny()}), place))
    assert store.trajectory("t").manifest() is None
    assert {p.phase for p in work(job({"a": tiny()}), place)} == {"replay"}
    verify_run(store, "a", data_root=tmp_path, device=CPU)


def test_a_run_without_replay_is_never_done_before_its_trajectory(
    tiny: Tiny, store: Store, tmp_path: Path
) -> None:
    place = Place(store, tmp_path, CPU, 1)
    working = work(job({"a": tiny(probes=["preconditioner"])}), place)
    for progress in working:
        if progress.finished:
            working.close()
    verify_run(store, "a", data_root=tmp_path, device=CPU)


def test_a_damaged_checkpoint_is_refused_by_name(tiny: Tiny, store: Store, tmp_path: Path) -> None:
    place = Place(store, tmp_path, CPU, 1, checkpoint_seconds=0)
    working = work(job({"a": tiny()}), place)
    next(working)
    working.close()
    path = store.trajectory("t").path / CHECKPOINT
    content = path.read_bytes()
    for spot in random.Random(0).sample(range(8, len(content)), 40):
        path.write_bytes(content[:spot] + bytes([content[spot] ^ 1]) + content[spot + 1 :])
        with pytest.raises(StoreDamaged, match=r"checkpoint\.safetensors: (damaged|not readable)"):
            next(work(job({"a": tiny()}), place))


# -- SIGKILL ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def worker() -> Iterator[subprocess.Popen[str]]:
    """The process that forks a child for each attempt; it has done its imports once."""
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("killed_worker.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


Attempt = Callable[[Store, dict[str, Any] | None], dict[str, Any]]


@pytest.fixture
def attempt(worker: subprocess.Popen[str], configs: dict[str, RunConfig]) -> Attempt:
    """Do the job in a process of its own, killed at a moment or done to its end."""
    plain = {run_id: config.plain() for run_id, config in configs.items()}

    def do(store: Store, kill: dict[str, Any] | None) -> dict[str, Any]:
        assert worker.stdin is not None
        assert worker.stdout is not None
        store.root.mkdir(exist_ok=True)
        request = {"store": str(store.root), "configs": plain, "kill": kill}
        worker.stdin.write(json.dumps(request) + "\n")
        worker.stdin.flush()
        result: dict[str, Any] = json.loads(worker.stdout.readline())
        return result

    return do


def assert_ends_the_same(
    store: Store, attempt: Attempt, configs: dict[str, RunConfig], expected: dict[str, bytes]
) -> None:
    assert attempt(store, None)["status"] == 0
    assert files(store, configs) == expected
    store.trajectory("t").check_files()


RENAMES: list[dict[str, Any]] = [
    {"event": 0, "name": "manifest.json", "point": "written"},  # the trajectory's, before renaming
    {"event": 1, "name": "manifest.json", "point": "renamed"},
    {"event": 2, "name": "manifest.json", "point": "half"},
]
FLUSHES: list[dict[str, Any]] = [
    {"event": 1, "name": "steps.parquet", "point": "half"},
    {"event": 0, "name": "layers.parquet", "point": "written"},
]


@pytest.mark.parametrize("moment", [*RENAMES, *FLUSHES], ids=lambda m: f"{m['name']}-{m['point']}")
def test_killed_inside_a_manifest_rename_or_a_table_flush_it_ends_the_same(
    attempt: Attempt,
    configs: dict[str, RunConfig],
    never_killed: dict[str, bytes],
    store: Store,
    moment: dict[str, Any],
) -> None:
    assert attempt(store, moment)["status"] == signal.SIGKILL
    assert files(store, configs) != never_killed
    assert_ends_the_same(store, attempt, configs, never_killed)


def test_killed_again_and_again_in_one_store_it_ends_the_same(
    attempt: Attempt,
    configs: dict[str, RunConfig],
    never_killed: dict[str, bytes],
    store: Store,
    tmp_path: Path,
) -> None:
    draw = random.Random(2)
    for _ in range(5):
        assert attempt(store, {"event": draw.randrange(3, 25)})["status"] == signal.SIGKILL
    assert_ends_the_same(store, attempt, configs, never_killed)
    for run_id in configs:
        verify_run(store, run_id, data_root=tmp_path, device=CPU)


@pytest.mark.slow
def test_killed_at_20_drawn_moments_it_ends_the_same(
    attempt: Attempt,
    configs: dict[str, RunConfig],
    never_killed: dict[str, bytes],
    tmp_path: Path,
) -> None:
    whole = attempt(Store(tmp_path / "count"), None)
    draw = random.Random(1)
    moments: list[dict[str, Any]] = [
        {"event": event} for event in draw.sample(range(whole["events"]), 10)
    ]
    moments += [{"seconds": draw.uniform(0, whole["seconds"])} for _ in range(10)]
    for index, moment in enumerate(moments):
        store = Store(tmp_path / f"killed-{index}")
        status = attempt(store, moment)["status"]
        # a timer may come after the end
        assert status == signal.SIGKILL or (status == 0 and "seconds" in moment)
        assert_ends_the_same(store, attempt, configs, never_killed)
