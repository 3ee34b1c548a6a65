"""What finished runs left in the store: their tables and manifests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from trainables.config import RunConfig
from trainables.job import Progress
from trainables.store import Folder, Store, read_table

Tiny = Callable[..., RunConfig]
Finish = Callable[..., list[Progress]]


def steps(store: Store, run_id: str = "a") -> pd.DataFrame:
    return read_table(store.run(run_id).path / "steps.parquet")


def epochs(store: Store, run_id: str = "a") -> pd.DataFrame:
    return read_table(store.run(run_id).path / "epochs.parquet")


def manifest(folder: Folder) -> dict[str, Any]:
    values = folder.manifest()
    assert values is not None
    return values


def columns(table: pd.DataFrame) -> dict[str, Tensor]:
    return {name: torch.tensor(table[name].to_numpy()) for name in table if name != "run_id"}
