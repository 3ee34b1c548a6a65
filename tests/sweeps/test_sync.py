"""Sync against a real `mlflow server`: absent, killed, stopped, back; then it equals the store."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sweeps.sync import sync
from sweeps.ui import forward_hint, serve, server_command, server_environment, stop
from trainables.errors import UserError
from trainables.store import Store, read_sealed, read_table, write_json, write_sealed
from trainables.tracker import Preparation, Tracker
from trainables.tracking import Connection, TrackingTarget, prepare
from trainables.tracking_content import finished
from trainables.tracking_server import TrackingUnavailable
from trainables.tracking_uri import resolve_tracking_uri

pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy:DeprecationWarning"  # mlflow 3.17 on SQLAlchemy 2.1
)

Planted = tuple[Store, list[dict[str, Any]]]

ENQUEUE_SECONDS = 0.05
"""Longest that handing something to the tracker may take."""


class Server:
    """A real `mlflow server` as `optpath ui` starts it, that can be killed, stopped, continued."""

    def __init__(self, folder: Path) -> None:
        self.port = _free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._command = server_command(f"sqlite:///{folder}/mlflow.db", self.port)
        self._log = folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen(
                self._command,
                env=os.environ | server_environment(),
                start_new_session=True,
                stdout=log,
                stderr=log,
            )
        _until(self._answers, patience_seconds=180)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the server and all its processes."""
        assert self._process is not None
        os.killpg(self._process.pid, number)

    def end(self) -> None:
        """Kill it, whatever state it is in."""
        if self._process is not None:
            stop(self._process, patience_seconds=0.0)
            self._process = None

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("server"))
    try:
        running.start()
        yield running
    finally:
        running.end()


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's schema and nothing in it: its migrations take seconds."""
    path = tmp_path_factory.mktemp("schema") / "mlflow.db"
    Connection(f"sqlite:///{path}")
    return path


@pytest.fixture
def planted(
    plant_sweep: Any, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Store, list[dict[str, Any]], str]:
    """Store, runs and tracking URI of a sweep in a SQLite database."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    store, entries = plant_sweep()
    shutil.copy(empty_database, store.root / "mlflow.db")
    return store, entries, resolve_tracking_uri(None, store.root)


# A real server


def test_a_stopped_server_never_stops_a_run_and_sync_catches_up(
    server: Server, plant_sweep: Any
) -> None:
    store, entries = plant_sweep("stopped")
    tracker = Tracker("stopped", store)
    preparation = Preparation(server.uri, store, "stopped")
    preparation.start()
    target = preparation.target(timeout=60)
    assert target is not None, preparation.problem
    for entry in entries:
        tracker.epochs(entry["run_id"], epochs_of(store, entry)[:2])
    _until(lambda: len(Connection(server.uri).children(target)) == len(entries))
    server.signal(signal.SIGSTOP)
    try:
        for entry in entries:
            assert _longest_call(tracker, store, entry) < ENQUEUE_SECONDS
        _until(lambda: tracker.problem)
        assert "cannot be used" in str(tracker.problem)
        began = time.monotonic()
        assert not tracker.close(timeout=5)
        assert time.monotonic() - began < 6
    finally:
        server.signal(signal.SIGCONT)
    result = sync("stopped", store, server.uri, ended=True)
    assert (result.uploaded, result.unfinished) == (len(entries), 0)
    assert_equals_store(store, entries, result.target)


def test_what_was_sent_is_not_sent_again(server: Server, plant_sweep: Any) -> None:
    from mlflow.tracking import MlflowClient

    store, entries = plant_sweep("twice")
    first = sync("twice", store, server.uri, note="**refuted**")
    again = sync("twice", store, server.uri)
    assert (first.uploaded, first.present) == (len(entries), 0)
    assert (again.uploaded, again.present) == (0, len(entries))
    assert again.target == first.target
    assert again.text == f"0 runs uploaded, {len(entries)} were complete"
    assert_equals_store(store, entries, again.target)
    client = MlflowClient(server.uri)
    parent = client.get_run(first.target.parent_run_id)
    assert parent.data.tags["mlflow.note.content"] == "**refuted**"
    assert parent.info.status == "FINISHED"
    names = {file.path for file in client.list_artifacts(first.target.parent_run_id)}
    assert names == {"plan.json", "spec.yaml"}


def test_tables_come_back_from_the_server_alone(
    server: Server, plant_sweep: Any, tmp_path: Path
) -> None:
    from mlflow.tracking import MlflowClient

    store, entries = plant_sweep("tables")
    target = sync("tables", store, server.uri).target
    expected = read_table(store.run(entries[0]["run_id"]).path / "epochs.parquet")
    child = Connection(server.uri).children(target)[entries[0]["run_id"]]
    shutil.rmtree(store.root)
    client = MlflowClient(server.uri)
    got = client.download_artifacts(child.info.run_id, "epochs.parquet", str(tmp_path))
    assert read_table(Path(got)).equals(expected)


@pytest.mark.slow
def test_absent_at_start_then_there_then_killed_then_back(plant_sweep: Any, tmp_path: Path) -> None:
    server = Server(tmp_path)
    store, entries = plant_sweep("outage", num_runs=4, num_epochs=40)
    tracker = Tracker("outage", store)
    preparation = Preparation(server.uri, store, "outage")
    preparation.start()
    try:
        assert _longest_call(tracker, store, entries[0]) < ENQUEUE_SECONDS
        _until(lambda: preparation.problem)
        server.start()
        target = preparation.target(timeout=90)
        assert target is not None, preparation.problem
        _until(lambda: entries[0]["run_id"] in Connection(server.uri).children(target))
        tracker.epochs(entries[1]["run_id"], epochs_of(store, entries[1])[:7])
        _until(lambda: entries[1]["run_id"] in Connection(server.uri).children(target))
        server.end()
        for entry in entries[1:]:
            assert _longest_call(tracker, store, entry) < ENQUEUE_SECONDS
        _until(lambda: tracker.problem)
        assert not tracker.close(timeout=5)
        with pytest.raises(TrackingUnavailable, match="cannot be used"):
            sync("outage", store, server.uri)
        server.start()
        result = sync("outage", store, server.uri, ended=True)
        assert result.uploaded >= len(entries) - 1
        assert_equals_store(store, entries, result.target)
    finally:
        preparation.stop()
        server.end()


# SQLite


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


# optpath ui


def test_the_ui_of_a_server_is_its_address() -> None:
    lines: list[str] = []
    assert serve("http://tracker:5000", echo=lines.append) == 0
    assert lines == ["MLflow runs already at http://tracker:5000"]


def test_the_ui_needs_a_database(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no MLflow database at .*/mlflow\.db; run a sweep first"):
        serve(f"sqlite:///{tmp_path}/mlflow.db")


def test_a_taken_port_is_refused(planted: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            UserError, match=rf"port {port} cannot be used .* try --port {port + 1}"
        ):
            serve(planted[2], port)


def test_the_ui_listens_on_the_loopback_address_only(tmp_path: Path) -> None:
    command = server_command(f"sqlite:///{tmp_path}/mlflow.db", 5001)
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert command[command.index("--workers") + 1] == "1"
    assert command[command.index("--artifacts-destination") + 1] == f"file://{tmp_path}/mlartifacts"
    assert server_environment()["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert "ssh -L 5001:127.0.0.1:5001 " in forward_hint(5001)


# What the tests share


def assert_equals_store(store: Store, entries: list[Any], target: TrackingTarget) -> None:
    """Every metric of every run on the server equals the store's, and there is nothing else."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(target.uri)
    children = Connection(target.uri, timeout_seconds=20).children(target)
    assert set(children) == {entry["run_id"] for entry in entries}
    for entry in entries:
        run = children[entry["run_id"]]
        rows = [
            (metric.key, metric.value, metric.step)
            for key in run.data.metrics
            for metric in client.get_metric_history(run.info.run_id, key)
        ]
        content = finished(entry, target.sweep, store)
        assert content is not None
        assert sorted(rows) == sorted(content.metrics())
        assert run.data.params == content.params
        assert run.info.status == "FINISHED"


def epochs_of(store: Store, entry: dict[str, Any]) -> list[dict[str, Any]]:
    """The run's epochs of the reference pass, as its worker would log them."""
    table = read_table(store.run(entry["run_id"]).path / "epochs.parquet")
    steps = entry["steps_per_epoch"] * (table["epoch"] + 1)
    rows: list[dict[str, Any]] = table.assign(step=steps).to_dict("records")
    return rows


def _longest_call(tracker: Tracker, store: Store, entry: dict[str, Any]) -> float:
    """Log a run epoch by epoch and finish it; the longest time in seconds that a call took."""
    longest = 0.0
    for row in [*epochs_of(store, entry), None]:
        began = time.monotonic()
        if row is None:
            tracker.finish(entry["run_id"])
        else:
            tracker.epochs(entry["run_id"], [row])
        longest = max(longest, time.monotonic() - began)
    return longest


def _until(found: Callable[[], Any], patience_seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + patience_seconds
    while not (value := found()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return value


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


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
