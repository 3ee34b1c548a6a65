"""How the numbers of runs become an outcome: over seeds, over settings, between levels."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar

import numpy as np

from analysis.claims.contract import Measured
from analysis.claims.facts import Facts
from analysis.fits import Interval, interval_over_seeds
from analysis.verdicts import Found, Outcome, agreed, exactly, within

Value = Callable[[Measured], float]
Pair = tuple[Measured, Measured]
SHOWN = 4
"""Settings whose numbers a verdict names; ours."""

T = TypeVar("T", bound=Hashable)


def each_run(
    runs: Sequence[Measured], passes: Callable[[Measured], bool | None], numbers: str = ""
) -> Found:
    """A rule that every run passes or fails by itself, without an interval.

    PASS or FAIL where all runs agree, OPEN where they do not; None settles nothing.
    """
    found = [passes(run) for run in runs]
    known = [ok for ok in found if ok is not None]
    outcome = agreed(exactly(ok) for ok in known)
    counts = {"passing": sum(known), "failing": len(known) - sum(known)}
    counts["settling nothing"] = len(found) - len(known)
    words = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    text = f"{len(found)} runs: {words}; {numbers}".removesuffix("; ")
    return Found(outcome, f"{text}.")


def each_setting(
    runs: Sequence[Measured],
    value: Value,
    low: float | None,
    high: float | None,
    name: str,
) -> Found:
    """A number per run, whose interval over the seeds lies in (low, high) in every setting.

    PASS or FAIL where all settings agree, OPEN where they do not.
    """
    intervals = {setting: interval for setting, interval in over_seeds(runs, value).items()}
    outcome = agreed(within(interval, low, high) for interval in intervals.values())
    return Found(outcome, f"{name}: {listed(intervals)}.")


def over_seeds(runs: Iterable[Measured], value: Value) -> dict[str, Interval]:
    """The interval over the seeds of every setting; runs without a value are left out."""
    return {
        setting: interval_over_seeds([x for x in map(value, group) if math.isfinite(x)])
        for setting, group in replicates(runs).items()
    }


def replicates(runs: Iterable[Measured]) -> dict[str, list[Measured]]:
    """The runs that differ in nothing but the seed, by their setting in words.

    Ablations may share axes and levels, and differ in what they fix (task, data, model): their
    runs are no replicates of each other. Settings of equal words are told apart by the ablation.
    """
    groups: dict[str, list[Measured]] = defaultdict(list)
    for run in runs:
        groups[run.facts.replicate].append(run)
    words = Counter(group[0].facts.setting for group in groups.values())
    found: dict[str, list[Measured]] = {}
    for group in groups.values():
        facts = group[0].facts
        name = facts.setting
        if words[name] > 1:
            name = ", ".join([*facts.ablations, *filter(None, [name])])
        while name in found:
            name += "'"
        found[name] = group
    return found


def listed(intervals: dict[str, Interval]) -> str:
    """The intervals of settings in words, the first few of them."""
    shown = [
        f"{interval}{f' at {setting}' if setting else ''}"
        for setting, interval in list(intervals.items())[:SHOWN]
    ]
    more = f"; and {len(intervals) - SHOWN} more settings" if len(intervals) > SHOWN else ""
    return "; ".join(shown) + more


def pairs(
    runs: Iterable[Measured],
    level: Callable[[Facts], object],
    first: object,
    second: object,
    *fields: str,
) -> list[Pair]:
    """Runs at two levels that differ in nothing else: same ablation, same seed, same other axes.

    `fields` are those that the level is made of. An axis that has one value per level goes with it
    (a learning rate that goes with the optimizer) and counts as part of the level.
    """
    chosen = [run for run in runs if level(run.facts) in (first, second)]
    found: dict[tuple[str, str], Pair] = {}
    for label in dict.fromkeys(name for run in chosen for name in run.facts.ablations):
        within_label = [run for run in chosen if label in run.facts.ablations]
        dependent = _dependent_axes(within_label, level)
        places: dict[tuple[str, str], dict[object, Measured]] = defaultdict(dict)
        for run in within_label:
            key = run.facts.setting_without(*fields, *dependent), run.facts.seed
            places[key].setdefault(level(run.facts), run)
        for both in places.values():
            if len(both) == 2:
                pair = both[first], both[second]
                found[pair[0].facts.run_id, pair[1].facts.run_id] = pair
    return list(found.values())


def _dependent_axes(runs: Sequence[Measured], level: Callable[[Facts], object]) -> list[str]:
    values: dict[str, dict[object, set[object]]] = defaultdict(lambda: defaultdict(set))
    for run in runs:
        for axis, value in run.facts.axes.items():
            values[axis][level(run.facts)].add(value)
    return [axis for axis, by in values.items() if all(len(each) == 1 for each in by.values())]


def over_pairs(found: Sequence[Pair], statistic: Callable[[Measured, Measured], float]) -> Interval:
    """One number per pair, averaged over the pairs of a seed, and its interval over the seeds."""
    seeds: dict[str, list[float]] = defaultdict(list)
    for first, second in found:
        number = statistic(first, second)
        seeds[first.facts.seed] += [number] if math.isfinite(number) else []
    return interval_over_seeds([float(np.mean(each)) for each in seeds.values() if each])


def ratio(found: Sequence[Pair], value: Value) -> Interval:
    """The geometric mean of value(first) / value(second) over the pairs, with its interval."""
    logs = over_pairs(found, lambda first, second: _log(value(first)) - _log(value(second)))
    return exp(logs)


def exp(logs: Interval) -> Interval:
    """The interval of a ratio, from that of its logarithm."""
    ends = [None if end is None else math.exp(end) for end in (logs.mean, logs.low, logs.high)]
    return Interval(ends[0], ends[1], ends[2], logs.num_seeds, logs.method)


def _log(value: float) -> float:
    return math.log(value) if value > 0 else math.nan


def undefined(numbers: str) -> Found:
    """Nothing to judge."""
    return Found(Outcome.UNDEFINED, numbers)
