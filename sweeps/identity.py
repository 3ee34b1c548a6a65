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


def run_id(config: RunConfig) -> str:
    """Identity of a run: training, budget and probes."""
    return digest([IDENTITY_VERSION, "run", config.plain()])


def trajectory_id(config: RunConfig) -> str:
    """Identity of a trajectory: everything that changes the weights, and nothing else.

    Probes do not; the budget does only through a schedule that depends on it. The evaluation
    cadence is in it because the reference pass is recorded once for all runs that share it.
    """
    values = config.plain()
    values.pop("probes", None)
    if not config.schedule.depends_on_budget:
        values.pop("budget", None)
    return digest([IDENTITY_VERSION, "trajectory", values])
