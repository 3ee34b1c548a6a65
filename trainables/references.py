"""Where the further references of a run lie in the store, and their vectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from geometry.probes.contract import OtherReference
from trainables.config import RunConfig
from trainables.job import Job
from trainables.record import End, Kept, ReferenceRecord, sealed_record
from trainables.reference import load_reference
from trainables.store import Store


class Located(BaseModel):
    """A reference in the store: its trajectory, and the kept vector there."""

    model_config = ConfigDict(extra="forbid")

    trajectory_id: str
    kept: Kept


def located(
    job: Job, store: Store, config: RunConfig, record: ReferenceRecord
) -> dict[str, Located | None]:
    """Every further reference of a run by its label; None where a training broke before it."""
    num_steps = config.budget.num_steps(record.calendar)
    found: dict[str, Located | None] = {}
    for reference in config.other_references():
        trajectory_id, known = job.trajectory_id, record
        if reference.kind == "seed":
            trajectory_id = job.other(config.with_seed(int(reference.number)))
            known = other_record(store, trajectory_id)
        elif reference.kind == "followed" and job.follows is not None:
            trajectory_id = _trajectory_of(store, job.follows)
            known = other_record(store, trajectory_id)
        kept = _kept(reference, known, num_steps)
        place = None if kept is None else Located(trajectory_id=trajectory_id, kept=kept)
        found[reference.label] = place
    return found


def _trajectory_of(store: Store, run_id: str) -> str:
    manifest = store.run(run_id).manifest()
    assert manifest is not None, "a run that is followed has ended: its curve was read"
    return str(manifest["trajectory_id"])


def other_record(store: Store, trajectory_id: str) -> ReferenceRecord:
    """The record of another trajectory, whose w* a run of this one asks for."""
    record = sealed_record(store.trajectory(trajectory_id))
    assert record is not None, "other trajectories are done before this one is set up"
    return record


def _kept(reference: OtherReference, record: ReferenceRecord, num_steps: int) -> Kept | None:
    if reference.kind in ("ema", "best_validation"):
        return record.kept_vector(reference.label, num_steps)
    beyond = record.calendar.start(int(reference.number))
    end = record.end(beyond if reference.kind == "epoch" else num_steps)
    return None if end is None else _as_kept(reference.label, end)


def _as_kept(label: str, end: End) -> Kept:
    return Kept(
        label=label, end=end.step, step=end.step, file=end.file, fingerprint=end.fingerprint
    )


def loaded(store: Store, found: Mapping[str, Located | None], weights: Tensor) -> dict[str, Tensor]:
    """The vectors, like `weights`; NaN throughout for one that is not there, so never a number."""
    return {label: _vector(store, place, weights) for label, place in found.items()}


def _vector(store: Store, place: Located | None, weights: Tensor) -> Tensor:
    if place is None:
        return torch.full_like(weights, torch.nan)
    folder = store.trajectory(place.trajectory_id)
    return load_reference(folder, place.kept, weights.device)


def plain(found: Mapping[str, Located | None]) -> dict[str, Any]:
    """The places as plain values, for a run's manifest."""
    return {label: place and place.model_dump() for label, place in found.items()}


def parsed(values: Mapping[str, Any]) -> dict[str, Located | None]:
    """The places that a run's manifest names."""
    return {label: place and Located.model_validate(place) for label, place in values.items()}
