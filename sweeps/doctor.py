"""`optpath doctor`: versions, devices, data, tracking, storage; what is wrong, what to do."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sweeps.places import check_writable, places
from trainables.errors import UserError
from trainables.store import Store
from trainables.tracking_uri import sqlite_path

PACKAGES = ("ray", "mlflow", "torch", "torchvision", "pandas", "pyarrow", "pydantic")
LEAST_FREE_GIB = 1.0
"""Less free disk than this is a finding; ours."""
GIB = 2**30


@dataclass(frozen=True)
class Finding:
    """One thing that was examined; `advice` says what to type or install where it is not ok."""

    name: str
    ok: bool | None
    """None where nothing is wrong and nothing there: a data set that nobody fetched."""
    detail: str
    advice: str = ""


def examine(storage: Path | None, tracking_uri: str | None) -> list[Finding]:
    """Every finding, good ones too; raises UserError for a malformed tracking URI."""
    here = places(storage, tracking_uri)
    return [
        Finding("python", sys.version_info >= (3, 11), platform.python_version()),
        *_packages(),
        _torchvision_matches(),
        _devices(),
        _storage(here.store),
        _tracking(here.tracking_uri),
        *_data_sets(here.data_root),
    ]


def _packages() -> Iterator[Finding]:
    for name in PACKAGES:
        try:
            yield Finding(name, True, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Finding(name, False, "not installed", "pip install optpath")


def _torchvision_matches() -> Finding:
    """Import torchvision, which runs into its own compiled operators if torch is another build."""
    name = "torch and torchvision match"
    try:
        import torchvision
    except (ImportError, RuntimeError) as error:
        advice = (
            "install both from the package index: pip install --force-reinstall torch torchvision"
        )
        return Finding(name, False, str(error).splitlines()[0], advice)
    return Finding(name, True, f"torchvision {torchvision.__version__} imports")


def _devices() -> Finding:
    import torch

    cores = f"{os.cpu_count()} CPU cores"
    if not torch.cuda.is_available():
        return Finding("devices", True, f"{cores}, no GPU")
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    detail = f"{cores}, {', '.join(names)}; runs use one with --gpus-per-run 1"
    return Finding("devices", True, detail)


def _storage(store: Store) -> Finding:
    """Whether the folder, or the nearest one above it that is there, can be written; makes none."""
    root = store.root
    there = next(folder for folder in (root, *root.parents) if folder.exists())
    try:
        check_writable(Store(there))
    except UserError as error:
        return Finding("storage", False, str(error), "--storage DIR, or OPTPATH_STORAGE")
    free = shutil.disk_usage(there).free / GIB
    detail = f"{root}, {free:.1f} GiB free" + (" (made by the first run)" * (there != root))
    enough = free >= LEAST_FREE_GIB
    return Finding("storage", enough, detail, "" if enough else "free some disk")


def _tracking(uri: str) -> Finding:
    from trainables.tracking_server import Server, TrackingUnavailable

    if uri.startswith("sqlite:") and not sqlite_path(uri).exists():
        return Finding("tracking", True, f"{uri} (made by the first run)")
    try:
        Server(uri).check()
    except TrackingUnavailable as error:
        advice = "start the server, or run without it and type optpath sync later"
        return Finding("tracking", False, str(error), advice)
    return Finding("tracking", True, f"{uri} answers")


def _data_sets(root: Path) -> Iterator[Finding]:
    """A data set that is not there is no fault; the line says how to get it."""
    from trainables.data.registry import DATA

    for name, member in DATA.items():
        if any(field.is_required() for field in member.model_fields.values()):
            continue
        try:
            data = member()
            sizes = data.resolved(root).sizes(root)
        except UserError as error:
            yield Finding(f"data {name}", None, "not here", str(error))
        else:
            detail = f"{sizes.train} training, {sizes.validation} validation, {sizes.test} test"
            yield Finding(f"data {name}", True, detail)
