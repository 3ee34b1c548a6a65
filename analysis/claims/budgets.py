"""P1 sections 4 to 6: seeds, budgets, and what the end of a run does to gamma."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from analysis.claims import needs, statistics
from analysis.claims.contract import Claim, Evidence, Measured, Measures
from analysis.claims.facts import Facts
from analysis.claims.planting import SEEDS, PlantedRun, jitter, path_steps
from analysis.claims.rules import each_setting, exp, over_pairs, pairs, replicates
from analysis.claims.run import Array, ClaimRun
from analysis.verdicts import Found, Outcome, Word, agreed, all_of, exactly, within

MOST_SPREAD = 0.15
"""Standard deviation over mean across seeds of 'minimal variation' [1]; ours, untuned."""
FEWEST_SEEDS = 3
"""Seeds without which a standard deviation says little; ours (the paper has 5)."""
INSENSITIVE = 1.25
"""Ratio between budgets at equal epoch that counts as equal [1]; ours, untuned."""
RISES = 1.5
"""Ratio of the end to the median of a 'rise' [1]; ours, untuned."""
LIKE_THE_NULL = (0.5, 1.5)
"""Ratio of that rise to the null's own within which the null accounts for it [1]; ours."""
END = 0.05
"""Share of the kept steps that is the end [1]; ours."""
NEGLIGIBLE = 0.02
"""Share of the initial distance that is 'negligible' [1]; ours, untuned."""
BEFORE_THE_END = 155 / 180
"""P1 appendix C: the last 25 of 180 epochs."""


def budget(facts: Facts) -> object:
    """The run's budget, as its axis has it; None without such an axis."""
    return next((v for a, v in facts.axes.items() if a.startswith("budget")), None)


def num_epochs(facts: Facts) -> int:
    """The run's length in epochs, the last one perhaps cut short."""
    return facts.length.num_epochs


def course(run: ClaimRun) -> Measures:
    """Mean gamma of every kept epoch."""
    return {"gamma": run.by_epoch("gamma")}


def seeds_agree(evidence: Evidence) -> Found:
    """In every setting, at every epoch, the seeds' standard deviation is small against the mean."""
    worst = {
        setting: _largest_spread([run["gamma"] for run in runs])
        for setting, runs in replicates(evidence.runs).items()
        if len(runs) >= FEWEST_SEEDS
    }
    outcome = agreed(
        Outcome.UNDEFINED if math.isnan(value) else exactly(value < MOST_SPREAD)
        for value in worst.values()
    )
    texts = [f"{value:.3g}{f' at {name}' if name else ''}" for name, value in worst.items()]
    return Found(outcome, f"Largest spread across seeds of an epoch: {'; '.join(texts)}.")


def _largest_spread(curves: Sequence[Array]) -> float:
    shared = min(map(len, curves))
    table = np.stack([curve[:shared] for curve in curves])
    if not shared or not np.isfinite(table).any():
        return math.nan
    return float(np.nanmax(table.std(axis=0, ddof=1) / np.abs(table.mean(axis=0))))


def budgets_agree(evidence: Evidence) -> Found:
    """At equal epochs, in the first half of the shorter budget, gamma is about the same."""
    runs = [run for run in evidence.runs if budget(run.facts) is not None]
    lengths = sorted({num_epochs(run.facts) for run in runs})
    found = pairs(runs, num_epochs, lengths[0], lengths[-1], "budget")
    short_over_long = exp(over_pairs(found, _first_half))
    numbers = (
        f"gamma of {lengths[0]} over {lengths[-1]} epochs, median over epochs: {short_over_long}."
    )
    return Found(within(short_over_long, 1 / INSENSITIVE, INSENSITIVE), numbers)


def _first_half(short: Measured, long: Measured) -> float:
    half = len(short["gamma"]) // 2
    a, b = short["gamma"][:half], long["gamma"][:half]
    fine = (a > 0) & (b > 0)
    return float(np.median(np.log(a[fine] / b[fine]))) if fine.any() else math.nan


def end_rise(run: ClaimRun) -> Measures:
    """Mean gamma of the last kept steps over the median, and over the null's own such ratio.

    Undefined where the null itself does not rise: the kept steps end too long before the run does.
    """
    own, null = _rise(run.kept("gamma")), _rise(run.kept("null_gamma"))
    if not null > RISES:
        return {"rise": math.nan, "over_null": math.nan}
    return {"rise": own, "over_null": own / null}


def _rise(values: Array) -> float:
    last = values[len(values) - max(1, round(END * len(values))) :]
    middle = statistics.median(values)
    return statistics.mean(last) / middle if middle > 0 else math.nan


def rises_like_the_null(evidence: Evidence) -> Found:
    """A rise, of about the null's size: where it passes, the null is the explanation."""
    if not any(math.isfinite(run["rise"]) for run in evidence.runs):
        why = "the kept steps end before the null model itself rises, so no rise is to be explained"
        return Found(Outcome.OPEN, "", why=why)
    rise = each_setting(
        evidence.runs, lambda run: float(run["rise"]), RISES, None, "end over median of gamma"
    )
    alike = each_setting(
        evidence.runs, lambda run: float(run["over_null"]), *LIKE_THE_NULL, "over the null's"
    )
    outcome = all_of([rise.outcome, alike.outcome])
    return Found(outcome, f"{rise.numbers} {alike.numbers}", Outcome.FAIL)


def left_over(run: ClaimRun) -> Measures:
    """The distance at 155/180 of the run, as a share of the initial one."""
    distance = run.whole("distance")
    place = int(BEFORE_THE_END * len(distance))
    return {"share": float(distance[place] / distance[0]) if len(distance) else math.nan}


def negligible(evidence: Evidence) -> Found:
    """What is left of the way is negligible."""
    name = "d at 155/180 of the run over d_0"
    return each_setting(evidence.runs, lambda run: float(run["share"]), None, NEGLIGIBLE, name)


STEPS, PER_EPOCH = 400, 20
COLUMNS = ("steps.gamma", "steps.null_gamma")


def of_seeds(spread: float, seeds: Sequence[int] = SEEDS, null: float = 0.0) -> list[PlantedRun]:
    """Seeds whose gamma, and whose null, differ by that share of the mean."""
    return [
        PlantedRun(
            {"seed": seed},
            path_steps(STEPS, 0.05 * (1 + spread * (seed - 1)), 0.02 * (1 + null * (seed - 1))),
            PER_EPOCH,
        )
        for seed in seeds
    ]


def of_budgets(
    exponent: float, *, null: float | None = None, seeds: Sequence[int] = SEEDS
) -> list[PlantedRun]:
    """Budgets of 10 and 28 epochs with gamma ~ (T - t)^exponent."""
    found = []
    for epochs, seed in itertools.product((10, 28), seeds):
        total = epochs * PER_EPOCH
        left = np.arange(total, 0, -1.0)
        values = 0.5 * left**exponent * jitter(seed)
        steps = path_steps(total, values, None if null is None else 0.5 * left**null)
        found.append(PlantedRun({"budget.epochs": epochs, "seed": seed}, steps, PER_EPOCH))
    return found


def of_ends(exponent: float, seeds: Sequence[int] = SEEDS) -> list[PlantedRun]:
    """Runs with gamma ~ (T - t)^exponent."""
    left = np.arange(STEPS, 0, -1.0)
    return [
        PlantedRun({"seed": seed}, path_steps(STEPS, 0.5 * left**exponent * jitter(seed)), 1)
        for seed in seeds
    ]


def of_ways(
    distance: Callable[[Array], Array],
    null: Callable[[Array], Array] | None = None,
    seeds: Sequence[int] = SEEDS,
) -> list[PlantedRun]:
    """Runs with a distance, and a null's distance, that are functions of (T - t) / T."""
    found = []
    share = np.arange(STEPS, 0, -1.0) / STEPS
    for seed in seeds:
        far = distance(share) + 1e-4 * jitter(seed) * (share < 1)
        steps = path_steps(STEPS, 0.05, distance=far)
        if null is not None:
            steps["null_distance"] = null(share)
        axes = {"seed": seed}
        found.append(PlantedRun(axes, steps, PER_EPOCH, config={"data": {"name": "imagenet"}}))
    return found


def to_the_power(exponent: float, share: Array) -> Array:
    """share^exponent."""
    return np.asarray(share**exponent, dtype=float)


FAST, SLOW = partial(to_the_power, 4.0), partial(to_the_power, 0.5)

CLAIMS = (
    Claim(
        id="C19",
        statement="gamma hardly varies with the seed",
        source="P1 section 5, figure 4 left",
        metric="standard deviation over mean across seeds of the epoch mean; largest over epochs",
        rule=f"passes if it is below {MOST_SPREAD} in every setting of at least {FEWEST_SEEDS} "
        "seeds, fails if it is above in every one. It is itself a spread over seeds and has no "
        "interval.",
        threshold="ours, untuned; the null does not know the seed, so it passes too",
        needs=(needs.seeds(FEWEST_SEEDS),),
        columns=COLUMNS,
        measure=course,
        decide=seeds_agree,
        planted={
            Word.BEYOND: partial(of_seeds, 0.02, null=0.5),
            Word.EXPLAINED: partial(of_seeds, 0.02),
            Word.REFUTED: partial(of_seeds, 0.5),
            Word.INCONCLUSIVE: partial(of_seeds, 0.02, (0, 1)),
        },
    ),
    Claim(
        id="C20",
        statement="gamma does not depend on the budget until the run nears its end",
        source="P1 section 5, figure 4 right",
        metric="ratio of the epoch means, shortest over longest budget, median over the first half "
        "of the shorter; the null has sqrt((280 - e) / (100 - e)), 1.67 to 2.14",
        rule=f"passes if its interval lies within 1/{INSENSITIVE} and {INSENSITIVE}, fails if it "
        "lies outside.",
        threshold="ours, untuned",
        needs=(needs.levels("an axis over two budgets", budget),),
        columns=COLUMNS,
        measure=course,
        decide=budgets_agree,
        planted={
            Word.BEYOND: partial(of_budgets, 0.0),
            Word.EXPLAINED: partial(of_budgets, 0.0, null=-0.1),
            Word.REFUTED: partial(of_budgets, -0.5),
            Word.INCONCLUSIVE: partial(of_budgets, 0.0, seeds=(0,)),
        },
    ),
    Claim(
        id="C21",
        statement="gamma's rise at the end is the correlation that the updates induce",
        source="P1 sections 4.1 and 6",
        metric=f"mean gamma over the last {END:.0%} of the kept steps over the median; over the "
        "null's own such ratio",
        rule=f"passes if in every setting the first ratio's interval lies above {RISES} and the "
        f"second's within {LIKE_THE_NULL}, fails if one lies outside. Runs whose null does not "
        f"rise above {RISES} within the kept steps settle nothing. The claim is that the null "
        "explains the rise, so a pass says so.",
        threshold="ours, untuned",
        needs=(needs.steps(100, f"of which the last {END:.0%} are the end"),),
        columns=COLUMNS,
        measure=end_rise,
        decide=rises_like_the_null,
        planted={
            Word.EXPLAINED: partial(of_ends, -0.5),
            Word.REFUTED: partial(of_ends, 0.0),
            Word.INCONCLUSIVE: partial(of_ends, -0.5, (0,)),
        },
    ),
    Claim(
        id="C27",
        statement="on ImageNet the distance left is negligible in the last 25 of 180 epochs",
        source="P1 section 4 and appendix C, figure 12",
        metric="distance at 155/180 of the run over the initial distance",
        rule=f"passes if its interval lies below {NEGLIGIBLE}, fails if it lies above.",
        threshold="ours, untuned",
        needs=(needs.data("imagenet"),),
        columns=("steps.distance", "steps.null_distance"),
        measure=left_over,
        decide=negligible,
        planted={
            Word.BEYOND: partial(of_ways, FAST, SLOW),
            Word.EXPLAINED: partial(of_ways, FAST, FAST),
            Word.REFUTED: partial(of_ways, SLOW),
            Word.INCONCLUSIVE: partial(of_ways, FAST, SLOW, (0,)),
        },
    ),
)
