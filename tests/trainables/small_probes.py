"""Probes as a run's config names them, with options that make the costly ones cheap."""

from __future__ import annotations

import dataclasses
from typing import Any

from geometry.probes.registry import PROBES

SMALL_OPTIONS: dict[str, Any] = {"num_batches": 4, "iterations": 2, "intervals": 2, "points": 3}
SMALL_OPTIONS |= {"lags": [1, 2, 3]}
"""Given to every probe that has them; by option."""


def small_probe(name: str) -> dict[str, Any]:
    """The probe as it stands in a config."""
    fields = {field.name for field in dataclasses.fields(PROBES[name].options_type)}
    return {"name": name, **{k: v for k, v in SMALL_OPTIONS.items() if k in fields}}
