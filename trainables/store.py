"""Where a run's files live. A file is written under a temporary name and renamed; a manifest last.

    <storage>/trajectories/<id>/   config.yaml  checkpoint  references/  manifest.json
    <storage>/runs/<id>/           config.yaml  steps.parquet  epochs.parquet  manifest.json
    <storage>/sweeps/<name>/       spec.yaml  plan.json  report.html  figures/

A manifest that is there means that its phase is done and its files are whole: it names each file
with its SHA-256 and is sealed by a digest of its own. No pickle is ever read.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from safetensors import SafetensorError, safe_open

from trainables.errors import UserError as UserError

if TYPE_CHECKING:
    from torch import Tensor

STORE_VERSION = 1
"""Layout version; a store written by a newer one is refused."""


class Locked(UserError):
    """Somebody else holds a folder's lock, for longer than one was prepared to wait."""


class StoreDamaged(UserError):
    """A stored file does not match what its manifest says of it."""


class StoreTooNew(UserError):
    """A stored file was written by a newer version than this one."""


@dataclass(frozen=True)
class Folder:
    """One folder of the store: its manifest, its files, its lock."""

    path: Path

    @property
    def manifest_path(self) -> Path:
        """The file whose presence means done."""
        return self.path / "manifest.json"

    def manifest(self) -> dict[str, Any] | None:
        """The sealed manifest, or None while the phase is not done; raises StoreDamaged."""
        return read_sealed(self.manifest_path)

    def write_manifest(self, values: Mapping[str, Any], files: list[str]) -> None:
        """Seal the folder: hash the named files, then write the manifest."""
        hashes = {name: file_sha256(self.path / name) for name in sorted(files)}
        write_sealed(self.manifest_path, {**values, "files": hashes})

    def check_files(self) -> None:
        """Re-hash every file that the manifest names; raises StoreDamaged naming the first bad."""
        for name, expected in (self.manifest() or {"files": {}})["files"].items():
            path = self.path / name
            if not path.is_file():
                raise StoreDamaged(f"{path}: missing, though its manifest names it")
            if file_sha256(path) != expected:
                raise StoreDamaged(f"{path}: content differs from its manifest's SHA-256")

    def remove_leftovers(self) -> None:
        """Remove the temporary files of writers that were killed; the caller holds the lock."""
        for path in self.path.rglob(".*.tmp"):
            path.unlink(missing_ok=True)

    @contextmanager
    def lock(self, patience_seconds: float = 60.0) -> Iterator[None]:
        """Hold the folder's lock; waits for a killed worker's actor, which may live on for 7 s.

        Raises:
            UserError: somebody else still holds it after `patience_seconds`.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with open(self.path / "lock", "a") as handle:
            _acquire(handle.fileno(), self.path, patience_seconds)
            yield


class Store:
    """The files of all sweeps, runs and trajectories under one storage folder."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

    def trajectory(self, trajectory_id: str) -> Folder:
        """The folder of a trajectory."""
        return Folder(self.root / "trajectories" / trajectory_id)

    def run(self, run_id: str) -> Folder:
        """The folder of a run."""
        return Folder(self.root / "runs" / run_id)

    def sweep(self, name: str) -> Folder:
        """The folder of a sweep."""
        return Folder(self.root / "sweeps" / name)

    def sweep_names(self) -> list[str]:
        """The names of the sweeps that this store has plans of."""
        return sorted(path.parent.name for path in self.root.glob("sweeps/*/plan.json"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: temporary name, fsync, rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(temporary, "wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(temporary, path)


def write_yaml(path: Path, values: Mapping[str, Any]) -> None:
    """Write plain values as YAML."""
    write_bytes(path, yaml.safe_dump(dict(values), sort_keys=False).encode())


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write plain values as JSON."""
    write_bytes(path, _as_json(values))


def write_sealed(path: Path, values: Mapping[str, Any]) -> None:
    """Write JSON together with the store's version and a digest of everything else in it."""
    body = {"store_version": STORE_VERSION, **values}
    write_json(path, {**body, "digest": _seal(body)})


def read_sealed(path: Path) -> dict[str, Any] | None:
    """Sealed JSON, or None if there is no such file; raises StoreDamaged if it was altered."""
    if not path.is_file():
        return None
    try:
        content = path.read_bytes()
        values: dict[str, Any] = json.loads(content)
        seal = values.pop("digest")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise StoreDamaged(f"{path}: not a manifest; delete its folder and run again") from None
    # the bytes as well: 1e-05 and 1E-05 are one value
    if seal != _seal(values) or content != _as_json({**values, "digest": seal}):
        raise StoreDamaged(f"{path}: altered; delete its folder and run again")
    if values["store_version"] > STORE_VERSION:
        raise StoreTooNew(f"{path}: written by a newer optpath; upgrade optpath to read it")
    return values


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors as safetensors, whole or not at all."""
    # torch takes over a second to import, and those who only read tables never need it
    from safetensors.torch import save

    host = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_bytes(path, save(host, metadata=dict(metadata)))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file; raises StoreDamaged."""
    try:
        with safe_open(path, framework="pt") as handle:
            metadata = handle.metadata() or {}
            return {name: handle.get_tensor(name) for name in handle.keys()}, metadata  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise StoreDamaged(f"{path}: not readable ({error})") from None


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as parquet; the same table gives the same bytes."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pandas(table, preserve_index=False), sink)
    write_bytes(path, sink.getvalue().to_pybytes())


def read_table(path: Path) -> pd.DataFrame:
    """A parquet table."""
    frame: pd.DataFrame = pq.read_table(path).to_pandas()
    return frame


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, hexadecimal."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _as_json(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, indent=1, allow_nan=False).encode()


def _seal(values: Mapping[str, Any]) -> str:
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _acquire(descriptor: int, path: Path, patience_seconds: float) -> None:
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise Locked(
                    f"{path}: in use by another process; wait for that sweep or stop it"
                ) from None
            time.sleep(0.1)
