"""What the store says of a stored sweep's runs: state, pass, epoch, remaining time, last error."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeps.plan_store import SETTLED, read_plan
from sweeps.same_data import PresentData
from sweeps.view import duration
from trainables.errors import UserError
from trainables.store import Folder, Store

FRESH_SECONDS = 10.0
"""A worker that wrote where it stands no longer ago is taken for alive without a look; ours."""


@dataclass(frozen=True)
class RunStatus:
    """One run as the store shows it."""

    run_id: str
    ablations: Sequence[str]
    axes: Mapping[str, Any]
    state: str
    """pending, running, interrupted, failed, or the manifest's: done, diverged, replay_diverged."""
    phase: str = ""
    epoch: str = ""
    remaining: str = ""
    """Time to the end of this pass."""
    error: str = ""


def sweep_status(store: Store, name: str, data_root: Path) -> list[RunStatus]:
    """The status of every run of a stored sweep; raises UserError for an unknown sweep."""
    now, present = time.time(), PresentData(data_root)
    return [_status(store, run, now, present) for run in read_plan(store, name)["runs"]]


def _status(store: Store, run: Mapping[str, Any], now: float, present: PresentData) -> RunStatus:
    own = run["run_id"], run["ablations"], run["axes"]
    manifest = store.run(run["run_id"]).manifest()
    if manifest is not None and manifest["status"] in SETTLED:
        step = manifest["diverged_at_step"]
        error = "" if step is None else f"training diverged at step {step}"
        return RunStatus(*own, manifest["status"], error=error or _other_data(manifest, present))
    folder = store.trajectory(run["trajectory_id"])
    progress = _read(folder, "progress.json")
    if progress is not None and run["run_id"] in progress["runs"]:
        alive = now - progress["updated"] < FRESH_SECONDS or _is_held(folder)
        state = "running" if alive else "interrupted"
        remaining = _remaining(progress) if alive else ""
        return RunStatus(*own, state, progress["phase"], str(progress["epoch"]), remaining)
    failure = _read(folder, "error.json")
    error = failure["message"].splitlines()[0] if failure else ""
    state = manifest["status"] if manifest else "failed" if failure else "pending"
    return RunStatus(*own, state, error=error)


def _other_data(manifest: Mapping[str, Any], present: PresentData) -> str:
    data = present.of(manifest["config"])
    if present.digest(data) in (None, manifest["data_digest"]):
        return ""
    return f"computed from other {data.name} data than are now in {present.root}"


def _remaining(progress: Mapping[str, Any]) -> str:
    """Time to the end of this pass at the rate of the last report."""
    if not progress["steps_done"]:
        return ""
    left = progress["num_steps"] - progress["step"]
    return duration(left * progress["seconds"] / progress["steps_done"])


def _is_held(folder: Folder) -> bool:
    """True if a worker holds the trajectory's lock: an epoch may take longer than a minute."""
    try:
        with folder.lock(patience_seconds=0.0):
            return False
    except UserError:
        return True


def _read(folder: Folder, name: str) -> dict[str, Any] | None:
    path = folder.path / name
    if not path.is_file():
        return None
    values: dict[str, Any] = json.loads(path.read_bytes())
    return values
