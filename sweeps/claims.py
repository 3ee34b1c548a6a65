"""What the presets would measure and what that costs, for claims that wait for their runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from geometry.columns import COMMON_COLUMNS, NULL_COLUMNS
from geometry.probes.registry import PROBES
from sweeps.catalogue import describe, load_spec, preset_names
from sweeps.plan import Plan, PlannedRun, make_plan
from sweeps.spec import SweepSpec
from trainables.config import RunConfig
from trainables.errors import UserError

STAND_INS = (10**7, 50_000)
"""Training examples that data which are not there are supposed to have, unless the config limits
them: no preset's batch is too large for the first, no epoch too long for one of the two."""


@dataclass(frozen=True)
class Offer:
    """A preset's runs as they would be, and what they cost.

    `runs` are entries of a plan, each with its `columns` (table.column). `num_steps` counts the
    steps of all reference and replay passes; None where the data are not there, which `reason`
    says.
    """

    preset: str
    runs: tuple[dict[str, Any], ...]
    num_trajectories: int
    num_steps: int | None
    reason: str


def offers(data_root: Path, scale: str) -> Iterator[Offer]:
    """What every preset that has that scale offers."""
    for name in preset_names():
        if scale in describe(name).scales:
            yield offer(name, data_root, scale)


def offer(preset: str, data_root: Path, scale: str) -> Offer:
    """What a preset offers; without its data in runs alone."""
    spec, reason = load_spec(preset, scale=scale), ""
    try:
        plan = make_plan(spec, data_root)
    except UserError as error:
        reason = str(error).removeprefix(f"{spec.source}: ")
        plan = _plan_without_data(spec, data_root)
    return Offer(
        preset=preset,
        runs=tuple(map(_entry, plan.runs)),
        num_trajectories=len(plan.trajectories),
        num_steps=None if reason else cost(plan),
        reason=reason,
    )


def _plan_without_data(spec: SweepSpec, data_root: Path) -> Plan:
    first, second = (partial(_supposed, size) for size in STAND_INS)
    try:
        return make_plan(spec, data_root, num_train=first)
    except UserError:
        return make_plan(spec, data_root, num_train=second)


def _supposed(size: int, config: RunConfig, data_root: Path) -> int:
    return getattr(config.data, "train_examples", None) or size


def cost(plan: Plan) -> int:
    """Steps of all reference and replay passes, each trajectory once."""
    return sum(t.num_steps + t.replay_steps for t in plan.trajectories)


def columns_of(config: RunConfig) -> set[str]:
    """Every column, as table.column, that a run of that config measures."""
    found = {f"steps.{column.name}" for column in COMMON_COLUMNS}
    for chosen in config.all_probes():
        probe = PROBES[chosen.name]
        found |= {f"{probe.table}.{column.name}" for column in probe.columns}
        found |= {f"steps.{column.name}" for column in probe.whole_run_columns}
    if "steps.gamma" in found:
        found |= {f"steps.{column.name}" for column in NULL_COLUMNS}
    return found


def _entry(run: PlannedRun) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "config": run.config.model_dump(mode="json"),
        "axes": run.axes,
        "num_steps": run.num_steps,
        "steps_per_epoch": run.steps_per_epoch,
        "columns": sorted(columns_of(run.config)),
    }
