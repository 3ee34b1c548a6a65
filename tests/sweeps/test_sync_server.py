"""Sync against a real `mlflow server`: absent, killed, stopped, back; then it equals the store."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sweeps.sync import sync
from sweeps.ui import server_command, server_environment, stop
from tests.trainables.tracked import assert_equals_store, epochs_of, free_port, until
from trainables.store import Store, read_table
from trainables.tracker import Preparation, Tracker
from trainables.tracking import Connection
from trainables.tracking_server import TrackingUnavailable

pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy:DeprecationWarning"  # mlflow 3.17 on SQLAlchemy 2.1
)

ENQUEUE_SECONDS = 1.0
"""Handing something over waits for no server, which would take `TIMEOUT_SECONDS` and more."""


class Server:
    """A real `mlflow server` as `optpath ui` starts it, that can be killed, stopped, continued."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
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
        until(self._answers, patience_seconds=180)

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
    until(lambda: len(Connection(server.uri).children(target)) == len(entries))
    server.signal(signal.SIGSTOP)
    try:
        for entry in entries:
            assert longest_call(tracker, store, entry) < ENQUEUE_SECONDS
        until(lambda: tracker.problem)
        assert "cannot be used" in str(tracker.problem)
        began = time.monotonic()
        assert not tracker.close(timeout=5)
        assert time.monotonic() - began < 30
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
        assert longest_call(tracker, store, entries[0]) < ENQUEUE_SECONDS
        until(lambda: preparation.problem)
        server.start()
        target = preparation.target(timeout=90)
        assert target is not None, preparation.problem
        until(lambda: entries[0]["run_id"] in Connection(server.uri).children(target))
        tracker.epochs(entries[1]["run_id"], epochs_of(store, entries[1])[:7])
        until(lambda: entries[1]["run_id"] in Connection(server.uri).children(target))
        server.end()
        for entry in entries[1:]:
            assert longest_call(tracker, store, entry) < ENQUEUE_SECONDS
        until(lambda: tracker.problem)
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


def longest_call(tracker: Tracker, store: Store, entry: dict[str, Any]) -> float:
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
