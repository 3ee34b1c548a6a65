"""The real command line in processes of its own, found again by a mark in their environment."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[2]
COMMAND = (sys.executable, "-c", "from sweeps.cli import main; main()")
MARK = "OPTPATH_TEST_MARK"
PATIENCE_SECONDS = 300.0
"""Most time that a test waits for anything: many times what it takes on a quiet machine."""


class CommandLine:
    """`optpath` in a folder; every process that descends from it carries the mark."""

    def __init__(self, folder: Path) -> None:
        self.storage = folder / "results"
        self._mark = uuid.uuid4().hex
        ours = ("OPTPATH_", "MLFLOW_", "RAY_")
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
        self.options = {
            "cwd": folder,
            "env": {
                **inherited,
                "PYTHONPATH": str(HOUSE),
                "OPTPATH_STORAGE": str(self.storage),
                "OPTPATH_DATA": str(folder / "data"),
                "RAY_worker_niceness": "0",  # by Ray's own choice workers yield to all others
                MARK: self._mark,
            },
        }

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [*COMMAND, *arguments],
            **self.options,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command in a process group of its own."""
        return subprocess.Popen(
            [*COMMAND, *arguments],
            **self.options,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def processes(self) -> list[str]:
        """The command lines of all processes that descend from one of these commands."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if self._mark.encode() in (folder / "environ").read_bytes():
                    words = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
                    found.append(f"{folder.name} {words.decode(errors='replace')}")
            except OSError:  # it has ended, or is not ours
                continue
        return found


def wait_for(condition: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> None:
    """Return once the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def command_line(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """The command line in a folder that the module's tests share."""
    return CommandLine(tmp_path_factory.mktemp("cli"))


@pytest.fixture
def fresh_command_line(tmp_path: Path) -> CommandLine:
    """The command line in an empty folder."""
    return CommandLine(tmp_path)


@pytest.fixture(scope="session")
def until() -> Callable[..., None]:
    """Waits until a condition holds."""
    return wait_for
