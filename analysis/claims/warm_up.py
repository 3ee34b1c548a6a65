"""P2 sections 4.2 and 5.2: warm-up, and the change point that the geometry finds."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from functools import partial

from analysis.claims import needs
from analysis.claims.contract import Claim, Evidence, Measured, Measures, Need, Null
from analysis.claims.facts import Facts
from analysis.claims.planting import SEEDS, PlantedRun, full
from analysis.claims.rules import undefined
from analysis.claims.run import ClaimRun
from analysis.fits import interval_over_seeds
from analysis.verdicts import Found, Outcome, Word, all_of, exactly, within

NEAR = 2
"""Steps between the change point found and the best one; P2 section 5.2 has 11 and 12."""
POINTS = 0.01
"""Accuracy that GAWU may fall behind by; ours, after Table 1's two digits."""
ACCURACIES = ("test_accuracy", "last_validation_accuracy")
"""Metrics that accuracy is read from, the first that a run has."""
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
    if not fixed or not own:
        return undefined("no finished run of either schedule with a change point and accuracy.")
    best = max(fixed, key=lambda point: interval_over_seeds(fixed[point]).mean or -math.inf)
    reached = sum(fixed[best]) / len(fixed[best])
    behind = interval_over_seeds([reached - run["accuracy"] for run in own])
    found = interval_over_seeds([run["change"] for run in own])
    near = exactly(abs((found.mean or 0.0) - best) <= NEAR)
    numbers = f"change point {found} against {best:g}, the best of {len(fixed)}"
    return Found(
        all_of([near, within(behind, None, POINTS)]), f"{numbers}; accuracy behind it: {behind}."
    )


def diverged(run: ClaimRun) -> Measures:
    """1 for a run that diverged, 0 for one that did not."""
    return {"diverged": float(run.facts.status == "diverged")}


def warmed(facts: Facts) -> bool:
    """True if the schedule has a warm-up."""
    return schedule(facts) in WARM


def diverges_without(evidence: Evidence) -> Found:
    """Without warm-up all runs diverge at the largest rate, with one none does."""
    settled = [run for run in evidence.runs if run.facts.status in ("done", "diverged")]
    shares = {True: _share(settled, True), False: _share(settled, False)}
    cold, warm = shares[False], shares[True]
    if cold is None or warm is None:
        return undefined("no settled run with warm-up, or none without.")
    numbers = f"share that diverged, without warm-up: {cold:.0%}; with: {warm:.0%}."
    if cold == 1 and warm == 0:
        return Found(Outcome.PASS, numbers)
    return Found(Outcome.FAIL if cold <= warm else Outcome.OPEN, numbers)


def _share(runs: Sequence[Measured], is_warm: bool) -> float | None:
    own = [run["diverged"] for run in runs if warmed(run.facts) is is_warm]
    return sum(own) / len(own) if own else None


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
            config={"model": {"name": "resnet18"}},
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
                3,
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
        metric="share of runs that diverged, without and with warm-up",
        rule="passes if all runs without warm-up diverged and none with it; fails if no larger "
        "share without than with.",
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
            Word.REFUTED: partial(falls, ("done",) * 3, ("done",) * 3),
            Word.INCONCLUSIVE: partial(falls, ("diverged", "done", "done"), ("done",) * 3),
        },
    ),
)
