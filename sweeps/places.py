"""Where storage, data and tracking are: from options, then the environment, then defaults."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from trainables.errors import UserError
from trainables.store import Store
from trainables.tracking_uri import resolve_tracking_uri

DEFAULT_STORAGE = Path("optpath-results")
DEFAULT_DATA = Path("~/.cache/optpath")


@dataclass(frozen=True)
class Places:
    """The resolved places of one command, all absolute."""

    store: Store
    data_root: Path
    tracking_uri: str


def places(storage: Path | None = None, tracking_uri: str | None = None) -> Places:
    """Options win over OPTPATH_STORAGE, OPTPATH_DATA and MLFLOW_TRACKING_URI, these over defaults.

    Raises:
        UserError: a malformed tracking URI.
    """
    root = storage or Path(os.environ.get("OPTPATH_STORAGE") or DEFAULT_STORAGE)
    data_root = Path(os.environ.get("OPTPATH_DATA") or DEFAULT_DATA)
    absolute = root.expanduser().resolve()
    return Places(
        store=Store(absolute),
        data_root=data_root.expanduser().resolve(),
        tracking_uri=resolve_tracking_uri(tracking_uri, absolute),
    )


def check_writable(store: Store) -> None:
    """Make the storage folder and try to write to it; raises UserError."""
    probe = store.root / f".writable-{os.getpid()}"
    try:
        store.root.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"storage {store.root} cannot be written ({error.strerror}); give another: --storage"
        ) from None
