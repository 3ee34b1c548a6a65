"""P2 sections 4.2 and 5.2: warm-up, and the change point that the geometry finds."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from functools import partial

from analysis.claims import needs
from analysis.claims.contract import Claim, Evidence, Measured, Measures, Need, Null
from analysis.claims.correlations import rate
from analysis.claims.facts import Facts
from analysis.claims.planting import SEEDS, PlantedRun, full
from analysis.claims.rules import undefined
from analysis.claims.run import ClaimRun
from analysis.fits import interval_over_seeds
from analysis.verdicts import Found, Outcome, Word, all_of, exactly, within

NEAR = 2
"""Steps between the change point found and the best one; P2 section 5.2 has 11 and 12."""
FEWEST_POINTS = 3
"""Change points of WU among which one is the best; the paper's three."""
POINTS = 0.01
"""Accuracy that GAWU may fall behind by; ours, after Table 1's two digits."""
ACCURACIES = ("test_accuracy", "last_validation_accuracy")
"""Metrics that accuracy is read from, the first that a run has."""
SAME = 0.05
"""Relative difference of two peaks that count as the same learning rate; ours."""
WARM = ("wu", "gawu", "warmupcosine")
"""Schedules with a warm-up."""


def schedule(facts: Facts) -> str:
    """The run's schedule; empty for the default, a constant learning rate."""
    return needs.plain(facts.member("schedule"))


def outcome_of(run: ClaimRun) -> Measures:
    """Where the warm-up ended, and the accuracy."""
    metrics = run.facts.metrics
    found = [metrics[name] for name in ACCURACIES if name in metrics]
    change = run.facts.schedule.get("schedule_change_step")
    return {
        "change": math.nan if change is None else float(change),
        "accuracy": float(found[0]) if found else math.nan,
    }


def change_point(run: Measured) -> float | None:
    """The change point that was given, of a fixed warm-up that did not diverge."""
    if schedule(run.facts) != "wu" or run.facts.status != "done":
        return None
    return float(run["change"])


def near_the_best(evidence: Evidence) -> Found:
    """GAWU's change point is near the best fixed one, and its accuracy is no worse."""
    fixed: dict[float, list[float]] = defaultdict(list)
    for run in evidence.runs:
        point = change_point(run)
        if point is not None and math.isfinite(run["accuracy"]) and math.isfinite(point):
            fixed[point].append(run["accuracy"])
    own = [run for run in evidence.runs if schedule(run.facts) == "gawu"]
    own = [run for run in own if math.isfinite(run["change"] + run["accuracy"])]
    if len(_settled(evidence)) < FEWEST_POINTS or not fixed or not own:
        return undefined(
            f"fewer than {FEWEST_POINTS} change points of WU that finished or diverged, or no "
            "finished run of GAWU with an accuracy."
        )
    best = max(fixed, key=lambda point: interval_over_seeds(fixed[point]).mean or -math.inf)
    reached = sum(fixed[best]) / len(fixed[best])
    behind = interval_over_seeds([reached - run["accuracy"] for run in own])
    found = interval_over_seeds([run["change"] for run in own])
    near = exactly(abs((found.mean or 0.0) - best) <= NEAR)
    numbers = f"change point {found} against {best:g}, the best of {len(fixed)}"
    return Found(
        all_of([near, within(behind, None, POINTS)]), f"{numbers}; accuracy behind it: {behind}."
    )


def _settled(evidence: Evidence) -> set[object]:
    """The change points of WU whose outcome is known: not those that are still to be run."""
    return {
        run.facts.options.get("schedule.change_point")
        for run in evidence.runs
        if schedule(run.facts) == "wu" and run.facts.status in ("done", "diverged")
    }


def diverged(run: ClaimRun) -> Measures:
    """1 for a run that diverged, 0 for one that did not."""
    return {"diverged": float(run.facts.status == "diverged")}


def warmed(facts: Facts) -> bool:
    """True if the schedule has a warm-up."""
    return schedule(facts) in WARM


def peak(facts: Facts) -> float:
    """The largest learning rate of a run; NaN of a warm-up whose end is not known."""
    known = facts.schedule.get("schedule_peak_learning_rate")
    if known is None and schedule(facts) in ("wu", "gawu"):
        return math.nan
    return rate(facts) if known is None else float(known)


def diverges_without(evidence: Evidence) -> Found:
    """At the largest rate that both reach, all runs without warm-up diverge, with one none does."""
    settled = [run for run in evidence.runs if run.facts.status in ("done", "diverged")]
    cold = [run for run in settled if not warmed(run.facts)]
    warm = [run for run in settled if warmed(run.facts)]
    shared = {peak(run.facts) for run in cold if any(_same_peak(run, other) for other in warm)}
    if not shared:
        return undefined("no learning rate that settled runs reach with and without warm-up.")
    largest = max(shared)
    without, with_it = (
        [run["diverged"] for run in runs if abs(peak(run.facts) / largest - 1) < SAME]
        for runs in (cold, warm)
    )
    numbers = (
        f"at learning rate {largest:g} diverged without warm-up: {sum(without):g} of "
        f"{len(without)}; with: {sum(with_it):g} of {len(with_it)}."
    )
    if not any(without) and not any(with_it):
        return Found(Outcome.OPEN, f"{numbers} A rate at which nothing diverges is not large.")
    if all(without) and not any(with_it):
        return Found(Outcome.PASS, numbers)
    no_more = sum(without) / len(without) <= sum(with_it) / len(with_it)
    return Found(Outcome.FAIL if no_more else Outcome.OPEN, numbers)


def _same_peak(first: Measured, second: Measured) -> bool:
    return abs(peak(first.facts) / peak(second.facts) - 1) < SAME


STEPS = 20


def planted(
    adapted: int, best: int, accuracy: float, seeds: Sequence[int] = SEEDS
) -> list[PlantedRun]:
    """GAWU with that change point and accuracy, WU at 5, 10 and 12, of which one is best."""
    found = []
    for seed in seeds:
        choices = [("gawu", adapted, accuracy)]
        choices += [("wu", t, 0.9 if t == best else 0.8) for t in (5, 10, 12)]
        for name, point, value in choices:
            config = {"name": name} | ({"change_point": point} if name == "wu" else {})
            found.append(
                PlantedRun(
                    {"schedule": config, "seed": seed},
                    {"loss": full(STEPS, 1.0)},
                    metrics={"test_accuracy": value + 1e-4 * seed},
                    schedule={"schedule_change_step": point},
                )
            )
    return found


def falls(cold: Sequence[str], warm: Sequence[str]) -> list[PlantedRun]:
    """ResNets without and with warm-up, of those states."""
    kinds = [({"name": "constant"}, cold), ({"name": "wu"}, warm)]
    return [
        PlantedRun(
            {"schedule": schedule, "seed": seed},
            {"loss": full(STEPS, 1.0)},
            status=status,
            config={"model": {"name": "resnet18"}, "learning_rate": 2.44},
            schedule={"schedule_peak_learning_rate": 2.4406} if schedule["name"] == "wu" else {},
        )
        for schedule, states in kinds
        for seed, status in enumerate(states)
    ]


def _both(runs: Sequence[Facts]) -> bool:
    return {warmed(facts) for facts in runs} == {True, False}


CLAIMS = (
    Claim(
        id="C41",
        statement="GAWU finds a change point near the best fixed one, and is as accurate",
        source="P2 section 5.2, figure 10 and table 1",
        metric="steps between GAWU's change point and that of the most accurate fixed warm-up; "
        "accuracy behind it",
        rule=f"passes if the first is at most {NEAR} and the second's interval over the seeds lies "
        f"below {POINTS}, fails if one does not.",
        threshold="the paper has 11 against 12; the point of accuracy is ours",
        needs=(
            needs.each_of("runs of GAWU and of WU", schedule, ("gawu", "wu")),
            needs.levels(
                "three change points of WU",
                lambda f: f.options.get("schedule.change_point") if schedule(f) == "wu" else None,
                FEWEST_POINTS,
            ),
        ),
        measure=outcome_of,
        decide=near_the_best,
        null=Null.SILENT,
        any_status=True,
        planted={
            Word.BEYOND: partial(planted, 11, 12, 0.9),
            Word.REFUTED: partial(planted, 11, 5, 0.9),
            Word.INCONCLUSIVE: partial(planted, 11, 12, 0.9, (0,)),
        },
    ),
    Claim(
        id="C51",
        statement="large learning rates diverge without warm-up in large-batch training of ResNets",
        source="P2 section 4.2",
        metric="share of runs that diverged, without and with warm-up, at the largest learning "
        f"rate that both reach (within {SAME:.0%})",
        rule="passes if all runs without warm-up diverged and none with it; fails if no larger "
        "share without than with. A rate at which nothing diverges settles nothing.",
        threshold="all and none; anything else is not settled",
        needs=(
            needs.model("a ResNet", "resnet"),
            Need("runs with a warm-up and runs without", of_sweep=_both),
        ),
        measure=diverged,
        decide=diverges_without,
        null=Null.SILENT,
        any_status=True,
        planted={
            Word.BEYOND: partial(falls, ("diverged",) * 3, ("done",) * 3),
            Word.REFUTED: partial(falls, ("diverged", "done", "done"), ("diverged",) * 3),
            Word.INCONCLUSIVE: partial(falls, ("done",) * 3, ("done",) * 3),
        },
    ),
)
