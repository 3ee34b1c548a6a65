"""Where MLflow keeps its data: the tracking URI, made absolute, or refused with one line."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import urlsplit

from trainables.errors import UserError

DATABASES = ("postgresql", "mysql", "mssql")
"""Schemes, beside sqlite and http, that MLflow stores to."""


def resolve_tracking_uri(uri: str | None, storage: Path | str) -> str:
    """The absolute tracking URI: as given, else MLFLOW_TRACKING_URI, else SQLite in the storage.

    Raises:
        UserError: malformed, a file store, or a database in memory, which no other process sees.
    """
    given = uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not given:
        return f"sqlite:///{Path(storage).resolve() / 'mlflow.db'}"
    scheme = given.partition(":")[0] if ":" in given else ""
    if scheme in ("", "file"):
        raise UserError(
            f"tracking URI '{given}': MLflow no longer writes file stores; "
            f"use a database, such as sqlite:///{Path(storage).resolve() / 'mlflow.db'}"
        )
    if scheme == "sqlite":
        return _absolute_sqlite(given)
    if scheme == "databricks":
        return given
    return _network_uri(given)


def without_password(text: str) -> str:
    """The text with user name and password of any address in it blanked out."""
    return re.sub(r"//[^@/\s]+@", "//***@", text)


def sqlite_path(uri: str) -> Path:
    """The database file of an absolute sqlite URI."""
    return Path(uri.removeprefix("sqlite:///"))


def _absolute_sqlite(uri: str) -> str:
    location = uri.removeprefix("sqlite:///")
    if location == uri or location in ("", ":memory:"):
        raise UserError(
            f"tracking URI '{uri}': names no database file that several processes can open; "
            "use sqlite:///PATH/mlflow.db"
        )
    path = Path(location).resolve()
    if path.is_dir():
        raise UserError(f"tracking URI '{uri}': is a folder; use sqlite:///{path / 'mlflow.db'}")
    return f"sqlite:///{path}"


def _network_uri(uri: str) -> str:
    known = ("http", "https", *DATABASES)
    scheme = uri.partition(":")[0]
    if scheme.partition("+")[0] not in known:
        raise UserError(
            f"tracking URI '{uri}': unknown scheme '{scheme}'; "
            "use http://HOST:PORT or sqlite:///PATH/mlflow.db"
        )
    try:
        parts = urlsplit(uri)
        complete = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        complete = False
    if not complete or any(character.isspace() for character in uri):
        raise UserError(f"tracking URI '{uri}': malformed; write {scheme}://HOST:PORT")
    return uri.rstrip("/")
