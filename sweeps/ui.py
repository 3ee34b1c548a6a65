"""`optpath ui`: MLflow's own server over the sweep's store, for the browser on this machine."""

from __future__ import annotations

import contextlib
import getpass
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable

from trainables.errors import UserError
from trainables.tracking_uri import sqlite_path

HOST = "127.0.0.1"
"""Loopback only: MLflow's server asks nobody for a password."""

DEFAULT_PORT = 5000
"""MLflow's own default port."""


def serve(uri: str, port: int = DEFAULT_PORT, echo: Callable[[str], None] = print) -> int:
    """Show the runs under an absolute tracking URI; returns the exit code when it is stopped.

    Ctrl-C is the usual way to stop it and gives 0. A tracking server is not started again: its
    address is what the browser needs, and that is printed.

    Raises:
        UserError: no database there yet, or the port is taken.
    """
    if uri.startswith(("http:", "https:")):
        echo(f"MLflow runs already at {uri}")
        return 0
    _check(uri, port)
    echo(f"MLflow starts at http://{HOST}:{port} (10 to 30 seconds); Ctrl-C stops it")
    echo(f"From another machine: {forward_hint(port)}, then open http://{HOST}:{port} there")
    process = subprocess.Popen(
        server_command(uri, port), env=os.environ | server_environment(), start_new_session=True
    )
    try:
        return process.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        stop(process)


def server_command(uri: str, port: int) -> list[str]:
    """The command that serves a database: on the loopback address, by one worker process.

    One worker: a single user gains nothing from MLflow's four, at 270 MB and some seconds each.
    """
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri]
    if uri.startswith("sqlite:"):
        root = (sqlite_path(uri).parent / "mlartifacts").as_uri()
        command += ["--artifacts-destination", root]
    return [*command, "--host", HOST, "--port", str(port), "--workers", "1"]


def server_environment() -> dict[str, str]:
    """Variables of the server process: no telemetry, no job runner beside it."""
    return {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }


def forward_hint(port: int) -> str:
    """The ssh command that makes the server reachable from the user's own machine."""
    return f"ssh -L {port}:{HOST}:{port} {getpass.getuser()}@{socket.gethostname()}"


def stop(process: subprocess.Popen[bytes], patience_seconds: float = 5.0) -> None:
    """End a process that leads its own session, and all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(patience_seconds)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _check(uri: str, port: int) -> None:
    if uri.startswith("sqlite:") and not sqlite_path(uri).is_file():
        raise UserError(
            f"no MLflow database at {sqlite_path(uri)}; "
            "run a sweep first, or name its folder with --storage"
        )
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise UserError(
                f"port {port} cannot be used ({error.strerror}); try --port {port + 1}"
            ) from None
