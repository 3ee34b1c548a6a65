"""What commands print: the console, tables without fill, the line that was typed."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

PIPE_WIDTH = 2000
"""Columns of an output that is no terminal: nothing is folded there."""


def typed() -> str:
    """What the user typed."""
    return shlex.join(["optpath", *sys.argv[1:]])


def console() -> Console:
    """Standard output, plain: no markup, no highlighting."""
    from rich.console import Console

    return Console(
        file=sys.stdout,  # kept, since Tune's notes are silenced by redirecting sys.stdout
        width=None if sys.stdout.isatty() else PIPE_WIDTH,
        highlight=False,
        markup=False,
        emoji=False,
    )


def print_table(table: Table) -> None:
    """Without the spaces that fill up the last column."""
    here = console()
    with here.capture() as lines:
        here.print(table)
    typer.echo("\n".join(line.rstrip() for line in lines.get().splitlines()))
