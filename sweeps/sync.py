"""Upload to MLflow what the store holds and the server does not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sweeps.plan_store import read_plan
from trainables.store import Store
from trainables.tracking import (
    ERROR_TAG,
    SYNC_SECONDS,
    Connection,
    TrackingTarget,
    locate,
    plan_files,
)
from trainables.tracking_content import TAG_LENGTH, RunContent, finished, opening, status_tags
from trainables.tracking_sweep import shared_params

if TYPE_CHECKING:
    from mlflow.entities import Run


@dataclass(frozen=True)
class SyncResult:
    """What a sync found and did; counts are runs."""

    target: TrackingTarget
    uploaded: int
    present: int
    """Already complete on the server."""
    unfinished: int
    """Without a manifest in the store: waiting, running, interrupted or failed."""

    @property
    def text(self) -> str:
        """One line for the user."""
        counts = f"{self.uploaded} runs uploaded, {self.present} were complete"
        return f"{counts}, {self.unfinished} have not finished" if self.unfinished else counts


def sync(
    sweep: str,
    store: Store,
    uri: str,
    *,
    ended: bool = False,
    note: str | None = None,
    timeout_seconds: float = SYNC_SECONDS,
) -> SyncResult:
    """Make the server hold what the store holds of a sweep; what it holds already is not resent.

    `ended` says that nothing of the sweep runs any more: runs without a manifest are then marked as
    failed, with their error, or as interrupted. `note` becomes the description of the sweep's run.

    Raises:
        UserError: no such sweep in the store, or a stored file is damaged.
        TrackingUnavailable: the server does not answer; what was sent before that stays.
    """
    plan = read_plan(store, sweep)
    members = [_content(entry, sweep, store) for entry in plan["runs"]]
    target = locate(uri, store, sweep, timeout_seconds, shared_params(members))
    connection = Connection(uri, timeout_seconds)
    children = connection.children(target)
    counts = {"uploaded": 0, "present": 0, "unfinished": 0}
    for entry, content in zip(plan["runs"], members, strict=True):
        found = children.get(entry["run_id"])
        counts[_sync_run(connection, target, store, entry, content, found, ended=ended)] += 1
    connection.tell_parent(target, members)
    connection.put(target.parent_run_id, plan_files(store, sweep))
    if note is not None:
        connection.describe(target.parent_run_id, note)
    if ended or not counts["unfinished"]:
        done = "KILLED" if counts["unfinished"] else "FINISHED"
        connection.end_parent(target, done)
    return SyncResult(target=target, **counts)


def _content(entry: Mapping[str, Any], sweep: str, store: Store) -> RunContent:
    return finished(entry, sweep, store) or opening(entry, sweep)


def _sync_run(
    connection: Connection,
    target: TrackingTarget,
    store: Store,
    entry: Mapping[str, Any],
    content: RunContent,
    found: Run | None,
    *,
    ended: bool,
) -> str:
    if content.manifest is not None:
        return "uploaded" if connection.upload(target, content, found) else "present"
    if ended:
        _mark_unfinished(connection, target, store, entry, found)
    return "unfinished"


def _mark_unfinished(
    connection: Connection,
    target: TrackingTarget,
    store: Store,
    entry: Mapping[str, Any],
    found: Run | None,
) -> None:
    error = store.trajectory(entry["trajectory_id"]).path / "error.json"
    if error.is_file():
        run = found or connection.child(target, opening(entry, target.sweep))
        message = json.loads(error.read_bytes())["message"]
        tags = status_tags("failed") | {ERROR_TAG: message[:TAG_LENGTH]}
        connection.set_tags(run.info.run_id, tags)
        connection.set_status(run.info.run_id, "FAILED")
    elif found is not None:
        connection.set_tags(found.info.run_id, status_tags("interrupted"))
        connection.set_status(found.info.run_id, "KILLED")
