"""Reduced tables kept beside a sweep, so that a second look reads no step again.

A cache is no result: its key is a digest of everything that the table follows from, the analysis's
own code included, and where the key differs, or nothing can be kept, the table is made anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from trainables.store import write_bytes

KEY = b"optpath.key"


def digest_of(values: Any) -> str:
    """A digest of plain values and of the code that makes tables of them."""
    text = json.dumps([_code(), values], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def cached(
    path: Path | None,
    key: str,
    make: Callable[[], pd.DataFrame],
    columns: Sequence[str] | None = None,
) -> pd.DataFrame:
    """The table of that key: those columns of it that it has, read from `path` or made and kept.

    `path` None: nothing is kept.
    """
    if path is None:
        return _project(make(), columns)
    found = _read(path, key, columns)
    if found is not None:
        return found
    table = make()
    _write(path, key, table)
    return _project(table, columns)


def _project(table: pd.DataFrame, columns: Sequence[str] | None) -> pd.DataFrame:
    return table if columns is None else table[[n for n in columns if n in table.columns]]


def _read(path: Path, key: str, columns: Sequence[str] | None) -> pd.DataFrame | None:
    try:
        with pq.ParquetFile(path) as file:
            if (file.schema_arrow.metadata or {}).get(KEY) != key.encode():
                return None
            has = set(file.schema_arrow.names)
            wanted = None if columns is None else [name for name in columns if name in has]
            table: pd.DataFrame = file.read(columns=wanted).to_pandas()
            return table
    except (pa.ArrowException, OSError):
        return None  # absent or damaged: it is made anew


def _write(path: Path, key: str, table: pd.DataFrame) -> None:
    content = pa.Table.from_pandas(table, preserve_index=False)
    content = content.replace_schema_metadata({**(content.schema.metadata or {}), KEY: key})
    sink = pa.BufferOutputStream()
    # A dictionary of measured numbers is as long as they are, and takes most of the time.
    pq.write_table(content, sink, use_dictionary=False)
    try:
        write_bytes(path, sink.getvalue().to_pybytes())
    except OSError:
        return  # a store that only may be read is analysed all the same


@cache
def _code() -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in code_files())).hexdigest()


def code_files() -> list[Path]:
    """The files that a table follows from: all of analysis/, and the formulas of geometry/."""
    house = Path(__file__).parents[1]
    return sorted(p for name in ("analysis", "geometry") for p in (house / name).rglob("*.py"))
