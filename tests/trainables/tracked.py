"""A sweep on an MLflow server, and what the server has of it."""

from __future__ import annotations

import socket
import time
from typing import Any

from trainables.store import Store, read_table
from trainables.tracking import Connection, TrackingTarget, locate
from trainables.tracking_content import finished
from trainables.tracking_uri import resolve_tracking_uri

Planted = tuple[Store, list[dict[str, Any]]]
"""A store with a finished sweep, and the entries of its runs."""


def histories(target: TrackingTarget, run: Any) -> set[tuple[str, float, int]]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(target.uri)
    rows = [
        (m.key, m.value, m.step)
        for key in run.data.metrics
        for m in client.get_metric_history(run.info.run_id, key)
    ]
    assert len(set(rows)) == len(rows)
    return set(rows)


def stored(store: Store, entry: dict[str, Any]) -> set[tuple[str, float, int]]:
    content = finished(entry, "planted", store)
    assert content is not None
    return set(content.metrics())


def assert_equals_store(store: Store, entries: list[Any], target: TrackingTarget) -> None:
    """Every metric of every run on the server equals the store's, and there is nothing else."""
    children = Connection(target.uri, timeout_seconds=20).children(target)
    assert set(children) == {entry["run_id"] for entry in entries}
    for entry in entries:
        run = children[entry["run_id"]]
        content = finished(entry, target.sweep, store)
        assert content is not None
        assert histories(target, run) == set(content.metrics())
        assert run.data.params == content.params
        assert run.info.status == "FINISHED"


def epochs_of(store: Store, entry: dict[str, Any]) -> list[dict[str, Any]]:
    """The run's epochs of the reference pass, as its worker would log them."""
    table = read_table(store.run(entry["run_id"]).path / "epochs.parquet")
    steps = entry["steps_per_epoch"] * (table["epoch"] + 1)
    rows: list[dict[str, Any]] = table.assign(step=steps).to_dict("records")
    return rows


def uploaded(store: Store, entries: list[dict[str, Any]]) -> TrackingTarget:
    target = locate(resolve_tracking_uri(None, store.root), store, "planted")
    for entry in entries:
        content = finished(entry, "planted", store)
        assert content is not None
        assert Connection(target.uri).upload(target, content)
    return target


def until(found: Any, patience_seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + patience_seconds
    while not (value := found()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return value


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
