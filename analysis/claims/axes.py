"""Whether gamma depends on an axis that no claim is about, and on each optimizer's best setting."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from analysis.cells import Ablation, is_crossed, short_name
from analysis.comparison import (
    EQUAL_WITHIN,
    Spread,
    judged_by,
    optimizer_axis,
    select_best,
    selected,
    spread,
)
from analysis.runs import Sweep
from analysis.verdicts import Outcome, Verdict, Word

SOURCE = "comparison along the axis"


def judge_axes(sweep: Sweep, ablations: Sequence[Ablation]) -> list[Verdict]:
    """A verdict per ablation and axis other than the batch size, which has claims of its own."""
    verdicts: list[Verdict] = []
    for ablation in ablations:
        verdicts += [judge_axis(ablation, axis) for axis in _other_axes(ablation)]
        verdicts += _judge_selected(sweep, ablation)
    return verdicts


def judge_axis(ablation: Ablation, axis: str) -> Verdict:
    """The verdict on 'gamma depends on this axis'; see `judge_cells`."""
    scope = f"{ablation.label}, over {short_name(axis)}"
    return judge_cells(f"gamma depends on the {short_name(axis)}", scope, ablation.along(axis))


def judge_cells(claim: str, scope: str, cells: pd.DataFrame) -> Verdict:
    """Beyond the null: the levels of gamma / null differ by more than EQUAL_WITHIN.

    Explained: those of gamma do, those of gamma / null do not. Refuted: those of gamma do not. Each
    interval must lie on one side of EQUAL_WITHIN. The null's own table has null / null = 1 at every
    level, so what differs here is not the null's.
    """
    gamma, null, over = (spread(cells, m) for m in ("gamma", "null_gamma", "gamma_over_null"))
    raw, corrected = _differs(gamma), _differs(over)
    word = Word.INCONCLUSIVE
    if corrected is Outcome.PASS:
        word = Word.BEYOND
    elif corrected is Outcome.FAIL and raw is Outcome.PASS:
        word = Word.EXPLAINED
    elif raw is Outcome.FAIL:
        word = Word.REFUTED
    why = f"levels within a factor of {EQUAL_WITHIN} count as equal"
    numbers = f"Largest level over smallest, gamma: {gamma}; null: {null}; gamma / null: {over}."
    return Verdict(claim, SOURCE, scope, word, why, numbers)


def _differs(found: Spread) -> Outcome:
    if found.low is None or found.high is None:
        return Outcome.OPEN
    if found.low > EQUAL_WITHIN:
        return Outcome.PASS
    return Outcome.FAIL if found.high < EQUAL_WITHIN else Outcome.OPEN


def _other_axes(ablation: Ablation) -> list[str]:
    # An axis that goes with the compared one (one value per level) cannot be told apart from it.
    cells, main = ablation.cells, ablation.compared
    return [
        axis
        for axis in ablation.axes
        if axis != "batch_size"
        and cells[axis].nunique(dropna=False) > 1
        and (axis == main or main is None or is_crossed(cells, main, axis))
    ]


def _judge_selected(sweep: Sweep, ablation: Ablation) -> list[Verdict]:
    per = optimizer_axis(ablation)
    if per is None:
        return []
    best = select_best(sweep, ablation, per)
    if len(best) < 2:
        return []
    judge = judged_by(sweep, ablation)[0].removeprefix("last_").replace("_", " ")
    scope = f"{ablation.label}, each optimizer's best setting by {judge}"
    claim = f"gamma depends on the {short_name(per)} at its best setting"
    return [judge_cells(claim, scope, selected(ablation, best))]
