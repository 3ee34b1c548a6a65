"""Verdicts: a rule judges the data, and the same rule judges the null model's own table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import NamedTuple

import pandas as pd

from analysis.cells import MEASURES, Ablation, is_crossed, short_name
from analysis.comparison import (
    EQUAL_WITHIN,
    Spread,
    optimizer_axis,
    select_best,
    selected,
    spread,
)
from analysis.runs import Sweep
from analysis.trends import PowerLaw, exponents

CLAIMED_EXPONENT = 0.5
"""gamma ~ b^(1/2): P1 section 5."""
MAX_WIDTH = 0.25
"""A wider interval of an exponent settles nothing [1]; ours, untuned."""
FLAT = MAX_WIDTH / 2
"""An exponent below this does not count as growth: less than half the width asked for."""
MONOTONE_SHARE = 0.9
"""Share of the slices of training in which gamma must grow with every level [1]; ours, untuned."""
JUDGED_SLICES = range(1, 18)
"""The twentieths of a run that lie in its 5 % to 90 %."""
JUDGED = "training's 5-90 %"


class Word(StrEnum):
    """The four verdicts."""

    BEYOND = "supported beyond the null"
    EXPLAINED = "supported but explained by the null"
    REFUTED = "refuted"
    INCONCLUSIVE = "inconclusive"


class Outcome(Enum):
    """What a rule says of one table."""

    PASS = "passes"
    FAIL = "fails"
    OPEN = "does not settle"


@dataclass(frozen=True)
class Verdict:
    """A claim, the word on it, why, and the numbers; `scope` is the part of the sweep judged."""

    claim: str
    source: str
    scope: str
    word: Word
    why: str
    evidence: str


@dataclass(frozen=True)
class Evidence:
    """One ablation's exponents in the batch size, for gamma and for the null's own table."""

    label: str
    equal_steps: bool
    gamma: PowerLaw
    null: PowerLaw
    over_null: PowerLaw
    gamma_monotone: float | None
    null_monotone: float | None


Rule = Callable[[PowerLaw, float | None], Outcome]


def grows(law: PowerLaw, monotone: float | None) -> Outcome:
    """The rule of 'increases': the exponent's interval lies above FLAT.

    And the seed mean grows from every level to the next in at least MONOTONE_SHARE of the judged
    slices. It fails where the interval lies below FLAT; anything else is not settled.
    """
    if law.bounds is None:
        return Outcome.OPEN
    low, high = law.bounds
    if high < FLAT:
        return Outcome.FAIL
    is_monotone = monotone is not None and monotone >= MONOTONE_SHARE
    return Outcome.PASS if low > FLAT and is_monotone else Outcome.OPEN


def is_square_root(law: PowerLaw, monotone: float | None) -> Outcome:
    """The rule of 'square root': the interval holds .5, not 0, and is narrower than MAX_WIDTH.

    It fails where the interval does not hold .5; a wide one that does is not settled.
    """
    if law.bounds is None:
        return Outcome.OPEN
    low, high = law.bounds
    if not low <= CLAIMED_EXPONENT <= high:
        return Outcome.FAIL
    return Outcome.PASS if low > 0 and high - low < MAX_WIDTH else Outcome.OPEN


class Claim(NamedTuple):
    """A claim about the batch size, its source, its rule, and the rule in words for the report."""

    text: str
    source: str
    rule: Rule
    words: str


BATCH_SIZE_CLAIMS = (
    Claim(
        "gamma increases with the batch size",
        "P1 section 5",
        grows,
        f"passes if the exponent's interval lies above {FLAT} and the seed mean grows from every "
        f"level to the next in at least {MONOTONE_SHARE:.0%} of the slices of training between "
        f"5 % and 90 %; fails if the interval lies below {FLAT}; anything else is not settled.",
    ),
    Claim(
        "gamma scales with the square root of the batch size",
        "P1 section 5",
        is_square_root,
        f"passes if the exponent's interval holds {CLAIMED_EXPONENT}, not 0, and is narrower than "
        f"{MAX_WIDTH}; fails if it does not hold {CLAIMED_EXPONENT}; a wide one is not settled.",
    ),
)


def judge(sweep: Sweep, ablations: Sequence[Ablation]) -> list[Verdict]:
    """Every verdict that the sweep's axes allow, claims about the batch size first."""
    batch = [a for a in ablations if a.compared == "batch_size" and not a.cells.empty]
    verdicts = [
        judge_batch_size(claim.text, claim.source, claim.rule, evidence, scope)
        for scope, evidence in batch_evidence(batch).items()
        for claim in BATCH_SIZE_CLAIMS
    ]
    for ablation in ablations:
        verdicts += [judge_axis(ablation, axis) for axis in _other_axes(ablation)]
        verdicts += _judge_selected(sweep, ablation)
    return verdicts


def batch_evidence(ablations: Iterable[Ablation]) -> dict[str, list[Evidence]]:
    """Evidence per group: an ablation and its equal-steps twin meet where their groups agree."""
    found: dict[str, list[Evidence]] = {}
    for ablation in ablations:
        for group, cells in ablation.cells.groupby("group", sort=False):
            found.setdefault(str(group), []).append(_evidence(ablation, cells))
    return found


def judge_batch_size(
    claim: str, source: str, rule: Rule, evidence: Sequence[Evidence], scope: str = ""
) -> Verdict:
    """The verdict of a rule about exponents in the batch size.

    Beyond the null: at equal steps the rule passes on gamma, fails on the null, and gamma over null
    is not flat. Explained by the null: it passes on gamma, and on the null as well or gamma over
    null is flat, that is, its exponent's interval holds 0 and is narrower than MAX_WIDTH or lies
    within -+FLAT (the null's own interval is so narrow that .499 would not count as .5).
    Refuted: it fails on gamma wherever the number of steps is not held equal, which is the claim's
    own setting (at equal steps, if there is nothing else).
    """
    on_gamma = {e.label: rule(e.gamma, e.gamma_monotone) for e in evidence}
    on_null = {e.label: rule(e.null, e.null_monotone) for e in evidence}
    passed = [e for e in evidence if on_gamma[e.label] is Outcome.PASS]
    own = [e for e in evidence if not e.equal_steps] or list(evidence)
    explained = [e for e in passed if on_null[e.label] is Outcome.PASS or _is_flat(e.over_null)]
    beyond = [e for e in passed if e not in explained and on_null[e.label] is Outcome.FAIL]
    word = Word.INCONCLUSIVE
    if any(e.equal_steps for e in beyond):
        word = Word.BEYOND
    elif explained:
        word = Word.EXPLAINED
    elif all(on_gamma[e.label] is Outcome.FAIL for e in own):
        word = Word.REFUTED
    parts = [_outcomes(e.label, on_gamma[e.label], on_null[e.label]) for e in evidence]
    if not any(e.equal_steps for e in evidence):
        parts.append("no ablation at equal steps, so nothing can be beyond the null")
    numbers = " ".join(_numbers(e) for e in evidence)
    return Verdict(claim, source, scope, word, "; ".join(parts), numbers)


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
    return Verdict(claim, "comparison along the axis", scope, word, why, numbers)


def monotone_share(ablation: Ablation, cells: pd.DataFrame, measure: str) -> float | None:
    """Share of JUDGED_SLICES in which the seed mean grows from every level to the next.

    None where no slice has a value at every level, or there is one level.
    """
    place = cells[["run_id", "level"]]
    slices = ablation.slices[ablation.slices["slice"].isin(JUDGED_SLICES)].merge(place, on="run_id")
    if slices.empty or place["level"].nunique() < 2:
        return None
    table = slices.pivot_table(index="slice", columns="level", values=measure, aggfunc="mean")
    table = table.reindex(columns=sorted(place["level"].unique())).dropna()
    if table.empty:
        return None
    return float((table.diff(axis=1).iloc[:, 1:] > 0).all(axis=1).mean())


def _evidence(ablation: Ablation, cells: pd.DataFrame) -> Evidence:
    laws = exponents(cells)
    return Evidence(
        label=ablation.label,
        equal_steps=ablation.equal_steps,
        gamma=laws["gamma"],
        null=laws["null_gamma"],
        over_null=laws["gamma_over_null"],
        gamma_monotone=monotone_share(ablation, cells, "gamma"),
        null_monotone=monotone_share(ablation, cells, "null_gamma"),
    )


def _is_flat(law: PowerLaw) -> bool:
    if law.bounds is None:
        return False
    low, high = law.bounds
    return (low <= 0 <= high and high - low < MAX_WIDTH) or (low > -FLAT and high < FLAT)


def _differs(found: Spread) -> Outcome:
    if found.low is None or found.high is None:
        return Outcome.OPEN
    if found.low > EQUAL_WITHIN:
        return Outcome.PASS
    return Outcome.FAIL if found.high < EQUAL_WITHIN else Outcome.OPEN


def _outcomes(label: str, on_gamma: Outcome, on_null: Outcome) -> str:
    too = " too" if on_gamma is on_null else ""
    return f"{label}: gamma {on_gamma.value} the rule, the null {on_null.value} it{too}"


def _numbers(evidence: Evidence) -> str:
    share = evidence.gamma_monotone
    monotone = "" if share is None else f", growing with each level in {share:.0%} of {JUDGED}"
    return (
        f"{evidence.label}: gamma ~ b^{evidence.gamma}{monotone}; "
        f"{MEASURES['null_gamma']} alone ~ b^{evidence.null}; "
        f"gamma / null ~ b^{evidence.over_null}."
    )


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
    scope = f"{ablation.label}, each optimizer's best setting by validation accuracy"
    claim = f"gamma depends on the {short_name(per)} at its best setting"
    return [judge_cells(claim, scope, selected(ablation, best))]
