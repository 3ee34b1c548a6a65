"""`optpath ui`: what it starts, where it listens, and what it refuses."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from sweeps.ui import forward_hint, serve, server_command, server_environment
from trainables.errors import UserError


def test_the_ui_of_a_server_is_its_address() -> None:
    lines: list[str] = []
    assert serve("http://tracker:5000", echo=lines.append) == 0
    assert lines == ["MLflow runs already at http://tracker:5000"]


def test_the_ui_needs_a_database(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no MLflow database at .*/mlflow\.db; run a sweep first"):
        serve(f"sqlite:///{tmp_path}/mlflow.db")


def test_a_taken_port_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").touch()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            UserError, match=rf"port {port} cannot be used .* try --port {port + 1}"
        ):
            serve(f"sqlite:///{tmp_path}/mlflow.db", port)


def test_the_ui_listens_on_the_loopback_address_only(tmp_path: Path) -> None:
    command = server_command(f"sqlite:///{tmp_path}/mlflow.db", 5001)
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert command[command.index("--workers") + 1] == "1"
    assert command[command.index("--artifacts-destination") + 1] == f"file://{tmp_path}/mlartifacts"
    assert server_environment()["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert "ssh -L 5001:127.0.0.1:5001 " in forward_hint(5001)
