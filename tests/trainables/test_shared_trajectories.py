"""Runs that share a trajectory: equal to separate ones, extended in any order, done once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.trainables.finished import Finish, Tiny, manifest, steps
from trainables.config import RunConfig
from trainables.reference import load_record
from trainables.store import Store

BUDGETS: dict[str, dict[str, int]] = {
    "short": {"epochs": 3},
    "partial": {"steps": 7},
    "long": {"epochs": 5},
}


@pytest.fixture
def budgets(tiny: Tiny) -> dict[str, RunConfig]:
    """Runs of one trajectory: ending where no evaluation is due, inside an epoch, without w*."""
    configs = {name: tiny(budget=b, evaluate_every_epochs=2) for name, b in BUDGETS.items()}
    direct = tiny(budget={"steps": 4}, evaluate_every_epochs=2, probes=["preconditioner"])
    return {**configs, "direct": direct}


def run_files(store: Store, run_id: str) -> dict[str, bytes]:
    folder = store.run(run_id).path
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.parquet"))}


def sealed_values(store: Store, run_id: str) -> dict[str, Any]:
    return {k: v for k, v in manifest(store.run(run_id)).items() if k != "seconds"}


@pytest.fixture
def separate(
    budgets: dict[str, RunConfig], tmp_path: Path, finish: Finish
) -> dict[str, tuple[dict[str, bytes], dict[str, Any]]]:
    """Files and manifest of every run, each computed in a store of its own."""
    results = {}
    for name, config in budgets.items():
        alone = Store(tmp_path / f"alone-{name}")
        finish(alone, **{name: config})
        results[name] = run_files(alone, name), sealed_values(alone, name)
    return results


def assert_same_as_separate(
    store: Store, separate: dict[str, tuple[dict[str, bytes], dict[str, Any]]]
) -> None:
    for name, (files, sealed) in separate.items():
        assert run_files(store, name) == files, name
        assert sealed_values(store, name) == sealed, name
    store.trajectory("t").check_files()


def test_runs_that_share_a_trajectory_equal_separate_ones(
    budgets: dict[str, RunConfig],
    separate: dict[str, tuple[dict[str, bytes], dict[str, Any]]],
    store: Store,
    finish: Finish,
) -> None:
    progress = finish(store, **budgets)
    assert_same_as_separate(store, separate)
    assert max(p.step for p in progress if p.phase == "reference") == 15
    assert sum(p.phase == "replay" for p in progress) == 6, "one replay for all"


@pytest.mark.parametrize(
    "order",
    [
        ("short", "partial", "long", "direct"),
        ("long", "partial", "direct", "short"),
        ("direct", "long", "short", "partial"),
    ],
)
def test_a_trajectory_is_extended_in_any_order(
    budgets: dict[str, RunConfig],
    separate: dict[str, tuple[dict[str, bytes], dict[str, Any]]],
    store: Store,
    finish: Finish,
    order: tuple[str, ...],
) -> None:
    for name in order:
        finish(store, **{name: budgets[name]})
        store.trajectory("t").check_files()
    assert_same_as_separate(store, separate)
    record = load_record(store.trajectory("t"))
    assert record is not None
    assert [end.step for end in record.ends] == [4, 7, 9, 15]


def test_a_longer_budget_goes_on_where_the_shorter_ended(
    budgets: dict[str, RunConfig], store: Store, finish: Finish
) -> None:
    finish(store, short=budgets["short"])
    progress = finish(store, long=budgets["long"])
    assert [p.step for p in progress if p.phase == "reference"] == [12, 15]


def test_a_covered_small_budget_beside_a_new_middle_one_stays_within_its_own_steps(
    tiny: Tiny, store: Store, finish: Finish
) -> None:
    finish(store, tiny_end=tiny(budget={"steps": 2}), long=tiny(budget={"epochs": 3}))
    direct = tiny(budget={"steps": 2}, probes=["preconditioner"])
    finish(store, direct=direct, middle=tiny(budget={"steps": 7}))
    assert len(steps(store, "direct")) == 2
    assert len(steps(store, "middle")) == 7


def test_what_is_done_is_not_done_again(tiny: Tiny, store: Store, finish: Finish) -> None:
    finish(store, a=tiny())
    before = {p: p.stat().st_mtime_ns for p in store.root.rglob("*.*")}
    assert finish(store, a=tiny()) == []
    assert {p: p.stat().st_mtime_ns for p in store.root.rglob("*.*")} == before
