"""Words of judgement: what a rule says of one table, and what its word on a claim is.

A rule judges the data, and the same rule judges the null model's own table: what passes there too
is at most explained by the null.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, StrEnum

from analysis.fits import Interval


class Word(StrEnum):
    """The verdicts. An exact claim passes or fails; of any other the first four are the words."""

    BEYOND = "supported beyond the null"
    EXPLAINED = "supported but explained by the null"
    REFUTED = "refuted"
    INCONCLUSIVE = "inconclusive"
    PASSES = "passes"
    FAILS = "fails"


class Outcome(Enum):
    """What a rule says of one table."""

    PASS = "passes"
    FAIL = "fails"
    OPEN = "does not settle"
    UNDEFINED = "has no value for"
    """The metric does not exist there: on data inconclusive, on the null's table no pass."""


@dataclass(frozen=True)
class Found:
    """What a rule found in one table: the outcome, and the numbers that it rests on, in words.

    `strict` is a further outcome for claims whose rule the null may pass or fail for other reasons:
    PASS where the data exceed the null, FAIL where they do not. Without it the null's own outcome
    decides alone. `why` replaces the sentence that names the two outcomes.
    """

    outcome: Outcome
    numbers: str
    strict: Outcome | None = None
    scope: str = ""
    why: str = ""

    @property
    def is_undefined(self) -> bool:
        """True if the metric has no value here."""
        return self.outcome is Outcome.UNDEFINED


@dataclass(frozen=True)
class Verdict:
    """A claim, the word on it, why, and the numbers; `scope` is the part of the sweep judged.

    `id` is the claim's in the registry, empty for a comparison along an axis that no claim is
    about. `missing` says what the sweep lacks for the claim to apply, and is empty if it does.
    `compares` is true of a verdict on what the sweep varies, false of one on runs by themselves.
    """

    claim: str
    source: str
    scope: str
    word: Word
    why: str
    evidence: str
    id: str = ""
    missing: str = ""
    compares: bool = True


def word_of(data: Found, null: Found) -> Word:
    """The word on what a rule found in the data and in the null model's own table."""
    if data.outcome is Outcome.FAIL:
        return Word.REFUTED
    if data.outcome is not Outcome.PASS:
        return Word.INCONCLUSIVE
    if data.strict is not None:
        beyond = data.strict is Outcome.PASS and null.strict is not Outcome.PASS
        explained = data.strict is Outcome.FAIL or null.outcome is Outcome.PASS
    else:
        beyond = null.outcome in (Outcome.FAIL, Outcome.UNDEFINED)
        explained = null.outcome is Outcome.PASS
    if beyond:
        return Word.BEYOND
    return Word.EXPLAINED if explained else Word.INCONCLUSIVE


def exact_word(data: Found) -> Word:
    """The word on an exact claim, which needs no null: it passes or fails."""
    words = {Outcome.PASS: Word.PASSES, Outcome.FAIL: Word.FAILS}
    return words.get(data.outcome, Word.INCONCLUSIVE)


def outcomes_in_words(on_data: Outcome, on_null: Outcome, data: str = "the measurement") -> str:
    """Both outcomes in a clause whose subject is the claim."""
    if on_data is on_null:
        return f"{_CLAIM[on_data]} {data}, {_TOO[on_data]} for the null model"
    return f"{_CLAIM[on_data]} {data}, {_CLAIM[on_null]} the null model"


_CLAIM = {
    Outcome.PASS: "holds for",
    Outcome.FAIL: "does not hold for",
    Outcome.OPEN: "is not settled for",
    Outcome.UNDEFINED: "has no value for",
}
_TOO = dict.fromkeys(Outcome, "nor") | {Outcome.PASS: "and"}


def within(interval: Interval, low: float | None, high: float | None) -> Outcome:
    """PASS if the interval lies inside (low, high), FAIL if it lies outside, OPEN otherwise.

    An end that is None is no limit. An interval over one seed settles nothing; without any value
    the outcome is UNDEFINED.
    """
    if interval.mean is None:
        return Outcome.UNDEFINED
    if interval.bounds is None:
        return Outcome.OPEN
    first, last = interval.bounds
    if (low is not None and last <= low) or (high is not None and first >= high):
        return Outcome.FAIL
    inside = (low is None or first > low) and (high is None or last < high)
    return Outcome.PASS if inside else Outcome.OPEN


def all_of(outcomes: Iterable[Outcome]) -> Outcome:
    """The outcome of 'and': FAIL if one fails, PASS if all pass; UNDEFINED if one has no value."""
    known = list(outcomes)
    if Outcome.FAIL in known:
        return Outcome.FAIL
    if not known or Outcome.UNDEFINED in known:
        return Outcome.UNDEFINED
    return Outcome.OPEN if Outcome.OPEN in known else Outcome.PASS


def agreed(outcomes: Iterable[Outcome]) -> Outcome:
    """The outcome that replicates or settings have in common; OPEN where they disagree.

    One without a value does not count, unless none has one.
    """
    known = {outcome for outcome in outcomes if outcome is not Outcome.UNDEFINED}
    if not known:
        return Outcome.UNDEFINED
    return known.pop() if len(known) == 1 else Outcome.OPEN


def exactly(fulfilled: bool) -> Outcome:
    """PASS or FAIL."""
    return Outcome.PASS if fulfilled else Outcome.FAIL
