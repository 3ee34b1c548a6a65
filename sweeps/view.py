"""The one live view of a launch; plain lines where the output is no terminal."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sweeps.progress import RUN_STATES, Progress, counted

LINES_SHOWN = 16
"""Trajectories under way that the live view lists; ours."""
PLAIN_LINES_SHOWN = 2
"""Trajectories under way that a plain line names; ours."""
PLAIN_SECONDS = 5.0
"""Least time between two plain lines; ours."""
QUIET_SECONDS = 60.0
"""Most time between two plain lines, where no run changes its state meanwhile; ours."""
STYLES = {"done": "green", "failed": "red", "running": "cyan", "reused": "blue", "pending": "dim"}


@contextmanager
def shown(progress: Progress, console: Console) -> Iterator[None]:
    """Show the progress on the console while the block runs, and its last state after it."""
    if console.is_terminal:
        live = Live(console=console, get_renderable=lambda: render(progress), transient=True)
        with live:
            yield
    else:
        with _plain(progress, console):
            yield
    console.print(summary(progress))


def render(progress: Progress) -> Group:
    """The counts, and one line per trajectory under way."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("trajectory", "pass", "", "step", "epoch", "runs"):
        table.add_column(heading, no_wrap=True)
    lines = list(progress.lines.values())
    for line in lines[:LINES_SHOWN]:
        table.add_row(
            Text(line.name),
            line.phase,
            ProgressBar(total=line.num_steps, completed=line.step, width=24),
            f"{line.step}/{line.num_steps}",
            str(line.epoch),
            str(line.num_runs),
        )
    hidden = len(lines) - LINES_SHOWN
    more = [Text(f"... and {hidden} more", style="dim")] if hidden > 0 else []
    return Group(summary(progress), *([table] if lines else []), *more)


def summary(progress: Progress) -> Text:
    """Number of runs in every state, and the time left."""
    counts = progress.counts()
    text = Text(f"{progress.plan.name}: {counted(len(progress.plan.runs), 'run', 'runs')}")
    for state in RUN_STATES:
        if counts[state]:
            text.append("  ").append(f"{counts[state]} {state}", style=STYLES[state])
    remaining = progress.remaining_seconds()
    if remaining and counts["running"] + counts["pending"]:
        text.append(f"  about {duration(remaining)} left")
    return text


def plain_line(progress: Progress) -> str:
    """The summary, and where the first trajectories under way stand."""
    lines = list(progress.lines.values())[:PLAIN_LINES_SHOWN]
    under_way = "; ".join(f"{line.name}: {line.phase} epoch {line.epoch}" for line in lines)
    return summary(progress).plain + (f"  ({under_way})" if under_way else "")


def duration(seconds: float) -> str:
    """Seconds as a person reads them."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


@contextmanager
def _plain(progress: Progress, console: Console) -> Iterator[None]:
    stop = threading.Event()

    def print_lines() -> None:
        printed, at = None, 0.0
        while not stop.wait(PLAIN_SECONDS):
            counts, now = progress.counts(), time.monotonic()
            if counts != printed or now - at >= QUIET_SECONDS:
                console.print(plain_line(progress), soft_wrap=True)
                printed, at = counts, now

    thread = threading.Thread(target=print_lines, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
