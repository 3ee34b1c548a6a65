"""An ablation's runs as cells: level, group and seed of each run, and its means over kept steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd

from analysis.exclusion import Exclusion, exclusion_for
from analysis.lengths import growth_of, run_lengths
from analysis.reduced import Reduced, reduced
from analysis.reductions import part_means, values_of
from analysis.runs import Sweep

SEED_FIELDS = ("seed", "seeds.")
"""Config fields that make replicates of a cell, not levels."""
MEASURES = {
    "gamma": "gamma",
    "null_gamma": "null model (aware)",
    "null_gamma_closed": "null model (closed form)",
    "gamma_over_null": "gamma / null (aware)",
    "gamma_over_null_closed": "gamma / null (closed form)",
    "gamma_over_null_stepwise": "gamma / null (mean of per-step ratios)",
}
"""What a cell holds, with the name that a reader sees."""
THREE_TIMES = ("gamma", "null_gamma", "gamma_over_null")
"""Every trend stands three times: raw, the null's own, and raw over null."""
STRAIGHTNESS = {
    "straightness": "straightness exponent of ‖w_t - w*‖^2 in T - t",
    "null_straightness": "that of the null model",
    "straightness_over_null": "that of ‖w_t - w*‖^2 over the null's",
}
"""Exponents that a cell holds beside its measures: 1 diffusive, 2 ballistic."""
NOT_SET = "not set"
"""The level of a run whose config does not have the axis (an MLP has no stem)."""
NAMED_MISSING = 4
"""Missing runs that a note names one by one; the report names all."""


@dataclass(frozen=True)
class Ablation:
    """One ablation of a sweep, ready to be fitted, judged and drawn.

    `cells` has one row per usable run: run_id, seed (text), level (value of the compared axis),
    group (values of the other, crossed axes as text), one column per axis, num_steps,
    steps_per_epoch, growth (of the batches), num_kept, num_undefined, num_negative, the columns of
    MEASURES and those of STRAIGHTNESS. `slices` has one row per run and twentieth of the run:
    run_id, slice, gamma, null_gamma. `parts` has one row per run and fiftieth of it that has kept
    steps: run_id, part, x (the middle of its kept steps), and for every drawn column c and its null
    c_mean, c_low, c_high. `missing` has one row per planned run that does not count: run_id,
    status, one column per axis.
    """

    label: str
    title: str
    axes: tuple[str, ...]
    compared: str | None
    exclusion: Exclusion
    cells: pd.DataFrame
    slices: pd.DataFrame
    notes: tuple[str, ...]
    parts: pd.DataFrame = field(default_factory=pd.DataFrame)
    missing: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def equal_steps(self) -> bool:
        """True if every run has the same number of steps."""
        return bool(self.cells["num_steps"].nunique() == 1)

    def along(self, axis: str) -> pd.DataFrame:
        """The cells with level and group set for that axis.

        Another axis belongs to the group if it is crossed with this one, and not if each level has
        one value of it (a learning rate that goes with the batch size).
        """
        crossed = self.crossed_with(axis)
        level = self.cells[axis]
        if level.isna().any():
            level = level.astype(object).where(level.notna(), NOT_SET)
        return self.cells.assign(level=level, group=_groups(self.cells, crossed))

    def across(self, axes: tuple[str, ...]) -> pd.DataFrame:
        """The cells with group set to the values of the crossed axes other than those."""
        others = dict.fromkeys(name for axis in axes for name in self.crossed_with(axis))
        return self.cells.assign(group=_groups(self.cells, [n for n in others if n not in axes]))

    def crossed_with(self, axis: str) -> list[str]:
        """The other axes that some level of that axis has several values of."""
        others = [name for name in self.axes if name != axis]
        return [name for name in others if is_crossed(self.cells, axis, name)]

    def told_apart(self) -> list[str]:
        """The axes along which runs can be compared, the compared one first.

        An axis of one value cannot, nor one that goes with the compared axis (one value per level).
        """
        varied = [axis for axis in self.axes if self.cells[axis].nunique(dropna=False) > 1]
        main = self.compared
        if main not in varied:
            return varied
        return [main, *(a for a in varied if a != main and is_crossed(self.cells, main, a))]

    def missing_words(self, axis: str, group: str) -> str:
        """The planned runs of that group that do not count, with their states; empty if none."""
        if self.missing.empty:
            return ""
        groups = _groups(self.missing, self.crossed_with(axis))
        rows = self.missing[groups == group] if len(groups) else self.missing
        names = [
            f"{short_name(axis)} {worded(level)} {status}"
            for level, status in rows[[axis, "status"]].itertuples(index=False)
        ]
        more = f" and {len(names) - NAMED_MISSING} more" if len(names) > NAMED_MISSING else ""
        listed = ", ".join(names[:NAMED_MISSING]) + more
        return f"{len(names)} planned runs missing: {listed}" if names else ""


def ablations_of(sweep: Sweep) -> list[Ablation]:
    """Every ablation of the sweep, in the plan's order; one without a usable run has no cells."""
    return sweep.remember("ablations", lambda: _ablations(sweep))


def parts_of(sweep: Sweep, ablation: Ablation, columns: Sequence[str]) -> pd.DataFrame:
    """`ablation.parts` for those columns of the steps table, whichever they are."""
    if f"{columns[0]}_mean" in ablation.parts.columns:
        names = [f"{name}_{what}" for name in columns for what in ("mean", "low", "high")]
        return ablation.parts.reindex(columns=["run_id", "part", "x", *names])
    lengths = run_lengths(ablation.cells)

    def reduce(run_id: str, steps: pd.DataFrame) -> pd.DataFrame:
        step, distance = steps["step"].to_numpy(), values_of(steps, "distance")
        kept = ablation.exclusion.kept_of_run(step, distance, lengths[run_id])
        values = {name: values_of(steps, name)[kept] for name in columns}
        return part_means(step[kept], values, lengths[run_id].num_steps).assign(run_id=run_id)

    found = sweep.map_steps(reduce, [*columns, "distance"], list(lengths))
    return pd.concat(list(found.values()), ignore_index=True) if found else pd.DataFrame()


def is_crossed(cells: pd.DataFrame, axis: str, other: str) -> bool:
    """True if some level of `axis` has runs with different values of `other`."""
    per_level = cells.groupby(axis, dropna=False)[other].nunique(dropna=False)
    return bool((per_level > 1).any())


def is_numeric(values: Iterable[Any]) -> bool:
    """True if every known value is a number (a truth value is none)."""
    known = [value for value in values if not pd.isna(value)]
    return bool(known) and all(
        isinstance(value, Real) and not isinstance(value, bool | np.bool_) for value in known
    )


def short_name(axis: str) -> str:
    """A dotted config field as a reader calls it: optimizer.name is optimizer."""
    return axis.removesuffix(".name").removesuffix(".base").replace(".", " ").replace("_", " ")


def worded(level: Any) -> Any:
    """The level, or words where the config does not have the axis."""
    return NOT_SET if pd.isna(level) else level


def ordered(levels: Sequence[Any]) -> list[Any]:
    """Levels once each: numbers ascending, names in the plan's order."""
    once = list(dict.fromkeys(levels))
    return sorted(once) if is_numeric(once) else once


def _ablations(sweep: Sweep) -> list[Ablation]:
    plans = sweep.plan["ablations"]
    runs = {label: _runs_of(sweep, label, about) for label, about in plans.items()}
    options = sweep.plan.get("analysis") or {}
    exclusions = {
        label: exclusion_for(
            runs[label],
            about.get("analysis") or options,
            imagenet=_is_imagenet(sweep, runs[label]["run_id"]),
        )
        for label, about in plans.items()
    }
    found = reduced(sweep, runs, exclusions)
    return [
        _ablation(sweep, label, about, runs[label], exclusions[label], found[label])
        for label, about in plans.items()
    ]


def _runs_of(sweep: Sweep, label: str, about: Mapping[str, Any]) -> pd.DataFrame:
    seeds = [axis for axis in about["axes"] if axis.startswith(SEED_FIELDS)]
    runs = sweep.in_ablation(label).reset_index(drop=True)
    seed = runs[seeds].astype(str).agg(", ".join, axis=1) if seeds else "default"
    configs = {run["run_id"]: run["config"] for run in sweep.plan["runs"]}
    growth = pd.Series([growth_of(configs[run_id]) for run_id in runs["run_id"]], dtype=object)
    columns = ["run_id", "num_steps", "steps_per_epoch", *_axes(about)]
    return runs[columns].assign(growth=growth, seed=seed)


def _is_imagenet(sweep: Sweep, run_ids: Iterable[str]) -> bool:
    own = set(run_ids)
    configs = (run["config"] for run in sweep.plan["runs"] if run["run_id"] in own)
    return {(config.get("data") or {}).get("name") for config in configs} == {"imagenet"}


def _axes(about: Mapping[str, Any]) -> list[str]:
    return [axis for axis in about["axes"] if not axis.startswith(SEED_FIELDS)]


def _ablation(
    sweep: Sweep,
    label: str,
    about: Mapping[str, Any],
    runs: pd.DataFrame,
    exclusion: Exclusion,
    found: Reduced,
) -> Ablation:
    axes = _axes(about)
    planned = sweep.planned_in(label)
    missing = planned[~planned["run_id"].isin(runs["run_id"])][["run_id", "status", *axes]]
    bare = Ablation(
        label=label,
        title=about.get("title") or label,
        axes=tuple(axes),
        compared=_compared(runs, axes),
        exclusion=exclusion,
        cells=runs.merge(found.means, on="run_id", how="left").assign(level="all runs", group=""),
        slices=found.slices,
        parts=found.parts,
        missing=missing.reset_index(drop=True),
        notes=(),
    )
    ablation = replace(bare, notes=tuple(text for text in _notes(bare, planned, found) if text))
    if ablation.compared is None:
        return ablation
    return replace(ablation, cells=ablation.along(ablation.compared))


def _compared(runs: pd.DataFrame, axes: Sequence[str]) -> str | None:
    varied = [axis for axis in axes if runs[axis].nunique(dropna=False) > 1]
    if "batch_size" in axes:
        return "batch_size"
    return varied[0] if varied else next(iter(axes), None)


def _groups(rows: pd.DataFrame, axes: Sequence[str]) -> pd.Series[str]:
    names = [short_name(axis) for axis in axes]
    texts = [
        ", ".join(f"{name} {worded(value)}" for name, value in zip(names, values, strict=True))
        for values in rows[list(axes)].to_numpy(object).tolist()
    ]
    return pd.Series(texts, dtype=object, index=rows.index)


def _notes(ablation: Ablation, planned: pd.DataFrame, found: Reduced) -> Iterable[str]:
    cells = ablation.cells
    if len(cells) < len(planned):
        yield f"{len(cells)} of {len(planned)} planned runs can be used"
    yield from _lost_levels(ablation, planned)
    yield from _single_values(ablation)
    unmeasured = cells.loc[cells["num_kept"].isna() | (cells["num_kept"] == 0), "run_id"]
    if len(unmeasured):
        yield f"no step kept of {', '.join(unmeasured)}"
    undefined = int(cells["num_undefined"].sum())
    if undefined:
        yield f"gamma undefined at {undefined} kept steps, left out of the means"
    if found.from_epochs:
        without = found.from_epochs
        named = ", ".join(without) if len(without) <= NAMED_MISSING else f"{len(without)} runs"
        yield f"no steps table of {named}: means over whole kept epochs, no course along the run"
    if len(cells) and cells["seed"].nunique() == 1:
        yield "one seed, so no interval"


def _lost_levels(ablation: Ablation, planned: pd.DataFrame) -> Iterable[str]:
    for axis in ablation.axes:
        for level, rows in planned.groupby(axis, sort=False, dropna=False):
            if len(ablation.cells) and not rows["run_id"].isin(ablation.cells["run_id"]).any():
                states = ", ".join(dict.fromkeys(rows["status"]))
                name = f"{short_name(axis)} {worded(level)}"
                yield f"{name}: none of its {len(rows)} runs counts ({states})"


def _single_values(ablation: Ablation) -> Iterable[str]:
    for axis in ablation.axes:
        values = ablation.cells[axis].unique()
        if len(values) == 1:
            yield f"{short_name(axis)} has one value ({worded(values[0])}), so no trend along it"
