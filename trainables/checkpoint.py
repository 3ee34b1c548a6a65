"""Checkpoints of a pass: state, t and the tables so far, in one file written whole or not."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor

from trainables.store import StoreDamaged, read_tensors, write_tensors
from trainables.trajectory import Trajectory

WRITE_SHARE = 20
"""A checkpoint is due only after this many times its own write time: at most 5 % of a pass."""


class Carried(Protocol):
    """What a checkpoint carries besides the trajectory's state: measurements, kept vectors."""

    @property
    def run_id(self) -> str:
        """Whose it is."""

    def state(self) -> dict[str, Tensor]:
        """Its tensors, by names that begin with `<run_id>/` and have three parts."""


@dataclass(frozen=True)
class Checkpoint:
    """A pass as it stood after `step` steps."""

    step: int
    state: dict[str, Tensor]
    tables: dict[str, Tensor]
    run_ids: frozenset[str]
    """The runs whose tables it carries."""
    record: str
    """The reference pass's record as JSON; empty in a replay."""


def save_checkpoint(
    path: Path, trajectory: Trajectory, measurements: Sequence[Carried], record: str = ""
) -> None:
    """Write the pass's checkpoint over the one before."""
    tables = {key: value for m in measurements for key, value in m.state().items()}
    tensors = {f"state.{key}": value for key, value in trajectory.state().items()}
    tensors |= {f"table.{key}": value for key, value in tables.items()}
    metadata = {
        **trajectory.flat.layout.metadata(),
        "step": str(trajectory.step),
        "run_ids": json.dumps([m.run_id for m in measurements]),
        "record": record,
    }
    write_tensors(path, tensors, {**metadata, "sha256": _sha256(tensors, metadata)})


def load_checkpoint(path: Path) -> Checkpoint | None:
    """The checkpoint, or None if there is none; raises StoreDamaged if a byte of it changed."""
    if not path.is_file():
        return None
    tensors, metadata = read_tensors(path)
    if metadata.pop("sha256", None) != _sha256(tensors, metadata):
        raise StoreDamaged(f"{path}: damaged; delete it and run again")
    return Checkpoint(
        step=int(metadata["step"]),
        state=_under("state.", tensors),
        tables=_under("table.", tensors),
        run_ids=frozenset(json.loads(metadata["run_ids"])),
        record=metadata["record"],
    )


class Cadence:
    """Says when a checkpoint is due: after `seconds`, and for at most 5 % of the time."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._last = time.monotonic()
        self._write_seconds = 0.0

    def due(self) -> bool:
        """True if it is time."""
        wait = max(self._seconds, WRITE_SHARE * self._write_seconds)
        return time.monotonic() - self._last >= wait

    def save(
        self, path: Path, trajectory: Trajectory, measurements: Sequence[Carried], record: str
    ) -> None:
        """Write the checkpoint and remember how long it took."""
        start = time.monotonic()
        save_checkpoint(path, trajectory, measurements, record)
        self._last = time.monotonic()
        self._write_seconds = self._last - start if self._seconds else 0.0


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _sha256(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    total = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for key in sorted(tensors):
        tensor = tensors[key]
        total.update(f"{key} {tensor.dtype} {list(tensor.shape)}".encode())
        total.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()
