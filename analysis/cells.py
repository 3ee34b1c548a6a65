"""An ablation's runs as cells: level, group and seed of each run, and its means over kept steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.exclusion import Exclusion, exclusion_for
from analysis.runs import Sweep

SEED_FIELDS = ("seed", "seeds.")
"""Config fields that make replicates of a cell, not levels."""
RATIOS = {
    "gamma_over_null": "null_gamma",
    "gamma_over_null_closed": "null_gamma_closed",
}
"""gamma over a null model: column of the cells, column of the null."""
MEASURES = {
    "gamma": "gamma",
    "null_gamma": "null model (aware)",
    "null_gamma_closed": "null model (closed form)",
    "gamma_over_null": "gamma / null (aware)",
    "gamma_over_null_closed": "gamma / null (closed form)",
    "gamma_over_null_stepwise": "gamma / null (mean of per-step ratios)",
}
"""What a cell holds, with the name that a reader sees."""
STEP_COLUMNS = ("gamma", "null_gamma", "null_gamma_closed", "distance")
NOT_SET = "-"
"""The level of a run whose config does not have the axis (an MLP has no stem)."""
NUM_SLICES = 20
"""Equal parts of a run, for rules about 'most of training'; ours, untuned."""


@dataclass(frozen=True)
class Ablation:
    """One ablation of a sweep, ready to be fitted, judged and drawn.

    `cells` has one row per usable run: run_id, seed (text), level (value of the compared axis),
    group (values of the other, crossed axes as text), one column per axis, num_steps,
    steps_per_epoch, num_kept, num_undefined, num_negative and the columns of MEASURES.
    `slices` has one row per run and twentieth of the run: run_id, slice, gamma, null_gamma.
    """

    label: str
    title: str
    axes: tuple[str, ...]
    compared: str | None
    exclusion: Exclusion
    cells: pd.DataFrame
    slices: pd.DataFrame
    notes: tuple[str, ...]

    @property
    def equal_steps(self) -> bool:
        """True if every run has the same number of steps."""
        return bool(self.cells["num_steps"].nunique() == 1)

    def along(self, axis: str) -> pd.DataFrame:
        """The cells with level and group set for that axis.

        Another axis belongs to the group if it is crossed with this one, and not if each level has
        one value of it (a learning rate that goes with the batch size).
        """
        others = [name for name in self.axes if name != axis]
        crossed = [name for name in others if is_crossed(self.cells, axis, name)]
        groups = [
            _group_text(values, crossed) for values in self.cells[crossed].to_numpy().tolist()
        ]
        level = self.cells[axis]
        if level.isna().any():
            level = level.astype(object).where(level.notna(), NOT_SET)
        group = pd.Series(groups, dtype=object, index=self.cells.index)
        return self.cells.assign(level=level, group=group)


def ablations_of(sweep: Sweep) -> list[Ablation]:
    """Every ablation of the sweep, in the plan's order; one without a usable run has no cells."""
    return [_ablation(sweep, label, about) for label, about in sweep.plan["ablations"].items()]


def kept_means(steps: pd.DataFrame) -> pd.DataFrame:
    """Per run: the mean over its steps of gamma and the nulls, and gamma over null.

    gamma_over_null = mean_t gamma_t / mean_t null_t, over the steps where both are defined. As a
    ratio of means it makes exponents add up: that of gamma is the null's plus the ratio's.
    gamma_over_null_stepwise = mean_t (gamma_t / null_t) weighs every step alike.
    Undefined steps are left out of a mean and counted in num_undefined.
    """
    table = steps.reindex(columns=["run_id", *STEP_COLUMNS]).astype(
        dict.fromkeys(STEP_COLUMNS, float)
    )
    table["num_undefined"] = table["gamma"].isna()
    table["num_negative"] = table["gamma"] < 0
    table["gamma_over_null_stepwise"] = table["gamma"] / table["null_gamma"]
    for ratio, null in RATIOS.items():
        both = table["gamma"].notna() & table[null].notna()
        table[f"{ratio}_top"] = table["gamma"].where(both)
        table[f"{ratio}_bottom"] = table[null].where(both)
    groups = table.groupby("run_id", sort=False)
    means = groups.mean()
    for ratio in RATIOS:
        means[ratio] = means[f"{ratio}_top"] / means[f"{ratio}_bottom"]
    counts = groups[["num_undefined", "num_negative"]].sum().astype(int)
    return means[list(MEASURES)].assign(num_kept=groups.size(), **counts)


def slice_means(steps: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Mean gamma and null per run and slice floor(20 t / T); one row per run and slice."""
    lengths = runs.set_index("run_id")["num_steps"].astype(int)
    table = steps.reindex(columns=["run_id", "gamma", "null_gamma"])
    table["slice"] = NUM_SLICES * steps["step"] // steps["run_id"].map(lengths)
    return table.groupby(["run_id", "slice"], sort=False).mean().reset_index()


def _ablation(sweep: Sweep, label: str, about: Mapping[str, Any]) -> Ablation:
    axes = tuple(axis for axis in about["axes"] if not axis.startswith(SEED_FIELDS))
    seeds = [axis for axis in about["axes"] if axis.startswith(SEED_FIELDS)]
    runs = sweep.in_ablation(label).reset_index(drop=True)
    seed = runs[seeds].astype(str).agg(", ".join, axis=1) if seeds else "default"
    runs = runs[["run_id", "num_steps", "steps_per_epoch", *axes]].assign(seed=seed)
    options = about.get("analysis") or sweep.plan.get("analysis") or {}
    exclusion = exclusion_for(runs, options)
    steps = sweep.steps(STEP_COLUMNS)
    steps = steps[steps["run_id"].isin(runs["run_id"])]
    means = kept_means(steps[exclusion.kept(steps, runs)])
    ablation = Ablation(
        label=label,
        title=about.get("title") or label,
        axes=axes,
        compared=_compared(runs, axes),
        exclusion=exclusion,
        cells=runs.merge(means, on="run_id", how="left").assign(level="all runs", group=""),
        slices=slice_means(steps, runs),
        notes=_notes(runs, means, sweep, label),
    )
    if ablation.compared is None:
        return ablation
    return Ablation(**{**vars(ablation), "cells": ablation.along(ablation.compared)})


def _compared(runs: pd.DataFrame, axes: Sequence[str]) -> str | None:
    varied = [axis for axis in axes if runs[axis].nunique(dropna=False) > 1]
    if "batch_size" in axes:
        return "batch_size"
    return varied[0] if varied else next(iter(axes), None)


def is_crossed(cells: pd.DataFrame, axis: str, other: str) -> bool:
    """True if some level of `axis` has runs with different values of `other`."""
    per_level = cells.groupby(axis, dropna=False)[other].nunique(dropna=False)
    return bool((per_level > 1).any())


def _group_text(values: Sequence[Any], axes: Sequence[str]) -> str:
    return ", ".join(
        f"{short_name(axis)} {value}" for axis, value in zip(axes, values, strict=True)
    )


def _notes(runs: pd.DataFrame, means: pd.DataFrame, sweep: Sweep, label: str) -> tuple[str, ...]:
    planned = sum(label in run["ablations"] for run in sweep.plan["runs"])
    unmeasured = [str(run) for run in runs["run_id"] if run not in means.index]
    undefined = int(means["num_undefined"].sum())
    notes = [
        f"{len(runs)} of {planned} planned runs can be used" if len(runs) < planned else "",
        f"no step kept of {', '.join(unmeasured)}" if unmeasured else "",
        f"gamma undefined at {undefined} kept steps, left out of the means" if undefined else "",
    ]
    return tuple(note for note in notes if note)


def short_name(axis: str) -> str:
    """A dotted config field as a reader calls it: optimizer.name is optimizer."""
    return axis.removesuffix(".name").removesuffix(".base").replace(".", " ").replace("_", " ")


def ordered(levels: Sequence[Any]) -> list[Any]:
    """Levels once each: numbers ascending, names in the plan's order."""
    once = list(dict.fromkeys(levels))
    numeric = all(isinstance(level, int | float) for level in once)
    return sorted(once) if numeric else once
