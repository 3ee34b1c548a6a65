"""That a server which is absent, slow or refuses never stops or slows the sender."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.trainables.tracked import Planted, free_port, until
from trainables.tracker import (
    FIRST_PAUSE_SECONDS,
    LAST_PAUSE_SECONDS,
    Preparation,
    Tracker,
    pause_after,
)
from trainables.tracking import Connection, locate, prepare, read_target
from trainables.tracking_server import TrackingUnavailable
from trainables.tracking_uri import resolve_tracking_uri

pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy:DeprecationWarning"  # mlflow 3.17 on SQLAlchemy 2.1
)

ENQUEUE_SECONDS = 1.0
"""Handing something over waits for no server, which would take `TIMEOUT_SECONDS` and more."""


def test_an_absent_server_is_one_line(plant_sweep: Any) -> None:
    store, _ = plant_sweep()
    uri = f"http://127.0.0.1:{free_port()}"
    began = time.monotonic()
    with pytest.raises(TrackingUnavailable, match=f"MLflow at {uri} cannot be used: ") as caught:
        locate(uri, store, "planted")
    assert time.monotonic() - began < 60  # mlflow's own retries would take four minutes
    assert "\n" not in str(caught.value)
    with pytest.raises(TrackingUnavailable, match="cannot be used"):
        Connection(uri).check()


def test_without_a_server_nothing_waits_and_nothing_is_claimed(plant_sweep: Any) -> None:
    store, entries = plant_sweep()
    tracker = Tracker("planted", store)
    preparation = Preparation(f"http://127.0.0.1:{free_port()}", store, "planted")
    preparation.start()
    began = time.monotonic()
    for epoch in range(200):
        tracker.epochs(entries[0]["run_id"], [{"epoch": epoch, "step": 1, "train_loss": 1.0}])
    tracker.finish(entries[0]["run_id"])
    assert time.monotonic() - began < ENQUEUE_SECONDS
    until(lambda: preparation.problem)
    assert preparation.target() is None
    until(lambda: tracker.problem)
    began = time.monotonic()
    assert not tracker.close(timeout=30)
    assert time.monotonic() - began < 20  # not the 30 that it may wait
    preparation.stop(timeout=30)
    assert read_target(store, "planted") is None


def test_an_earlier_launchs_target_is_not_used(planted: Planted) -> None:
    store, _ = planted
    prepare(resolve_tracking_uri(None, store.root), store, "planted")
    assert read_target(store, "planted") is not None
    preparation = Preparation(f"http://127.0.0.1:{free_port()}", store, "planted")
    assert read_target(store, "planted") is None
    preparation.stop(timeout=30)


def test_a_damaged_run_stays_unsent_and_the_others_go_on(planted: Planted) -> None:
    store, entries = planted
    target = prepare(resolve_tracking_uri(None, store.root), store, "planted")
    manifest = store.run(entries[0]["run_id"]).manifest_path
    manifest.write_text(manifest.read_text().replace("interpolating", "other"))
    tracker = Tracker("planted", store)
    tracker.finish(entries[0]["run_id"])
    tracker.finish(entries[1]["run_id"])
    children = until(lambda: Connection(target.uri).children(target))
    assert not tracker.close(timeout=30)
    assert "altered" in str(tracker.problem)
    assert list(children) == [entries[1]["run_id"]]


def test_a_disabled_tracker_does_nothing(plant_sweep: Any) -> None:
    store, entries = plant_sweep()
    tracker = Tracker("planted", store, enabled=False)
    tracker.epochs(entries[0]["run_id"], [{"epoch": 0, "step": 1, "train_loss": 1.0}])
    tracker.finish(entries[0]["run_id"])
    assert tracker.close(timeout=0)
    assert not (store.root / "mlflow.db").exists()


def test_pauses_double_up_to_a_limit() -> None:
    pauses = [pause_after(n) for n in range(1, 40)]
    assert pauses[:3] == [FIRST_PAUSE_SECONDS, 2 * FIRST_PAUSE_SECONDS, 4 * FIRST_PAUSE_SECONDS]
    assert pauses[-1] == LAST_PAUSE_SECONDS
