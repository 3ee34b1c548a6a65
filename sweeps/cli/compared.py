"""What `optpath compare` prints: the numbers that moved, counts of the rest, what else differs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from sweeps.cli.output import console, print_table

if TYPE_CHECKING:
    from analysis import Moved


def print_moved(moved: Moved) -> None:
    """The numbers that moved beyond their intervals, counts of all, then words."""
    from rich.table import Table

    rows = moved.table[moved.table["state"] == "moved"].to_dict("records")
    if rows:
        table = Table("number", "A", "B", "difference", "of the intervals", box=None)
        for row in rows:
            a, b = (_interval(row, side) for side in ("a", "b"))
            table.add_row(_name(row), a, b, f"{row['difference']:+.3g}", f"{row['size']:.2f}")
        print_table(table)
    counts = [f"{count} {state}" for state, count in moved.counts.items()]
    out = console()
    out.print(f"{len(moved.table)} numbers: {', '.join(counts)}", soft_wrap=True)
    for text in moved.words:
        out.print(text, soft_wrap=True)


def _name(row: dict[Any, Any]) -> str:
    place = " ".join(text for text in (row["ablation"], row["group"]) if text)
    level = f" {row['level']}" if row["level"] else ""
    return f"{place}: {row['kind']} of {row['measure']}, {row['axis']}{level}"


def _interval(row: dict[Any, Any], side: str) -> str:
    low, high = row[f"{side}_low"], row[f"{side}_high"]
    ends = "" if math.isnan(low) else f" [{low:.3g}, {high:.3g}]"
    return f"{row[side]:.3g}{ends}"
