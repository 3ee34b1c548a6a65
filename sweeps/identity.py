"""Identity: a hash of the canonical non-default fields that change the result."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from trainables.config import RunConfig

IDENTITY_VERSION = 1
"""Raised when the same config comes to mean other numbers; old stores are then computed anew."""

ID_LENGTH = 16
"""Hexadecimal digits of an identity: 64 bits, a collision among 10^6 runs has odds of 3e-8."""


def digest(values: Any) -> str:
    """Hash of plain values; raises TypeError or ValueError where they have no stable form."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:ID_LENGTH]


def identities(config: RunConfig) -> tuple[str, str]:
    """(run_id, trajectory_id) of a config.

    Run: training, budget and probes. Trajectory: everything that changes the weights, and nothing
    else. Probes do not; the budget does only through a schedule that depends on it. The evaluation
    cadence is in it because the reference pass is recorded once for all runs that share it.
    """
    values = config.plain()
    run = digest([IDENTITY_VERSION, "run", values])
    values.pop("probes", None)
    if not config.schedule.depends_on_budget:
        values.pop("budget", None)
    return run, digest([IDENTITY_VERSION, "trajectory", values])


def run_id(config: RunConfig) -> str:
    """Identity of a run."""
    return identities(config)[0]


def trajectory_id(config: RunConfig) -> str:
    """Identity of a trajectory."""
    return identities(config)[1]
