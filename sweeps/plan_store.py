"""A plan in the store: what is done already, whether it fits what is stored, plan.json."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sweeps.catalogue import FULL, describe, full_name, is_file
from sweeps.plan import Plan, PlannedAblation, PlannedRun, PlannedTrajectory, State
from sweeps.tree import flatten
from trainables.data.registry import DATA
from trainables.errors import UserError, nearest
from trainables.keepers import keepers_for
from trainables.record import ReferenceRecord, sealed_record
from trainables.store import Store, read_sealed, write_sealed, write_yaml

PLAN = "plan.json"
SPEC = "spec.yaml"

SETTLED: dict[str, State] = {"done": "done", "diverged": "diverged"}
"""Status in a run's manifest -> state in a plan; a run of any other status is run again."""


def mark_done(plan: Plan, store: Store) -> Plan:
    """The plan with what the store has of it: settled runs, finished reference passes.

    A run that diverged is a result and is not retried; one whose replay diverged is.
    """
    states: dict[str, State] = {}
    digests: dict[str, str] = {}
    for run in plan.runs:
        manifest = store.run(run.run_id).manifest()
        if manifest is not None and manifest["status"] in SETTLED:
            states[run.run_id] = SETTLED[manifest["status"]]
            digests[run.run_id] = manifest["data_digest"]
    marked = plan.with_states(states)
    referenced: set[str] = set()
    for trajectory in marked.trajectories:
        record = _record(trajectory, store)
        if record is not None:
            digests |= dict.fromkeys((r.run_id for r in trajectory.open_runs), record.data_digest)
            if all(_covers(record, run) for run in trajectory.open_runs):
                referenced.add(trajectory.trajectory_id)
    return replace(marked, referenced=frozenset(referenced), computed_from=digests)


def _record(trajectory: PlannedTrajectory, store: Store) -> ReferenceRecord | None:
    """The record of the reference pass that the store has for its open runs; None if none."""
    if not trajectory.open_runs:
        return None
    return sealed_record(store.trajectory(trajectory.trajectory_id))


def _covers(record: ReferenceRecord, run: PlannedRun) -> bool:
    ends = run.config.reference_ends(record.calendar)
    keepers = keepers_for({r: [run.num_steps] for r in run.config.other_references()})
    return all(map(record.covers, ends)) and all(keeper.covered(record) for keeper in keepers)


def check_same_base(store: Store, plan: Plan) -> None:
    """Refuse a name under which the store has a sweep with another base.

    Raises:
        UserError: names the first difference, and `name=` as the way out.
    """
    stored = read_sealed(store.sweep(plan.name).path / PLAN)
    if stored is None:
        return
    new = plan_values(plan)
    difference = _difference(stored["base"], new["base"])
    for label in sorted(stored["ablations"].keys() & new["ablations"].keys()):
        old, own = stored["ablations"][label]["set"], new["ablations"][label]["set"]
        difference = difference or _difference(old, own)
    if difference:
        raise UserError(
            f"sweep '{plan.name}' is already in {store.root} with another base ({difference}); "
            f"give this one a name of its own: name={plan.name}-2"
        )


def _difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    before, after = flatten(old), flatten(new)
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) != after.get(key):
            was, now = before.get(key, "default"), after.get(key, "default")
            return f"{key} is {now} here, {was} there"
    return ""


def write_plan(store: Store, plan: Plan) -> dict[str, Any]:
    """Write spec.yaml and plan.json; runs that a stored plan of the same base has stay in it.

    Returns the content of plan.json. Raises UserError as `check_same_base` does.
    """
    check_same_base(store, plan)
    folder = store.sweep(plan.name).path
    stored = read_sealed(folder / PLAN)
    values = plan_values(plan)
    values["created"] = datetime.now(UTC).isoformat(timespec="seconds")
    if stored is not None:
        values = _union(stored, values)
    write_yaml(folder / SPEC, plan.spec.plain())
    write_sealed(folder / PLAN, values)
    return values


def read_plan(store: Store, name: str) -> dict[str, Any]:
    """The content of a stored sweep's plan.json.

    Raises:
        UserError: the store has no sweep of that name (lists the near ones), or it was altered.
    """
    values = read_sealed(store.sweep(name).path / PLAN)
    if values is None:
        names = store.sweep_names()
        hint = (
            nearest(name, names) if names else "it has no sweep yet; type: optpath run quickstart"
        )
        raise UserError(f"no sweep '{name}' in {store.root}; {hint}")
    return values


def stored_name(store: Store, sweep: str, scale: str = FULL, variant: str | None = None) -> str:
    """The name in the store of what the user calls a sweep: a stored name, a preset, or a file.

    Raises:
        UserError: a file that is not there, or is no sweep.
    """
    name = full_name(sweep, scale, variant)
    if name not in store.sweep_names() and is_file(sweep):
        return full_name(describe(sweep).name, scale, variant)
    return name


def plan_values(plan: Plan) -> dict[str, Any]:
    """The plan as plain values, without the time at which it was written."""
    stand_in = {"stand_in": plan.spec.stand_in} if plan.spec.stand_in else {}
    runs = [_run_values(run) | stand_in for run in plan.runs]
    members = {run.config.data.name for run in plan.runs}
    return {
        "name": plan.name,
        "title": plan.spec.title,
        "description": plan.spec.description,
        "question": plan.spec.question,
        "figure": plan.spec.figure,
        **stand_in,
        "base": plan.base,
        "expects_divergence": plan.spec.expects_divergence,
        "ablations": {n: _ablation_values(a) for n, a in plan.ablations.items()},
        "runs": runs,
        "trajectories": _trajectories(runs),
        "analysis": plan.spec.analysis.model_dump(mode="json", exclude_defaults=True),
        "citations": [
            {"name": name, "licence": DATA[name].licence, "citation": DATA[name].citation}
            for name in sorted(members)
        ],
    }


def _run_values(run: PlannedRun) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "trajectory_id": run.trajectory_id,
        "config": run.config.plain(),
        "ablations": list(run.ablations),
        "axes": run.axes,
        "num_steps": run.num_steps,
        "steps_per_epoch": run.steps_per_epoch,
    }


def _ablation_values(ablation: PlannedAblation) -> dict[str, Any]:
    return {
        "title": ablation.title,
        "axes": list(ablation.axes),
        "set": ablation.fixed,
        "analysis": ablation.analysis and ablation.analysis.model_dump(mode="json"),
    }


def _trajectories(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    groups: dict[str, list[str]] = {}
    for run in runs:
        groups.setdefault(run["trajectory_id"], []).append(run["run_id"])
    return [{"trajectory_id": key, "run_ids": ids} for key, ids in groups.items()]


def _union(stored: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The new plan with whatever more the stored one has."""
    runs = {run["run_id"]: run for run in stored["runs"]}
    for run in new["runs"]:
        known = runs.get(run["run_id"], {"ablations": [], "axes": {}})
        runs[run["run_id"]] = {
            **run,
            "ablations": list(dict.fromkeys([*known["ablations"], *run["ablations"]])),
            "axes": {**known["axes"], **run["axes"]},
        }
    ablations = {**stored["ablations"], **new["ablations"]}
    for label in stored["ablations"].keys() & new["ablations"].keys():
        axes = [*stored["ablations"][label]["axes"], *new["ablations"][label]["axes"]]
        ablations[label] = {**ablations[label], "axes": list(dict.fromkeys(axes))}
    citations = {c["name"]: c for c in [*stored["citations"], *new["citations"]]}
    merged = list(runs.values())
    return {
        **new,
        "ablations": ablations,
        "runs": merged,
        "trajectories": _trajectories(merged),
        "citations": list(citations.values()),
        "created": stored["created"],
    }
