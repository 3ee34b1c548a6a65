"""What figures of single trajectories show: which runs, their courses, the epochs of matrices."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd

from analysis.cells import Ablation, short_name
from analysis.figures.style import level_text
from analysis.lengths import Length, run_lengths
from analysis.runs import Sweep

MAX_RUNS = 12
"""Trajectories that a figure shows, the first of the sweep; ours, what a page holds."""
MAX_POINTS = 1500
"""Points of a curve, P2's longest run; of longer runs each is the mean over its steps."""


@dataclass(frozen=True)
class Shown:
    """One trajectory of a figure: the first seed of one combination of levels."""

    run_id: str
    levels: str
    """The levels in words; empty where the ablation has no axis."""
    ablation: str
    seed: str
    length: Length

    @property
    def title(self) -> str:
        """The levels, or the ablation where it has none."""
        return self.levels or self.ablation

    @property
    def full_title(self) -> str:
        """Ablation, levels and seed."""
        return ", ".join(text for text in (self.ablation, self.levels, f"seed {self.seed}") if text)


def shown_runs(ablations: Sequence[Ablation]) -> list[Shown]:
    """The first seed of each combination of an ablation's axes, each run once, all of them."""
    found: dict[str, Shown] = {}
    for ablation in ablations:
        axes = list(ablation.axes)
        cells = ablation.cells
        firsts = cells.drop_duplicates(axes) if axes else cells.head(1)
        told_apart, lengths = ablation.told_apart(), run_lengths(cells)
        for cell in firsts.to_dict("records"):
            levels = _levels_text(cell, told_apart)
            run_id = str(cell["run_id"])
            length = lengths[run_id]
            shown = Shown(run_id, levels, ablation.label, str(cell["seed"]), length)
            found.setdefault(run_id, shown)
    return list(found.values())


def first_tables(
    ablations: Sequence[Ablation], table_of: Callable[[Shown], pd.DataFrame | None]
) -> Iterator[tuple[Shown, pd.DataFrame]]:
    """The first MAX_RUNS trajectories that have a table, each with it; no further one is read."""
    tables = ((run, table_of(run)) for run in shown_runs(ablations))
    return islice(((run, table) for run, table in tables if table is not None), MAX_RUNS)


def stacked(tables: Sequence[pd.DataFrame], columns: Sequence[str]) -> pd.DataFrame:
    """Those columns of the tables, one below the other; without any table, no rows."""
    if not tables:
        return pd.DataFrame(columns=list(columns))
    return pd.concat(tables, ignore_index=True)[list(columns)]


def course_of(sweep: Sweep, run: Shown, columns: Sequence[str]) -> pd.DataFrame | None:
    """Columns of the run's steps over its epochs: x (epochs, fractional) and `columns`.

    At most MAX_POINTS rows; of more steps a row is the mean over what is defined of its steps. None
    if the run lacks one of the columns, or all its values are undefined.
    """
    steps = sweep.source.table(run.run_id, "steps", ["step", *columns])
    if steps is None or any(name not in steps or steps[name].isna().all() for name in columns):
        return None
    course = steps[list(columns)].assign(x=run.length.place(steps["step"]))
    if len(course) <= MAX_POINTS:
        return course
    part = np.arange(len(course)) * MAX_POINTS // len(course)
    return course.groupby(part).mean()


def matrix_epochs(sweep: Sweep, label: str) -> list[int]:
    """The epochs that the spec asks for: `analysis: {matrix_epochs: [...]}`; none if it does not.

    Those of an ablation come before the sweep's.
    """
    about = sweep.plan["ablations"][label].get("analysis") or sweep.plan.get("analysis") or {}
    return list(about.get("matrix_epochs") or [])


def _levels_text(cell: dict[Any, Any], axes: Sequence[str]) -> str:
    known = [axis for axis in axes if not pd.isna(cell[axis])]
    return ", ".join(f"{short_name(axis)} {level_text(cell[axis])}" for axis in known)
