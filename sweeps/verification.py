"""Verifying a sweep: every finished run's files re-hashed, one drawn epoch replayed bit for bit."""

from __future__ import annotations

from pathlib import Path

import torch
from rich.console import Console

from sweeps.plan_store import read_plan
from trainables.errors import UserError
from trainables.record import ReplayDiverged
from trainables.store import Store
from trainables.verify import verify_run


def verify_sweep(store: Store, name: str, data_root: Path, console: Console) -> int:
    """Verify every run of a stored sweep that has a manifest; the number that failed.

    Raises:
        UserError: no such sweep, or none of its runs has finished.
    """
    runs = [run["run_id"] for run in read_plan(store, name)["runs"]]
    finished = [run_id for run_id in runs if store.run(run_id).manifest_path.is_file()]
    if not finished:
        raise UserError(f"sweep '{name}' has no finished run yet; type: optpath run {name}")
    failed = 0
    for run_id in finished:
        try:
            verify_run(store, run_id, data_root=data_root, device=_device(store, run_id))
        except (UserError, ReplayDiverged) as error:
            failed += 1
            console.print(f"{run_id}: {error}", style="red", soft_wrap=True)
    good = len(finished) - failed
    console.print(f"{good} of {len(finished)} finished runs verified, {failed} failed")
    return failed


def _device(store: Store, run_id: str) -> torch.device:
    """The kind of device that the run was made on; raises UserError if there is none here."""
    manifest = store.run(run_id).manifest() or {}
    device = torch.device(manifest["environment"]["device"])
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError("made on a GPU, and none is here; verify it where it was made")
    return device
