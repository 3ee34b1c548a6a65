"""Sync with a SQLite database: it then equals the store, whatever it held before."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from sweeps.sync import sync
from tests.trainables.tracked import Planted, assert_equals_store, epochs_of
from trainables.errors import UserError
from trainables.store import Store, read_sealed, write_json, write_sealed
from trainables.tracker import Tracker
from trainables.tracking import Connection, TrackingTarget, prepare
from trainables.tracking_uri import resolve_tracking_uri

pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy:DeprecationWarning"  # mlflow 3.17 on SQLAlchemy 2.1
)


@pytest.fixture
def planted(planted: Planted) -> tuple[Store, list[dict[str, Any]], str]:
    """Store, runs and tracking URI of a sweep in a SQLite database."""
    store, entries = planted
    return store, entries, resolve_tracking_uri(None, store.root)


def test_a_lost_database_is_written_anew(planted: Any, empty_database: Path) -> None:
    store, entries, uri = planted
    sync("planted", store, uri)
    elsewhere = f"sqlite:///{store.root}/other.db"
    shutil.copy(empty_database, store.root / "other.db")
    result = sync("planted", store, elsewhere)
    assert result.uploaded == len(entries)
    assert_equals_store(store, entries, result.target)


def test_a_run_that_was_done_again_replaces_what_is_there(planted: Any) -> None:
    store, entries, uri = planted
    sync("planted", store, uri)
    folder = store.run(entries[0]["run_id"])
    manifest = {k: v for k, v in (folder.manifest() or {}).items() if k != "store_version"}
    files = list(manifest.pop("files"))
    manifest["metrics"]["last_train_loss"] = 0.75
    folder.write_manifest(manifest, files)
    result = sync("planted", store, uri)
    assert (result.uploaded, result.present) == (1, len(entries) - 1)
    assert_equals_store(store, entries, result.target)


def test_a_deleted_parent_run_is_created_again(planted: Any) -> None:
    from mlflow.tracking import MlflowClient

    store, entries, uri = planted
    first = sync("planted", store, uri).target
    MlflowClient(uri).delete_run(first.parent_run_id)
    second = sync("planted", store, uri).target
    assert second.parent_run_id != first.parent_run_id
    children = Connection(uri).children(second).values()
    parents = [run.data.tags["mlflow.parentRunId"] for run in children]
    assert parents == [second.parent_run_id] * len(entries)
    assert_equals_store(store, entries, second)


def test_unfinished_runs_are_counted_and_marked_at_the_end(planted: Any) -> None:
    from mlflow.tracking import MlflowClient

    store, entries, uri = planted
    for entry in entries:
        store.run(entry["run_id"]).manifest_path.unlink()
    prepare(uri, store, "planted")
    tracker = Tracker("planted", store)
    tracker.epochs(entries[1]["run_id"], epochs_of(store, entries[1])[:1])
    assert tracker.close(timeout=60)
    failed = store.trajectory(entries[0]["trajectory_id"]).path / "error.json"
    write_json(failed, {"message": "ValueError: planted", "traceback": "", "time": 0.0})
    result = sync("planted", store, uri)
    assert (result.uploaded, result.present, result.unfinished) == (0, 0, 2)
    assert result.text.endswith("2 have not finished")
    client = MlflowClient(uri)
    assert client.get_run(result.target.parent_run_id).info.status == "RUNNING"
    sync("planted", store, uri, ended=True)
    assert client.get_run(result.target.parent_run_id).info.status == "KILLED"
    children = Connection(uri).children(result.target)
    first, second = (children[entry["run_id"]] for entry in entries)
    assert (first.info.status, first.data.tags["status"]) == ("FAILED", "failed")
    assert first.data.tags["error"] == "ValueError: planted"
    assert (second.info.status, second.data.tags["status"]) == ("KILLED", "interrupted")


def test_a_retried_run_loses_its_error(planted: Any) -> None:
    store, entries, uri = planted
    manifest_path = store.run(entries[0]["run_id"]).manifest_path
    sealed = manifest_path.read_bytes()
    manifest_path.unlink()
    failed = store.trajectory(entries[0]["trajectory_id"]).path / "error.json"
    write_json(failed, {"message": "ValueError: planted", "traceback": "", "time": 0.0})
    sync("planted", store, uri, ended=True)
    manifest_path.write_bytes(sealed)
    target = sync("planted", store, uri).target
    child = Connection(uri).children(target)[entries[0]["run_id"]]
    assert child.data.tags["status"] == "done"
    assert "error" not in child.data.tags
    assert_equals_store(store, entries, target)


def test_a_run_without_tables_has_no_metrics_of_them(planted: Any) -> None:
    store, entries, uri = planted
    folder = store.run(entries[0]["run_id"])
    manifest = {k: v for k, v in (folder.manifest() or {}).items() if k != "store_version"}
    del manifest["files"], manifest["seconds"]
    manifest |= {"status": "replay_diverged", "replay_exact": False, "metrics": {}}
    folder.write_manifest(manifest, ["config.yaml"])
    target = sync("planted", store, uri).target
    child = Connection(uri).children(target)[entries[0]["run_id"]]
    assert child.data.metrics == {}
    assert child.data.tags["replay_exact"] == "false"
    assert child.info.status == "FAILED"


def test_an_unknown_sweep_is_refused(planted: Any) -> None:
    store, _, uri = planted
    with pytest.raises(UserError, match=r"no sweep 'plantet' in .*; did you mean planted\?"):
        sync("plantet", store, uri)


def test_the_sweeps_run_says_what_all_its_runs_share(planted: Any) -> None:
    from mlflow.tracking import MlflowClient

    store, _, uri = planted
    target = sync("planted", store, uri).target
    parent = MlflowClient(uri).get_run(target.parent_run_id)
    members = [run.data.params for run in Connection(uri).children(target).values()]
    names = {name for params in members for name in params}
    varied = {name for name in names if len({params.get(name) for params in members}) > 1}
    assert varied == {"batch_size", "seed"}
    assert set(parent.data.params) == names - varied
    assert parent.data.params["optimizer.name"] == members[0]["optimizer.name"]
    assert parent.data.tags["batch_size"] == "16, 32"
    assert parent.data.tags["replay_exact"] == "true"
    (used,) = parent.inputs.dataset_inputs
    assert used.dataset.name == "digits"
    assert sync("planted", store, uri).target == target


def test_a_grid_that_has_grown_shares_less(planted: Any) -> None:
    from mlflow.tracking import MlflowClient

    store, entries, uri = planted
    path = store.sweep("planted").path / "plan.json"
    plan = read_sealed(path)
    assert plan is not None
    write_sealed(path, plan | {"runs": entries[:1]})
    first = sync("planted", store, uri).target
    client = MlflowClient(uri)
    before = client.get_run(first.parent_run_id)
    assert before.data.params["batch_size"] == "16"
    write_sealed(path, plan)
    grown = sync("planted", store, uri).target
    after = client.get_run(grown.parent_run_id)
    assert "batch_size" not in after.data.params
    assert after.info.start_time == before.info.start_time
    parents = {r.data.tags["mlflow.parentRunId"] for r in Connection(uri).children(grown).values()}
    assert parents == {grown.parent_run_id}


def test_sending_again_keeps_when_runs_began_and_ended(
    planted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking import MlflowClient

    store, entries, uri = planted
    target = sync("planted", store, uri).target
    before = times_of(uri, target)
    time.sleep(0.05)
    monkeypatch.setattr("trainables.tracking_content.CONTENT_VERSION", 1000)
    assert sync("planted", store, uri).uploaded == len(entries)
    assert times_of(uri, target) == before
    client = MlflowClient(uri)
    assert client.get_run(target.parent_run_id).info.end_time == max(e for _, e in before.values())


def times_of(uri: str, target: TrackingTarget) -> dict[str, tuple[int, int]]:
    """When each child run began and ended."""
    children = Connection(uri).children(target)
    return {name: (run.info.start_time, run.info.end_time) for name, run in children.items()}
