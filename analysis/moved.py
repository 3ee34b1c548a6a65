"""Two sweeps, or one sweep under two versions of the code: which numbers moved, and by how much."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import pandas as pd

from analysis.cells import MEASURES, STRAIGHTNESS, THREE_TIMES, Ablation, ablations_of, short_name
from analysis.conclusions import verdicts
from analysis.fits import Interval, fit_power_law, interval_over_seeds
from analysis.runs import Sweep
from analysis.trends import numeric_axes

KEY = ("kind", "ablation", "axis", "group", "level", "measure")
MOVED_COLUMNS = (
    *KEY, "quantity", "a", "a_low", "a_high", "b", "b_low", "b_high", "difference", "size", "state",
)  # fmt: skip
NUMBERS = ("a", "a_low", "a_high", "b", "b_low", "b_high", "difference", "size")


class State(StrEnum):
    """What became of a number from A to B."""

    MOVED = "moved"
    """By more than the intervals of both together."""
    WITHIN = "within its interval"
    EQUAL = "equal"
    OPEN = "no interval"
    """It differs, and one side has no interval to hold that against."""
    ONLY_A = "only in A"
    ONLY_B = "only in B"


@dataclass(frozen=True)
class Moved:
    """What `compare` found.

    `table` has one row per number, the farthest moved first: kind (exponent or mean), ablation,
    axis, group, level (of a mean), measure, quantity; a, a_low, a_high and b, b_low, b_high; its
    difference b - a; size = |difference| / sqrt(h_a^2 + h_b^2) [1], h the half-width of an
    interval, missing where one has none; state (see `State`): moved if size > 1. `words` says what
    else differs: verdicts, runs, versions.
    """

    table: pd.DataFrame
    words: tuple[str, ...]

    @property
    def counts(self) -> dict[str, int]:
        """The number of numbers in each state that occurs."""
        found = self.table["state"].value_counts()
        return {str(state): int(found[state]) for state in State if state in found.index}


def compare(a: Sweep, b: Sweep) -> Moved:
    """Every exponent and every mean of a level, in A and in B; see `Moved`.

    Numbers meet where ablation, axis, group, level and measure have the same names in both.
    """
    numbers_a, numbers_b = _numbers(a), _numbers(b)
    rows = [
        _row(key, numbers_a.get(key), numbers_b.get(key))
        for key in dict.fromkeys([*numbers_a, *numbers_b])
    ]
    table = pd.DataFrame(rows, columns=list(MOVED_COLUMNS)).astype(dict.fromkeys(NUMBERS, float))
    table = table.sort_values("size", ascending=False, na_position="last", kind="stable")
    words = (*_verdicts_in_words(a, b), *_runs_in_words(a, b), *_environment_in_words(a, b))
    return Moved(table.reset_index(drop=True), words)


Key = tuple[str, str, str, str, str, str]


def _numbers(sweep: Sweep) -> dict[Key, Interval]:
    return {
        key: interval
        for ablation in ablations_of(sweep)
        for key, interval in _of_ablation(ablation)
    }


def _of_ablation(ablation: Ablation) -> Iterator[tuple[Key, Interval]]:
    for axis in numeric_axes(ablation):
        for group, cells in ablation.along(axis).groupby("group", sort=False):
            for measure in THREE_TIMES:
                law = fit_power_law(cells, axis, measure)
                if law.exponent is not None:
                    yield ("exponent", ablation.label, axis, str(group), "", measure), law.interval
    main = ablation.compared or ""
    for (part, name), rows in ablation.cells.groupby(["group", "level"], sort=False):
        for measure in (*THREE_TIMES, *STRAIGHTNESS):
            interval = interval_over_seeds(rows[measure].dropna().tolist())
            if interval.mean is not None:
                yield ("mean", ablation.label, main, str(part), str(name), measure), interval


def _row(key: Key, a: Interval | None, b: Interval | None) -> dict[str, Any]:
    row: dict[str, Any] = dict(zip(KEY, key, strict=True))
    row["quantity"] = (MEASURES | STRAIGHTNESS)[row["measure"]]
    for name, found in (("a", a), ("b", b)):
        if found is not None:
            row |= {name: found.mean, f"{name}_low": found.low, f"{name}_high": found.high}
    if a is None or b is None:
        return row | {"state": State.ONLY_A if b is None else State.ONLY_B}
    return row | _difference(a, b)


def _difference(a: Interval, b: Interval) -> dict[str, Any]:
    if a.mean is None or b.mean is None:
        return {"state": State.OPEN}
    difference = b.mean - a.mean
    if difference == 0:
        return {"difference": 0.0, "size": 0.0, "state": State.EQUAL}
    if a.bounds is None or b.bounds is None:
        return {"difference": difference, "state": State.OPEN}
    width = math.hypot(*((high - low) / 2 for low, high in (a.bounds, b.bounds)))
    size = abs(difference) / width if width else math.inf
    return {
        "difference": difference,
        "size": size,
        "state": State.MOVED if size > 1 else State.WITHIN,
    }


def _verdicts_in_words(a: Sweep, b: Sweep) -> Iterable[str]:
    key = ["claim", "scope"]
    both = verdicts(a).merge(verdicts(b), on=key, suffixes=("_a", "_b"))
    changed = both[both["verdict_a"] != both["verdict_b"]]
    for row in changed.to_dict("records"):
        scope = f" ({row['scope']})" if row["scope"] else ""
        yield f"{row['claim']}{scope}: {row['verdict_a']} in A, {row['verdict_b']} in B"


def _runs_in_words(a: Sweep, b: Sweep) -> Iterable[str]:
    common = [run_id for run_id in a.manifests if run_id in b.manifests]
    hashed = ((_tables(a.manifests[run]), _tables(b.manifests[run])) for run in common)
    same = sum(bool(one) and one == other for one, other in hashed)
    yield (
        f"{len(a.usable)} runs count in A, {len(b.usable)} in B; {len(common)} have the same "
        f"identity, and {same} of these the same tables bit for bit"
    )
    for name, sweep in (("A", a), ("B", b)):
        if sweep.problems:
            yield f"{len(sweep.problems)} runs do not count in {name}, such as {sweep.problems[0]}"


def _tables(manifest: Mapping[str, Any]) -> dict[str, str]:
    files = manifest.get("files", {})
    return {name: digest for name, digest in files.items() if name.endswith(".parquet")}


def _environment_in_words(a: Sweep, b: Sweep) -> Iterable[str]:
    values = [sweep.environment for sweep in (a, b)]
    for name in dict.fromkeys([*values[0], *values[1]]):
        one, other = (found.get(name, "unknown") for found in values)
        if one != other:
            yield f"{short_name(name)}: {one} in A, {other} in B"
