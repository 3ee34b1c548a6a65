"""Ray's session, where Ray itself does not come up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sweeps.ray_session import Launch, Signals, ray_session
from trainables.errors import UserError

LATE = "The current node timed out during startup. This could happen because of a busy machine."
"""As Ray 2.60 says it, by a plain Exception."""


def start(error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    def init(**options: Any) -> None:
        raise error

    monkeypatch.setattr(ray, "init", init)
    with ray_session(Launch(tmp_path, tmp_path), Signals()):
        pass


def test_a_machine_too_busy_for_ray_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = (
        "Ray did not start on this machine: The current node timed out during startup; .*again$"
    )
    with pytest.raises(UserError, match=expected):
        start(Exception(LATE), tmp_path, monkeypatch)


def test_what_else_goes_wrong_keeps_its_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RuntimeError, match="out of shared memory"):
        start(RuntimeError("out of shared memory"), tmp_path, monkeypatch)
