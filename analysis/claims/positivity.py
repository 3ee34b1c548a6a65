"""P1 sections 4 and 6: where gamma is negative, and where it is not."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np

from analysis.claims import needs
from analysis.claims.contract import Claim, Evidence, Measured, Measures
from analysis.claims.planting import SEEDS, PlantedRun, full, jitter, labelled, path_steps
from analysis.claims.rules import each_run, listed, over_seeds
from analysis.claims.run import ClaimRun
from analysis.verdicts import Found, Outcome, Word, agreed, within

MOST_NEGATIVE = 0.001
"""Share of steps that 'almost always' allows [1]; ours, after P1 section 4.1's few of 29,640."""
FEWEST_KEPT = 1000
"""Kept steps without which a share of at most MOST_NEGATIVE cannot show: one step of fewer is more
than that share by itself, and none of a handful says nothing of the next thousand."""
LEAST_DEFINED = 0.5
"""Share of the kept steps whose gamma must be defined for a share of them to speak of the run; ours
(one example per minibatch leaves 43 % of the asymmetric linear model's steps undefined)."""
LATE = 0.9
"""Where 'near the end' begins, as a share of the run [1]; ours."""
FEW = 2
"""P1 section 4: 'one or two' negative values near the end, depending on the seed."""
EARLY = 0.01
"""Where 'very early' ends, as a share of the run [1]; ours."""
IRREGULAR = 0.05
"""Share of steps with negative gamma that counts as irregular [1]; ours, untuned."""


def negatives(run: ClaimRun) -> Measures:
    """How many kept steps have a negative gamma, and where; the same for held-out gradients."""
    gamma = run.kept("gamma")
    negative = gamma < 0
    place = run.kept_steps[negative] / run.facts.num_steps
    known = np.isfinite(gamma).sum()
    defined = known > 0 and known >= LEAST_DEFINED * len(gamma)
    return {
        "known": int(known),
        "share": float(negative.sum() / known) if defined else math.nan,
        "count": int(negative.sum()),
        "first": float(place.min()) if len(place) else math.nan,
        "last": float(place.max()) if len(place) else math.nan,
        "held_out": _held_out(run),
    }


def _held_out(run: ClaimRun) -> float:
    table = run.tables.get("held_out")
    if table is None:
        return math.nan
    batches = table["label"].astype(str).str.startswith("batch")
    kept = run.mask[table["step"].to_numpy(int)]
    gamma = table["gamma"].to_numpy(float)[batches.to_numpy(bool) & kept]
    gamma = gamma[np.isfinite(gamma)]  # undefined is not positive
    return float((gamma < 0).mean()) if len(gamma) else math.nan


def almost_always(run: Measured) -> bool:
    """At most MOST_NEGATIVE of the kept steps have a negative gamma."""
    return bool(run["share"] <= MOST_NEGATIVE)


def few_and_late(run: Measured) -> bool:
    """No negative gamma, or FEW at most and all of them late."""
    return bool(run["count"] == 0 or (run["count"] <= FEW and run["first"] >= LATE))


def few_and_early(run: Measured) -> bool:
    """Negative gamma at fewer than MOST_NEGATIVE of the steps, and very early ones only."""
    return bool(run["count"] == 0 or (run["share"] < MOST_NEGATIVE and run["last"] < EARLY))


def settled(passes: Callable[[Measured], bool], run: Measured) -> bool | None:
    """Whether a run passes; None where gamma has no value, and where the run is too short to tell.

    A run of fewer than FEWEST_KEPT steps tells by more than FEW negative ones alone.
    """
    if math.isnan(run["share"]):
        return None
    ok = passes(run)
    return None if run["known"] < FEWEST_KEPT and (ok or run["count"] <= FEW) else ok


def positive(passes: Callable[[Measured], bool], evidence: Evidence) -> Found:
    """The rule per run; held-out gradients decide whether it exceeds the null."""
    known = [run for run in evidence.runs if math.isfinite(run["share"])]
    numbers = ""
    if known:
        shares, lengths = [run["share"] for run in known], [run["known"] for run in known]
        steps = " to ".join(f"{n:,}" for n in sorted({min(lengths), max(lengths)}))
        numbers = f"largest share of negative steps {max(shares):.3g}, of {steps} kept steps"
    found = each_run(evidence.runs, partial(settled, passes), numbers)
    too_short = [run for run in known if settled(passes, run) is None]
    if too_short and found.outcome is not Outcome.PASS:
        why = (
            f"{len(too_short)} of {len(evidence.runs)} runs have too few kept steps: a share of "
            f"{MOST_NEGATIVE:.1%} shows in {FEWEST_KEPT:,}"
        )
        return Found(Outcome.OPEN, found.numbers, why=why)
    held_out = each_run(evidence.runs, _held_out_positive)
    unmeasured = " Held-out gradients (probe held_out) were not measured."
    numbers = found.numbers + unmeasured * held_out.is_undefined
    return Found(found.outcome, numbers, held_out.outcome)


def _held_out_positive(run: Measured) -> bool | None:
    share = run["held_out"]
    return None if math.isnan(share) else bool(share <= MOST_NEGATIVE)


def irregular(evidence: Evidence) -> Found:
    """In some setting more than IRREGULAR of the steps have a negative gamma, hence RSI."""
    settings = over_seeds(evidence.runs, lambda run: float(run["share"]))
    outcomes = [within(interval, IRREGULAR, None) for interval in settings.values()]
    outcome = Outcome.PASS if Outcome.PASS in outcomes else agreed(outcomes)
    return Found(outcome, f"share of steps with negative gamma and RSI: {listed(settings)}.")


STEPS = 2000
PlantedCases = dict[Word, Callable[[], Sequence[PlantedRun]]]


def planted(
    negative: Iterable[int], *, held_out: bool = False, num_steps: int = STEPS, **config: Any
) -> Sequence[PlantedRun]:
    """Runs with gamma = .05 but at some steps; with held-out gradients whose gamma is positive."""
    found = []
    for seed in SEEDS:
        gamma = full(num_steps, 0.05 * jitter(seed))
        gamma[list(negative)] = -0.01
        labels = {"batch 0": 0.02, "batch 1": 0.03, "2 x b": 0.03}
        tables = {"held_out": labelled({"gamma": labels}, num_steps)} if held_out else {}
        steps = path_steps(num_steps, gamma)
        found.append(PlantedRun({"seed": seed}, steps, config=config, tables=tables))
    return found


def settings(share: float, spread: float = 0.01) -> Sequence[PlantedRun]:
    """A sinusoidal mixture at two learning rates; the larger has that share of negative steps."""
    found = []
    for rate, part in ((1e-3, 0.0), (1e-2, share)):
        for seed in SEEDS:
            negative = int(STEPS * (part + (seed - 1) * spread * (part > 0)))
            gamma = full(STEPS, 0.05)
            gamma[:negative] = -0.05
            axes = {"learning_rate": rate, "seed": seed}
            config = {"task": {"name": "sinusoidal_mixture"}}
            found.append(PlantedRun(axes, path_steps(STEPS, gamma), config=config))
    return found


def cases(negative: Iterable[int], **config: Any) -> PlantedCases:
    """No negative step, with and without held-out gradients, and the negative ones given."""
    return {
        Word.BEYOND: partial(planted, (), held_out=True, **config),
        Word.EXPLAINED: partial(planted, (), **config),
        Word.REFUTED: partial(planted, negative, **config),
    }


def mixed(**config: Any) -> Sequence[PlantedRun]:
    """Runs that disagree: one has an early negative step."""
    clean, bad = planted((), **config), planted((10,), **config)
    return [clean[0], bad[1], clean[2]]


COLUMNS = ("steps.gamma", "steps.null_gamma")
CIFAR: dict[str, Any]
IMAGENET: dict[str, Any]
CIFAR, IMAGENET = {"data": {"name": "cifar10"}}, {"data": {"name": "imagenet"}}

TOO_SHORT = (
    f"A run of fewer than {FEWEST_KEPT:,} kept steps settles nothing, unless more than {FEW} of "
    "them are negative."
)

CLAIMS = (
    Claim(
        id="C01",
        statement="gamma is almost always positive",
        source="P1 section 4.1",
        metric="share of kept steps with gamma < 0",
        rule=f"passes if it is at most {MOST_NEGATIVE:.1%} in every run, fails if it is more in "
        f"every run. {TOO_SHORT} Beyond the null only if it passes on held-out gradients too.",
        threshold="ours, after the paper's 'one or two' of 29,640",
        needs=(),
        columns=COLUMNS,
        measure=negatives,
        decide=partial(positive, almost_always),
        planted=cases(range(40)) | {Word.INCONCLUSIVE: partial(planted, (), num_steps=400)},
    ),
    Claim(
        id="C02",
        statement="on CIFAR-10 gamma is never negative, or at one or two steps near the end",
        source="P1 section 4",
        metric="number of kept steps with gamma < 0, and where they are",
        rule=f"passes if every run has none, or at most {FEW} and all in the last "
        f"{1 - LATE:.0%} of its steps; fails if no run does. {TOO_SHORT} Beyond the null only if "
        "held-out gradients are almost always positive too.",
        threshold="the paper's text; where the end begins is ours",
        needs=(needs.data("cifar10"),),
        columns=COLUMNS,
        measure=negatives,
        decide=partial(positive, few_and_late),
        planted=cases((10, 11, 12), **CIFAR) | {Word.INCONCLUSIVE: partial(mixed, **CIFAR)},
    ),
    Claim(
        id="C08",
        statement="on ImageNet gamma is positive but for a few very early steps",
        source="P1 section 4",
        metric="share of kept steps with gamma < 0, and where they are",
        rule=f"passes if in every run fewer than {MOST_NEGATIVE:.1%} are negative, all of them in "
        f"the first {EARLY:.0%} of its steps; fails if no run does. {TOO_SHORT} Beyond the null "
        "only if held-out gradients are almost always positive too.",
        threshold="ours",
        needs=(needs.data("imagenet"),),
        columns=COLUMNS,
        measure=negatives,
        decide=partial(positive, few_and_early),
        planted=cases((200,), **IMAGENET),
    ),
    Claim(
        id="C25",
        statement="stochastic or non-convex alone is irregular: gamma and RSI of the asymmetric "
        "linear model and the sinusoidal mixture are often negative",
        source="P1 section 6, figure 5",
        metric="share of kept steps with gamma < 0 (RSI has its sign)",
        rule=f"passes if its interval over the seeds lies above {IRREGULAR:.0%} in some setting, "
        "fails if it lies below in every setting.",
        threshold="ours; the share is 0 for small learning rates, so it is a claim about step size",
        needs=(
            needs.synthetic(
                "the asymmetric linear model or the sinusoidal mixture",
                "asymmetric_linear",
                "asymmetric_linear_model",
                "alm",
                "sinusoidal_mixture",
                "sm",
            ),
        ),
        columns=COLUMNS,
        measure=negatives,
        decide=irregular,
        planted={
            Word.BEYOND: partial(settings, 0.3),
            Word.REFUTED: partial(settings, 0.0),
            Word.INCONCLUSIVE: partial(settings, 0.05),
        },
    ),
)
