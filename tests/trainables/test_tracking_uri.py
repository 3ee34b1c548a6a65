"""Where tracking goes: an absolute address, from what is given, the environment, the storage."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainables.errors import UserError
from trainables.tracking_uri import resolve_tracking_uri, without_password


def test_the_default_is_a_database_in_the_storage(tmp_path: Path) -> None:
    assert resolve_tracking_uri(None, tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"


def test_the_environment_is_asked_before_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracker:5000/")
    assert resolve_tracking_uri(None, tmp_path) == "http://tracker:5000"
    assert resolve_tracking_uri("https://given", tmp_path) == "https://given"


def test_a_relative_database_becomes_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve_tracking_uri("sqlite:///a/b.db", "x") == f"sqlite:///{tmp_path}/a/b.db"
    assert resolve_tracking_uri(f"sqlite:///{tmp_path}/c.db", "x") == f"sqlite:///{tmp_path}/c.db"
    assert resolve_tracking_uri(None, "store") == f"sqlite:///{tmp_path}/store/mlflow.db"


@pytest.mark.parametrize(
    ("uri", "finding"),
    [
        ("file:./mlruns", r"no longer writes file stores; use a database, such as sqlite:///"),
        ("./mlruns", r"no longer writes file stores"),
        ("sqlite:///:memory:", r"names no database file .* use sqlite:///PATH/mlflow\.db"),
        ("sqlite:mlflow.db", r"names no database file"),
        ("htp://tracker:5000", r"unknown scheme 'htp'; use http://HOST:PORT"),
        ("localhost:5000", r"unknown scheme 'localhost'; use http://HOST:PORT"),
        ("http://", r"malformed; write http://HOST:PORT"),
        ("http://tracker:port", r"malformed; write http://HOST:PORT"),
        ("http://tracker:5000/a b", r"malformed"),
    ],
)
def test_a_malformed_uri_is_refused_in_one_line(uri: str, finding: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=finding) as caught:
        resolve_tracking_uri(uri, tmp_path)
    assert "\n" not in str(caught.value)
    assert uri in str(caught.value)


def test_a_folder_is_no_database(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is a folder; use sqlite:///.*/mlflow\.db"):
        resolve_tracking_uri(f"sqlite:///{tmp_path}", tmp_path)


def test_passwords_are_not_repeated() -> None:
    text = without_password("at http://user:secret@tracker:5000/x")
    assert text == "at http://***@tracker:5000/x"
