"""Other references: running averages, the best iterate, other budgets, other seeds; reuse."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

from sweeps.identity import trajectory_id
from trainables.config import RunConfig
from trainables.errors import UserError
from trainables.job import Job, Place, Progress, RunJob
from trainables.passes import work
from trainables.record import Kept, ReferenceRecord
from trainables.reference import CHECKPOINT, load_record, load_reference
from trainables.store import Folder, Store, read_table
from trainables.trajectory import Trajectory
from trainables.verify import verify_run

Build = Callable[..., Trajectory]
Tiny = Callable[..., RunConfig]
Finish = Callable[..., list[Progress]]
CPU = torch.device("cpu")


def against(**options: Any) -> list[Any]:
    """A references probe of those and no other references."""
    chosen = {"ema": [], "best_validation": False, **options}
    return ["path", {"name": "references", **chosen}]


def table(store: Store, run_id: str = "a") -> pd.DataFrame:
    return read_table(store.run(run_id).path / "references.parquet")


def record_of(store: Store) -> ReferenceRecord:
    record = load_record(store.trajectory("t"))
    assert record is not None
    return record


def kept(store: Store, label: str, end: int) -> tuple[Kept, Tensor]:
    found = record_of(store).kept_vector(label, end)
    assert found is not None
    return found, load_reference(store.trajectory("t"), found, CPU)


def weights_of(built: Trajectory, num_steps: int) -> list[Tensor]:
    """w_0, ..., w_T."""
    weights = [built.flat.weights.clone()]
    for step in range(num_steps):
        built.advance(step + 1)
        weights.append(built.flat.weights.clone())
    return weights


def phases(progress: list[Progress]) -> list[tuple[str, int]]:
    return [(p.phase, p.step) for p in progress]


def test_the_running_average_is_that_of_all_weights(
    tiny: Tiny, store: Store, finish: Finish, trajectory: Build
) -> None:
    config = tiny(probes=against(ema=[0.5, 0.9]))
    finish(store, a=config)
    weights = weights_of(trajectory(config), 9)
    for decay in (0.5, 0.9):
        average = weights[0].double()
        for later in weights[1:]:
            average = decay * average + (1 - decay) * later.double()
        found, vector = kept(store, f"ema {decay}", 9)
        torch.testing.assert_close(vector.double(), average, rtol=1e-5, atol=1e-7)
        assert (found.end, found.step) == (9, 9)
        distances = [float((w.double() - average).norm()) for w in weights[:-1]]
        rows = table(store).query(f"label == 'ema {decay}'")
        assert rows["distance"].tolist() == pytest.approx(distances, rel=1e-5)


def test_the_best_iterate_is_that_of_least_validation_loss(
    tiny: Tiny, store: Store, finish: Finish
) -> None:
    config = tiny(learning_rate=1.5, budget={"epochs": 6}, probes=against(best_validation=True))
    finish(store, a=config)
    epochs = read_table(store.run("a").path / "epochs.parquet")
    best = int(epochs["validation_loss"].argmin())
    assert best < 5, "the learning rate is large so that the last is not the best"
    found, _ = kept(store, "best validation", 18)
    assert found.step == 3 * (best + 1)
    assert found.fingerprint == record_of(store).epochs[best].fingerprint
    at_best = table(store).query(f"step == {found.step}")
    assert at_best["distance"].tolist() == [0.0]
    assert at_best["gamma"].isna().all()


def test_another_budget_of_the_same_training_is_a_reference(
    tiny: Tiny, store: Store, finish: Finish
) -> None:
    """Of an earlier epoch, and of a run that goes on for longer; one pass keeps all."""
    progress = finish(store, a=tiny(probes=against(epochs=[1, 5])))
    assert phases(progress)[:5] == [("reference", step) for step in (3, 6, 9, 12, 15)]
    assert phases(progress)[5:] == [("replay", step) for step in (3, 6, 9)]
    rows = table(store)
    assert rows.query("label == 'epoch 1' and step == 3")["distance"].tolist() == [0.0]
    assert len(rows) == 2 * 9
    finish(store, trajectory_id="longer", b=tiny(budget={"epochs": 5}, probes=["path"]))
    longer = read_table(store.run("b").path / "steps.parquet")
    beyond = rows.query("label == 'epoch 5'")
    for column in ("distance", "gamma", "inner_product"):
        assert beyond[column].tolist() == longer[column][:9].tolist()


def test_a_schedule_that_depends_on_the_budget_has_nothing_beyond_it(tiny: Tiny) -> None:
    options: dict[str, Any] = {"schedule": "warmup_cosine", "budget": {"epochs": 3}}
    tiny(**options, probes=against(epochs=[2, 3]))
    with pytest.raises(UserError, match="reference epoch 4 lies beyond the budget, on which"):
        tiny(**options, probes=against(epochs=[4]))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ema": [1.0]}, "ema: decays between 0 and 1, not 1"),
        ({"epochs": [0]}, "epochs: at least 1, not 0"),
        ({"seeds": [-1]}, "seeds: whole numbers from 0, not -1"),
        ({}, "no reference; give ema, best_validation, epochs, seeds or followed"),
        ({"seeds": [0]}, "reference seed 0 is the run's own seed; give another"),
    ],
)
def test_references_that_cannot_be_are_refused(
    tiny: Tiny, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        tiny(probes=against(**options))


# -- Another seed's w* ------------------------------------------------------------------------


def job_of(config: RunConfig, run_id: str = "a") -> Job:
    """As the driver orders it: with the trainings of the other seeds."""
    seeds = [int(r.number) for r in config.other_references() if r.kind == "seed"]
    others = [config.with_seed(seed) for seed in seeds]
    named = {trajectory_id(other): other for other in others}
    return Job(trajectory_id(config), (RunJob(run_id, config),), named)


def test_another_seeds_end_is_a_reference_and_its_pass_is_reused(
    tiny: Tiny, store: Store, tmp_path: Path
) -> None:
    config, place = tiny(probes=against(seeds=[7])), Place(store, tmp_path, CPU, 1)
    progress = list(work(job_of(config), place))
    assert [p.phase for p in progress] == ["other"] * 3 + ["reference"] * 3 + ["replay"] * 3
    assert all(p.evaluation is None for p in progress if p.phase == "other")
    mine = tiny(seed=7, probes=["path"])
    assert {p.phase for p in work(job_of(mine, "b"), place)} == {"replay"}, "w* is there already"
    steps = read_table(store.run("b").path / "steps.parquet")
    rows = table(store)
    assert rows["label"].unique().tolist() == ["seed 7"]
    assert rows["distance"][0] != steps["distance"][0], "from this run's weights, not its own"
    verify_run(store, "a", data_root=tmp_path, device=CPU)


def test_two_runs_may_want_each_others_end(tiny: Tiny, store: Store, tmp_path: Path) -> None:
    place = Place(store, tmp_path, CPU, 1)
    first, second = (
        job_of(tiny(seed=seed, probes=against(seeds=[1 - seed])), f"seed-{seed}") for seed in (0, 1)
    )
    list(work(first, place))
    assert {p.phase for p in work(second, place)} == {"replay"}
    assert len(table(store, "seed-0")) == len(table(store, "seed-1")) == 9


def test_a_trajectory_that_is_lent_for_its_reference_pass_is_waited_for(
    tiny: Tiny, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another job trains it, which may take longer than the patience with a stranger."""
    monkeypatch.setattr(Folder.lock.__wrapped__, "__defaults__", (0.05,))  # type: ignore[attr-defined]
    place, config = Place(store, tmp_path, CPU, 1), tiny()
    borrower = work(job_of(tiny(seed=5, probes=against(seeds=[0])), "borrower"), place)
    assert next(borrower).phase == "other"
    owner = work(job_of(config), place)
    timer = threading.Timer(0.3, borrower.close)  # gives the lock back
    timer.start()
    assert {p.phase for p in owner} == {"reference", "replay"}
    timer.join()


def test_a_trajectory_that_a_stranger_holds_is_not(
    tiny: Tiny, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Folder.lock.__wrapped__, "__defaults__", (0.05,))  # type: ignore[attr-defined]
    job = job_of(tiny())
    place = Place(store, tmp_path, CPU, 1)
    with store.trajectory(job.trajectory_id).lock(), pytest.raises(UserError, match="in use by"):
        list(work(job, place))


# -- Reuse ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "more",
    [
        {"probes": ["path", "layers", "weight_decay"]},
        {"probes": ["path", {"name": "full_batch"}, {"name": "sharpness", "iterations": 1}]},
        {"probes": against(epochs=[2])},
        {"probes": ["preconditioner"]},
    ],
)
def test_more_probes_or_another_reference_reuse_the_reference_pass(
    tiny: Tiny, store: Store, finish: Finish, more: dict[str, Any]
) -> None:
    """Neither trains again: what is asked along the path is answered by a replay."""
    finish(store, short=tiny(budget={"epochs": 2}), long=tiny())
    before = (store.trajectory("t").path / "references/9.safetensors").stat().st_mtime_ns
    progress = finish(store, a=tiny(**more))
    assert {p.phase for p in progress} == {"replay"}
    after = (store.trajectory("t").path / "references/9.safetensors").stat().st_mtime_ns
    assert before == after


def test_what_was_not_kept_is_found_by_training_again_to_the_same_weights(
    tiny: Tiny, store: Store, finish: Finish, tmp_path: Path
) -> None:
    finish(store, old=tiny())
    fingerprints = [epoch.fingerprint for epoch in record_of(store).epochs]
    progress = finish(store, a=tiny(probes=against(ema=[0.9], best_validation=True)))
    assert [p.phase for p in progress] == ["reference"] * 3 + ["replay"] * 3
    assert [epoch.fingerprint for epoch in record_of(store).epochs] == fingerprints
    assert len(record_of(store).ends) == 1
    again = finish(store, b=tiny(probes=against(ema=[0.9])))
    assert {p.phase for p in again} == {"replay"}
    for run_id in ("old", "a", "b"):
        verify_run(store, run_id, data_root=tmp_path, device=CPU)
    store.trajectory("t").check_files()


def files(folder: Folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.path.glob("*.parquet")}


@pytest.mark.parametrize("stop", range(6))
def test_stopped_anywhere_it_ends_the_same(
    tiny: Tiny, store: Store, finish: Finish, tmp_path: Path, stop: int
) -> None:
    probes = [
        *against(ema=[0.9], best_validation=True),
        {"name": "sharpness", "iterations": 2, "every": 2},
        {"name": "probe_batches", "num_batches": 2, "every": 2},
        "full_batch",
    ]
    config = tiny(model={"name": "mlp", "hidden": [8], "dropout": 0.2}, probes=probes)
    whole = Store(tmp_path / "whole")
    finish(whole, a=config)
    place = Place(store, tmp_path, CPU, 1, checkpoint_seconds=0)
    working = work(Job("t", (RunJob("a", config),)), place)
    for _ in range(stop + 1):
        next(working)
    working.close()
    progress = finish(store, checkpoint_seconds=0, a=config)
    if stop < 2:
        assert progress[0].step == 3 * (stop + 2), "it went on from its checkpoint"
    assert files(store.run("a")) == files(whole.run("a"))
    assert len(files(whole.run("a"))) == 6


def test_a_checkpoint_without_the_average_is_no_place_to_go_on_from(
    tiny: Tiny, store: Store, finish: Finish, tmp_path: Path, trajectory: Build
) -> None:
    place = Place(store, tmp_path, CPU, 1, checkpoint_seconds=0)
    working = work(Job("t", (RunJob("old", tiny()),)), place)
    next(working)
    working.close()
    assert (store.trajectory("t").path / CHECKPOINT).is_file()
    config = tiny(probes=against(ema=[0.9]))
    progress = finish(store, checkpoint_seconds=0, a=config)
    assert progress[0].step == 3, "from t = 0"
    average = (weights := weights_of(trajectory(config), 9))[0]
    for later in weights[1:]:
        average = torch.lerp(average, later, 1 - 0.9)
    assert torch.equal(kept(store, "ema 0.9", 9)[1], average)


def test_a_reference_beyond_a_divergence_is_undefined(
    tiny: Tiny, store: Store, finish: Finish
) -> None:
    config = tiny(learning_rate=1e18, budget={"steps": 1}, probes=against(epochs=[2]))
    finish(store, a=config)
    rows = table(store)
    assert rows["label"].tolist() == ["epoch 2"]
    assert rows[["distance", "gamma", "rsi"]].isna().all().all()
