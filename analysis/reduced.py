"""The runs of all ablations, reduced in one pass over their steps and kept beside the sweep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from analysis.cache import cached, digest_of
from analysis.exclusion import Exclusion
from analysis.lengths import Length, run_lengths
from analysis.reductions import PART_NAMES, STEP_COLUMNS, Reduction, epoch_means, reduce_run
from analysis.runs import Sweep

COUNTS = ("num_kept", "num_undefined", "num_negative")
MEANS = (
    "gamma", "null_gamma", "null_gamma_closed", "gamma_over_null", "gamma_over_null_closed",
    "gamma_over_null_stepwise", "straightness", "null_straightness", "straightness_over_null",
    *COUNTS,
)  # fmt: skip
KEYS = {"ablation": str, "run_id": str}
"""Text, in a table without rows too."""


@dataclass(frozen=True)
class Reduced:
    """One ablation's runs: `means` one row per run, `slices` and `parts` several.

    `from_epochs` names the runs without a steps table, whose means are over whole epochs.
    """

    means: pd.DataFrame
    slices: pd.DataFrame
    parts: pd.DataFrame
    from_epochs: tuple[str, ...]


Tables = dict[str, pd.DataFrame]


def reduced(
    sweep: Sweep, runs: Mapping[str, pd.DataFrame], exclusions: Mapping[str, Exclusion]
) -> dict[str, Reduced]:
    """Per ablation, its runs, as `run_lengths` reads them, under its exclusion."""
    made: Tables = {}

    def make(name: str) -> pd.DataFrame:
        if not made:
            made.update(_reduce(sweep, runs, exclusions))
        return made[name]

    key = digest_of(
        [
            sweep.content_of({run_id for table in runs.values() for run_id in table["run_id"]}),
            {
                label: {run_id: asdict(length) for run_id, length in run_lengths(table).items()}
                for label, table in runs.items()
            },
            {label: asdict(exclusion) for label, exclusion in exclusions.items()},
        ]
    )
    folder = sweep.cache_folder
    tables = {
        name: cached(folder and folder / f"{name}.parquet", key, lambda name=name: make(name))  # type: ignore[misc]
        for name in ("means", "slices", "parts")
    }
    return {label: _of_ablation(tables, label) for label in runs}


def _of_ablation(tables: Tables, label: str) -> Reduced:
    own = {
        name: table[table["ablation"] == label].drop(columns="ablation").reset_index(drop=True)
        for name, table in tables.items()
    }
    means = own["means"]
    from_epochs = means.loc[means["from_epochs"].astype(bool), "run_id"]
    return Reduced(
        means=means.drop(columns="from_epochs"),
        slices=own["slices"],
        parts=own["parts"],
        from_epochs=tuple(from_epochs),
    )


def _reduce(
    sweep: Sweep, runs: Mapping[str, pd.DataFrame], exclusions: Mapping[str, Exclusion]
) -> Tables:
    jobs: dict[str, list[tuple[str, Length]]] = {}
    for label, table in runs.items():
        for run_id, length in run_lengths(table).items():
            jobs.setdefault(run_id, []).append((label, length))

    def reduce(run_id: str, steps: pd.DataFrame) -> list[Reduction]:
        return [reduce_run(steps, exclusions[label], length) for label, length in jobs[run_id]]

    found = sweep.map_steps(reduce, STEP_COLUMNS, list(jobs))
    rows, places, all_found = [], [], []
    for run_id, reductions in found.items():
        for (label, _), reduction in zip(jobs[run_id], reductions, strict=True):
            place = {"ablation": label, "run_id": run_id}
            rows.append({**place, **reduction.means, "from_epochs": False})
            places.append(place)
            all_found.append(reduction)
    rows += _from_epochs(sweep, {r: job for r, job in jobs.items() if r not in found}, exclusions)
    means = pd.DataFrame(rows, columns=["ablation", "run_id", *MEANS, "from_epochs"])
    return {
        "means": means.astype({**KEYS, **dict.fromkeys(MEANS, float), "from_epochs": bool}),
        "slices": _stacked(
            places, [one.slices for one in all_found], ["slice", "gamma", "null_gamma"]
        ),
        "parts": _stacked(places, [one.parts for one in all_found], ["part", "x", *PART_NAMES]),
    }


def _from_epochs(
    sweep: Sweep,
    jobs: Mapping[str, list[tuple[str, Length]]],
    exclusions: Mapping[str, Exclusion],
) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for run_id, places in jobs.items():
        epochs = sweep.epochs[sweep.epochs["run_id"] == run_id]
        if "gamma_mean" not in epochs.columns or epochs["gamma_mean"].isna().all():
            continue
        for label, length in places:
            means = epoch_means(epochs, exclusions[label].num_kept(length))
            rows.append({"ablation": label, "run_id": run_id, **means, "from_epochs": True})
    return rows


def _stacked(
    places: list[dict[str, str]], tables: list[pd.DataFrame], columns: list[str]
) -> pd.DataFrame:
    if not tables:
        return pd.DataFrame(columns=[*KEYS, *columns]).astype(KEYS)
    # The places once for all tables: a text column per table costs more than its numbers.
    lengths = [len(table) for table in tables]
    keys = {name: np.repeat([place[name] for place in places], lengths) for name in KEYS}
    stacked = pd.concat(tables, ignore_index=True).reindex(columns=columns)
    return pd.concat([pd.DataFrame(keys).astype(KEYS), stacked], axis=1)
