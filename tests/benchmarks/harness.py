"""Interleaved timing, its median and spread, and plain tables of both. Nothing here asserts."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

PAIRS = 7
"""Least number of interleaved pairs behind a printed ratio."""

NUM_THREADS = 2
"""Threads of every timing on the CPU; the limits beside the figures are for two cores."""

CHECKOUT = Path(__file__).resolve().parents[2]

Action = Callable[[], object]


@dataclass(frozen=True)
class Spread:
    """A figure measured several times: its median, and how far the others lie apart."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The median, least and greatest of the values."""
        return cls(statistics.median(values), min(values), max(values))

    def show(self, digits: int = 2) -> str:
        """For example 1.05 (1.02..1.11)."""
        return f"{self.median:.{digits}f} ({self.low:.{digits}f}..{self.high:.{digits}f})"


def seconds(action: Action, device: torch.device) -> float:
    """Wall time of one call, the device's queue emptied before and after."""
    _synchronize(device)
    start = time.perf_counter()
    action()
    _synchronize(device)
    return time.perf_counter() - start


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def interleaved(
    contestants: Mapping[str, Action],
    device: torch.device = torch.device("cpu"),  # noqa: B008  (a constant)
    *,
    rounds: int = PAIRS,
) -> dict[str, list[float]]:
    """Seconds of each contestant in each round, after one untimed turn of each.

    Every round times every contestant once, each time beginning with another, so that neither a
    drift of the machine nor a place in the order favours one.
    """
    names = list(contestants)
    for action in contestants.values():
        action()
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            times[name].append(seconds(contestants[name], device))
    return times


def ratio(times: Mapping[str, Sequence[float]], name: str, baseline: str) -> Spread:
    """One contestant's time over the baseline's, round by round."""
    pairs = zip(times[name], times[baseline], strict=True)
    return Spread.of([of_name / of_baseline for of_name, of_baseline in pairs])


def print_table(
    title: str, header: Sequence[str], rows: Sequence[Sequence[str]], note: str
) -> None:
    """A table in aligned columns; the load average tells whether the machine was shared."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    lines.insert(1, ["-" * width for width in widths])
    padded = [
        [cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines
    ]
    text = ["\n", title, machine(), *("  ".join(line).rstrip() for line in padded), note]
    print("\n".join(text), flush=True)


def machine() -> str:
    """Where and with what the figures were taken."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"[Python {platform.python_version()}, torch {torch.__version__}, {os.cpu_count()} cores, "
        f"{torch.get_num_threads()} threads, load {load}]"
    )


def device_name(device: torch.device) -> str:
    """What a table calls the device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


OPTPATH = "import sys; sys.argv[0] = 'optpath'; from sweeps.cli import main; main()"
"""The console script as `python -c` code: the same whether the project is installed or not."""


def run_python(
    arguments: Sequence[str | Path], cwd: Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run this interpreter in `cwd` with the checkout importable; fails where the command fails."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        command = " ".join(map(str, arguments))
        raise RuntimeError(f"exit {done.returncode}: {command}\n{done.stdout}\n{done.stderr}")
    return done
