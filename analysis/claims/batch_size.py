"""P1 section 5: gamma and the batch size, at equal epochs and at equal steps."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd

from analysis.cells import MEASURES, Ablation
from analysis.claims import needs
from analysis.claims.contract import Claim, Evidence, Measured, Need
from analysis.claims.facts import Facts
from analysis.claims.fixed_weights import (
    CLAIMED_EXPONENT,
    GRAM,
    MAX_WIDTH,
    at_fixed_weights,
    root_at_fixed_weights,
    root_rule,
)
from analysis.claims.planting import SEEDS, PlantedRun, jitter, path_steps
from analysis.fits import PowerLaw
from analysis.trends import exponents
from analysis.verdicts import Found, Outcome, Word, outcomes_in_words

FLAT = MAX_WIDTH / 2
"""An exponent below this does not count as growth: less than half the width asked for."""
MONOTONE_SHARE = 0.9
"""Share of the slices of training in which gamma must grow with every level [1]; ours, untuned."""
KINDS = ("task", "data", "model", "optimizer")
"""What twins at equal epochs and at equal steps have in common; budget and learning rate differ."""
JUDGED_SLICES = range(1, 18)
"""The twentieths of a run that lie in its 5 % to 90 %."""
JUDGED = "training's 5-90 %"


@dataclass(frozen=True)
class Laws:
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
    return root_rule(law.bounds)


def batch_evidence(
    ablations: Iterable[Ablation], runs: Sequence[Measured] = ()
) -> dict[str, list[Laws]]:
    """Evidence per scope: an ablation and its equal-steps twin meet where their groups agree.

    They are twins if they train the same network on the same data with the same optimizer.
    Ablations that do not are judged apart, each under its own name.
    """
    found: dict[tuple[str, frozenset[tuple[str, str]]], list[Laws]] = {}
    for ablation in ablations:
        fixed = _fixed(ablation, runs)
        for group, cells in ablation.cells.groupby("group", sort=False):
            found.setdefault((str(group), fixed), []).append(_evidence(ablation, cells))
    apart = len({fixed for _, fixed in found}) > 1
    return {
        ", ".join([*(laws.label for laws in evidence if apart), *([group] if group else [])]): (
            evidence
        )
        for (group, _), evidence in found.items()
    }


def _fixed(ablation: Ablation, runs: Sequence[Measured]) -> frozenset[tuple[str, str]]:
    """What all runs of an ablation share of task, data, network and optimizer."""
    own = [run.facts.options for run in runs if ablation.label in run.facts.ablations]
    options = [{(k, repr(v)) for k, v in each.items() if k.startswith(KINDS)} for each in own]
    return frozenset(set.intersection(*options)) if options else frozenset()


def judged(rule: Rule, evidence: Sequence[Laws], scope: str = "") -> Found:
    """What a rule about exponents in the batch size finds in one scope.

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
    outcome, strict = Outcome.OPEN, None
    if any(e.equal_steps for e in beyond):
        outcome = strict = Outcome.PASS
    elif explained:
        outcome, strict = Outcome.PASS, Outcome.FAIL
    elif all(on_gamma[e.label] is Outcome.FAIL for e in own):
        outcome = Outcome.FAIL
    parts = [
        f"{e.label}: {outcomes_in_words(on_gamma[e.label], on_null[e.label], 'gamma')}"
        for e in evidence
    ]
    if not any(e.equal_steps for e in evidence):
        parts.append("no ablation at equal steps, so nothing can be beyond the null")
    return Found(outcome, " ".join(map(_numbers, evidence)), strict, scope, "; ".join(parts))


def square_root(evidence: Evidence) -> list[Found]:
    """One finding per group of the batch-size ablations, and one at fixed weights."""
    along = decide(is_square_root, evidence)
    fixed = root_at_fixed_weights(evidence.runs)
    return [*along, *fixed]


def decide(rule: Rule, evidence: Evidence) -> list[Found]:
    """One finding per group of the batch-size ablations."""
    found = batch_evidence(
        (a for a in evidence.ablations if a.compared == "batch_size" and not a.cells.empty),
        evidence.runs,
    )
    return [judged(rule, laws, scope) for scope, laws in found.items()]


def monotone_shares(ablation: Ablation, cells: pd.DataFrame) -> dict[str, float | None]:
    """Of gamma and its null the share of JUDGED_SLICES in which the seed mean grows with the level.

    It grows if it does from every level to the next. None where no slice has a value at every
    level, or there is one level.
    """
    measures = ("gamma", "null_gamma")
    levels = cells.set_index("run_id")["level"]
    judged = ablation.slices[ablation.slices["slice"].isin(JUDGED_SLICES)]
    slices = judged.assign(level=judged["run_id"].map(levels)).dropna(subset=["level"])
    if slices.empty or levels.nunique() < 2:
        return dict.fromkeys(measures)
    means = slices.groupby(["slice", "level"])[list(measures)].mean()
    return {name: _share_growing(means[name].unstack("level"), levels) for name in measures}


def _share_growing(table: pd.DataFrame, levels: pd.Series[Any]) -> float | None:
    """`table` has a row per slice and a column per level."""
    table = table.reindex(columns=sorted(levels.unique())).dropna()
    if table.empty:
        return None
    return float((table.diff(axis=1).iloc[:, 1:] > 0).all(axis=1).mean())


def _evidence(ablation: Ablation, cells: pd.DataFrame) -> Laws:
    laws, growing = exponents(cells), monotone_shares(ablation, cells)
    return Laws(
        label=ablation.label,
        equal_steps=ablation.equal_steps,
        gamma=laws["gamma"],
        null=laws["null_gamma"],
        over_null=laws["gamma_over_null"],
        gamma_monotone=growing["gamma"],
        null_monotone=growing["null_gamma"],
    )


def _is_flat(law: PowerLaw) -> bool:
    if law.bounds is None:
        return False
    low, high = law.bounds
    return (low <= 0 <= high and high - low < MAX_WIDTH) or (low > -FLAT and high < FLAT)


def _numbers(evidence: Laws) -> str:
    share = evidence.gamma_monotone
    monotone = "" if share is None else f", growing with each level in {share:.0%} of {JUDGED}"
    return (
        f"{evidence.label}: gamma ~ b^{evidence.gamma}{monotone}; "
        f"{MEASURES['null_gamma']} alone ~ b^{evidence.null}; "
        f"gamma / null ~ b^{evidence.over_null}."
    )


def runs(
    label: str, exponent: float, null_exponent: float, *, steps: int | None = None
) -> list[PlantedRun]:
    """Runs with gamma = .02 (b/16)^exponent, null = .01 (b/16)^null_exponent, 20 or more epochs."""
    found = []
    for batch, seed in itertools.product((16, 32, 64), SEEDS):
        per_epoch = 160 // batch
        total = steps or 20 * per_epoch
        ratio = batch / 16
        gamma = 0.02 * ratio ** (exponent * jitter(seed))
        found.append(
            PlantedRun(
                {"batch_size": batch, "seed": seed},
                path_steps(total, gamma, 0.01 * ratio**null_exponent),
                per_epoch,
                ablation=label,
            )
        )
    return found


def planted(exponent: float) -> dict[Word, Callable[[], Sequence[PlantedRun]]]:
    """The claimed exponent at equal epochs and steps, at equal epochs alone, and none."""
    return {
        Word.BEYOND: lambda: [
            *runs("equal-epochs", 2 * exponent, exponent),
            *runs("equal-steps", exponent, 0.0, steps=60),
        ],
        Word.EXPLAINED: lambda: [
            *runs("equal-epochs", exponent, exponent),
            *runs("equal-steps", 0.0, 0.0, steps=60),
        ],
        Word.REFUTED: lambda: runs("equal-epochs", 0.0, exponent),
        Word.INCONCLUSIVE: lambda: runs("equal-epochs", exponent, 0.0),
    }


def has_batch_axis(runs: Sequence[Facts]) -> bool:
    """True if some run has a batch size on an axis."""
    return any(facts.axes.get("batch_size") not in (None, "") for facts in runs)


BATCH_AXIS = needs.levels("an ablation over the batch size", lambda f: f.axes.get("batch_size"), 1)
AXIS_OR_GRAM = Need(
    "an ablation over the batch size, or probe batches at fixed weights (probe probe_batches)",
    of_sweep=lambda runs: has_batch_axis(runs) or any(GRAM in facts.columns for facts in runs),
)

CLAIMS = (
    Claim(
        id="C12",
        statement="gamma increases with the batch size",
        source="P1 section 5",
        metric="exponent of gamma in the batch size; growth from level to level",
        rule=f"passes if the exponent's interval lies above {FLAT} and the seed mean grows from "
        f"every level to the next in at least {MONOTONE_SHARE:.0%} of the slices of training "
        "between 5 % and 90 %; fails if the interval lies below; anything else is not settled. "
        "Beyond the null only at equal steps.",
        threshold="ours: half of the width asked for below; the share is ours",
        needs=(BATCH_AXIS,),
        columns=("steps.gamma", "steps.null_gamma"),
        measure=lambda run: {},
        decide=partial(decide, grows),
        planted=planted(0.5),
    ),
    Claim(
        id="C13",
        statement="gamma scales with the square root of the batch size",
        source="P1 section 5",
        metric="exponent of gamma in the batch size: over runs, and at fixed weights from b to K b "
        "(the Gram matrix of K probe batches)",
        rule=f"passes if the exponent's interval holds {CLAIMED_EXPONENT}, not 0, and is narrower "
        f"than {MAX_WIDTH}; fails if it does not hold {CLAIMED_EXPONENT}; a wide one is not "
        "settled. Over runs it is beyond the null only at equal steps. At fixed weights, judged by "
        "itself, the number of steps plays no part, and the null has one gamma for every k.",
        threshold=f"{CLAIMED_EXPONENT}: P1 section 5; the width is ours",
        needs=(AXIS_OR_GRAM,),
        columns=("steps.gamma", "steps.null_gamma"),
        measure=at_fixed_weights,
        decide=square_root,
        planted=planted(0.5),
    ),
)
