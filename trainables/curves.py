"""The curves of stored runs, for schedules that follow them."""

from __future__ import annotations

import torch

from trainables.errors import UserError
from trainables.schedules.contract import Curve
from trainables.store import Store, read_table


def stored_curve(store: Store, run_id: str) -> Curve:
    """The locally optimal learning rates that a finished run measured.

    Raises:
        UserError: the run is not there, or ended without measurements.
        StoreDamaged: its files were altered.
    """
    folder = store.run(run_id)
    manifest = folder.manifest()
    if manifest is None or manifest["status"] == "replay_diverged":
        raise UserError(
            f"run {run_id}, whose local learning rates are to be followed, is not done in "
            f"{store.root}; type optpath run again, which does it first"
        )
    if manifest["status"] == "diverged":
        raise UserError(
            f"run {run_id}, whose local learning rates are to be followed, diverged at step "
            f"{manifest['diverged_at_step']} and has none; give a smaller learning_rate"
        )
    folder.check_files()
    steps = read_table(folder.path / "steps.parquet")
    return Curve(run_id, torch.tensor(steps["local_lr"].to_numpy(), dtype=torch.float64))
