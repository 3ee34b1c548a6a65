"""A sweep's tables as files."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from analysis.runs import Sweep
from trainables.store import UserError, write_bytes, write_table


def export_table(sweep: Sweep, table: str, path: Path | str) -> None:
    """Write the steps, epochs or runs of a sweep as .parquet or .csv, by the file's ending.

    Raises:
        UserError: no such table, another ending, or the file cannot be written.
    """
    names = ("steps", "epochs", "runs")
    if table not in names:
        raise UserError(f"no table '{table}'; there are: {', '.join(names)}")
    _check_ending(Path(path))
    write_frame(path, sweep.steps() if table == "steps" else getattr(sweep, table))


def write_frame(path: Path | str, frame: pd.DataFrame) -> None:
    """Write a table as .parquet or .csv, by the file's ending.

    Raises:
        UserError: another ending; the file cannot be written.
    """
    target = Path(path)
    _check_ending(target)
    try:
        if target.suffix == ".parquet":
            write_table(target, frame)
        else:
            write_bytes(target, frame.to_csv(index=False).encode())
    except OSError as error:
        raise UserError(f"{target}: cannot be written ({error.strerror})") from None


def _check_ending(path: Path) -> None:
    if path.suffix not in (".parquet", ".csv"):
        raise UserError(f"{path}: write a name that ends in .parquet or .csv")
