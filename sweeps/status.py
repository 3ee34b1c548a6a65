"""What the store says of a stored sweep's runs: state, pass, epoch, remaining time, last error."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sweeps.plan_store import read_plan
from sweeps.view import duration
from trainables.store import Folder, Store

STALE_SECONDS = 30.0
"""A worker writes where it stands every second; one that has not for this long is gone. Ours."""


@dataclass(frozen=True)
class RunStatus:
    """One run as the store shows it."""

    run_id: str
    axes: Mapping[str, Any]
    state: str
    """pending, running, interrupted, failed, or the manifest's: done, diverged, replay_diverged."""
    phase: str = ""
    epoch: str = ""
    remaining: str = ""
    error: str = ""


def sweep_status(store: Store, name: str, now: float | None = None) -> list[RunStatus]:
    """The status of every run of a stored sweep; raises UserError for an unknown sweep."""
    now = time.time() if now is None else now
    return [_status(store, run, now) for run in read_plan(store, name)["runs"]]


def _status(store: Store, run: Mapping[str, Any], now: float) -> RunStatus:
    run_id, axes = run["run_id"], run["axes"]
    manifest = store.run(run_id).manifest()
    if manifest is not None:
        step = manifest["diverged_at_step"]
        error = "" if step is None else f"diverged at step {step}"
        return RunStatus(run_id, axes, manifest["status"], error=error)
    folder = store.trajectory(run["trajectory_id"])
    error = _read(folder, "error.json").get("message", "")
    progress = _read(folder, "progress.json")
    if not progress or run_id not in progress["runs"]:
        return RunStatus(run_id, axes, "failed" if error else "pending", error=error)
    alive = now - progress["updated"] < STALE_SECONDS
    return RunStatus(
        run_id,
        axes,
        "running" if alive else "interrupted",
        phase=progress["phase"],
        epoch=str(progress["epoch"]),
        remaining=_remaining(progress) if alive else "",
        error=error,
    )


def _remaining(progress: Mapping[str, Any]) -> str:
    """Time to the end of this pass at the rate of the last report."""
    rate = progress["steps_per_second"]
    if not rate:
        return ""
    return duration((progress["num_steps"] - progress["step"]) / rate)


def _read(folder: Folder, name: str) -> dict[str, Any]:
    path = folder.path / name
    if not path.is_file():
        return {}
    values: dict[str, Any] = json.loads(path.read_bytes())
    return values
