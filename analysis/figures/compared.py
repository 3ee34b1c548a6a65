"""The axis along which a figure's curves differ, where the user chooses another than usual."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from analysis.cells import Ablation, short_name
from analysis.runs import Sweep
from trainables.store import UserError

SEED = "seed"
"""The axis of replicates: one curve per seed."""


def compared_by(sweep: Sweep, ablations: Sequence[Ablation], axis: str) -> list[Ablation]:
    """The ablations with their levels along `axis`, which is `seed` or any varied config field.

    A field is written dotted or as a reader calls it (optimizer for optimizer.name). Ablations in
    which it has one value are left out.

    Raises:
        UserError: the sweep varies no such field (lists those it varies), or no ablation has two
            values of it among the runs that count.
    """
    if axis == SEED:
        found = [by_seed(ablation) for ablation in ablations]
    else:
        field = _field(sweep, axis)
        found = [_along(sweep, ablation, field) for ablation in ablations]
    several = [ablation for ablation in found if ablation.cells["level"].nunique() > 1]
    if not several and any(not ablation.cells.empty for ablation in found):
        raise UserError(f"{sweep.name}: no ablation has two values of {axis} to compare")
    return several


def by_seed(ablation: Ablation) -> Ablation:
    """The ablation with its seeds as levels and its own levels as groups."""
    cells = ablation.cells
    if ablation.compared is not None and ablation.told_apart():
        name = short_name(ablation.compared)
        levels = [
            ", ".join(text for text in (f"{name} {level}", group) if text)
            for level, group in cells[["level", "group"]].itertuples(index=False)
        ]
        cells = cells.assign(group=pd.Series(levels, dtype=object, index=cells.index))
    return replace(ablation, compared=SEED, cells=cells.assign(level=_numbers(cells["seed"])))


def _along(sweep: Sweep, ablation: Ablation, field: str) -> Ablation:
    if field not in ablation.axes:
        values = sweep.runs[["run_id", field]]
        cells = ablation.cells.drop(columns=field, errors="ignore").merge(values, on="run_id")
        ablation = replace(ablation, axes=(*ablation.axes, field), cells=cells)
    return replace(ablation, compared=field, cells=ablation.along(field))


def _field(sweep: Sweep, axis: str) -> str:
    columns = [str(name) for name in sweep.runs.columns]
    first = columns.index("trajectory_id") + 1
    fields = [name for name in columns[first : columns.index("ablations")] if name != SEED]
    for name in fields:
        if axis in (name, short_name(name), short_name(name).replace(" ", "_")):
            return name
    raise UserError(f"{sweep.name} does not vary '{axis}'; it varies: {', '.join([*fields, SEED])}")


def _numbers(seeds: pd.Series[str]) -> pd.Series[Any]:
    if seeds.str.fullmatch(r"\d+").all():
        return seeds.astype(int).astype(object)
    return seeds.astype(object)
