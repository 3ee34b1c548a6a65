"""A whole run's tables, for what only they can give: windows that reach forward, sums to w*."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from geometry.bridge import LinearUpdate

Columns = dict[str, Tensor]
"""Columns of one table by name: [rows], or [rows, labels] for a table that has labels."""


@dataclass(frozen=True)
class WholeRun:
    """The measured tables of a finished run by name, and how its weights moved.

    `update` is None where w_T is not linear in the gradients: adaptive steps, clipping.
    """

    tables: Mapping[str, Columns]
    update: LinearUpdate | None
