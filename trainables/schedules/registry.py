"""The registry of schedules: one line per schedule."""

from __future__ import annotations

from trainables.registry import registry_of
from trainables.schedules.contract import ScheduleConfig
from trainables.schedules.fixed import Constant, LinearDecay, Milestones, WarmupCosine
from trainables.schedules.oracle import Oracle
from trainables.schedules.warmup import GAWU, WU

SCHEDULES: dict[str, type[ScheduleConfig]] = registry_of(
    Constant,
    LinearDecay,
    WarmupCosine,
    Milestones,
    WU,
    GAWU,
    Oracle,
)
