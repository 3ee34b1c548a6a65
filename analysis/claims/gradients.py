"""P1 section 4.1 and appendix D: signal and noise, dimension, the straight line, real labels."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd

from analysis.claims import needs, statistics
from analysis.claims.contract import Claim, Evidence, Measures, Null
from analysis.claims.facts import Facts
from analysis.claims.planting import SEEDS, PlantedRun, jitter, labelled, path_steps
from analysis.claims.rules import each_setting, pairs, ratio, undefined
from analysis.claims.run import ClaimRun
from analysis.verdicts import Found, Outcome, Word, all_of, within

DOMINATED = 2.0
"""Full-batch gamma over minibatch gamma above which noise dominates [1]; ours, untuned."""
PREDICTED = (0.75, 1.25)
"""Ratios to sqrt(1 + noise scale / b) that count as predicted [1]; ours, untuned."""
LARGE, SMALL = 10.0, 1.0
"""Effective dimension over T that 'high' asks for, and below which it is not high [1]; ours."""
MONOTONE = 0.95
"""Share of the lines to w* along which the loss never rises [1]; ours, untuned."""


def signal(run: ClaimRun) -> Measures:
    """Full-batch gamma over minibatch gamma, at the same steps; the same over its prediction."""
    table = run.tables["full_batch"]
    step = table["step"].to_numpy(int)
    kept = run.mask[step]
    own = run.whole("gamma")[step][kept]
    over = statistics.mean(table["gamma"].to_numpy(float)[kept]) / statistics.mean(own)
    share = signal_share(run)
    return {"ratio": over, "predicted": over * math.sqrt(share) if share > 0 else math.nan}


def signal_share(run: ClaimRun) -> float:
    """Mean over steps of ‖g‖^2 / E‖G‖^2 = 1 / (1 + noise scale / b), without bias.

    Of K probe batches with mean squared norm d, and ‖g‖^2 estimated by c = (K s - d) / (K - 1), s
    the squared norm of their mean. The noise scale itself is undefined where c is not positive:
    over the steps that are left it would come out too small, six times at 200 b.
    """
    table = run.tables["probe_batches"]
    table = table[run.mask[table["step"].to_numpy(int)]]
    label, squared = table["label"].astype(str), table["gradient_norm"] ** 2
    single = label.str.startswith("batch")
    number = label[single].nunique()
    own = squared[single].groupby(table["step"]).mean()
    together = squared[label == f"{number} x b"].groupby(table["step"]).mean()
    shares = (number * together - own) / ((number - 1) * own)
    return statistics.mean(shares.to_numpy(float))


def dominated(evidence: Evidence) -> Found:
    """Noise dominates, by as much as its scale says."""
    big = each_setting(
        evidence.runs,
        lambda run: float(run["ratio"]),
        DOMINATED,
        None,
        "full-batch over minibatch gamma",
    )
    like = each_setting(
        evidence.runs,
        lambda run: float(run["predicted"]),
        *PREDICTED,
        "over sqrt(1 + noise scale / b)",
    )
    return Found(all_of([big.outcome, like.outcome]), f"{big.numbers} {like.numbers}")


def dimension(run: ClaimRun) -> Measures:
    """Effective dimension of the gradient noise over the number of steps."""
    return {"over_steps": run.noise_dimension() / run.facts.num_steps}


def high_dimensional(evidence: Evidence) -> Found:
    """The dimension is far above T; between the thresholds nothing is settled."""
    high = each_setting(
        evidence.runs, lambda run: float(run["over_steps"]), LARGE, None, "effective dimension / T"
    )
    low = each_setting(evidence.runs, lambda run: float(run["over_steps"]), None, SMALL, "")
    outcome = Outcome.OPEN
    if high.outcome is Outcome.PASS:
        outcome = Outcome.PASS
    elif low.outcome is Outcome.PASS:
        outcome = Outcome.FAIL
    return Found(outcome, high.numbers)


def straight_line(run: ClaimRun) -> Measures:
    """Share of the lines from w_t to w* along which the loss never rises."""
    table = run.tables["straight_line"].drop_duplicates("step")
    return {"share": statistics.mean(table["monotone"].to_numpy(float))}


def no_obstacle(evidence: Evidence) -> Found:
    """The loss never rises along nearly all of them."""
    name = "share of the lines to w* along which the loss never rises"
    return each_setting(evidence.runs, lambda run: float(run["share"]), MONOTONE, None, name)


def over_null(run: ClaimRun) -> Measures:
    """Mean gamma over the mean of the null."""
    null = statistics.mean(run.kept("null_gamma"))
    return {"over_null": statistics.mean(run.kept("gamma")) / null if null else math.nan}


def randomness(facts: Facts) -> object:
    """The share of labels drawn at random, or which inputs stand in for real ones."""
    inputs = str(facts.options.get("data.input_noise", "real"))
    return facts.number("data.label_noise", 0.0) if inputs == "real" else f"inputs {inputs}"


def real_is_more(evidence: Evidence) -> Found:
    """Gamma over null is larger with real labels and inputs than with the random ones."""
    levels = {randomness(run.facts) for run in evidence.runs}
    shares = sorted(level for level in levels if isinstance(level, float))
    others = [*shares[-1:][: len(shares) - 1], *sorted(str(x) for x in levels - set(shares))]
    if 0.0 not in shares or not others:
        return undefined("no run with real data, or none with random.")
    found = {
        other: ratio(
            pairs(evidence.runs, randomness, shares[0], other, "data"),
            lambda run: float(run["over_null"]),
        )
        for other in others
    }
    numbers = "; ".join(f"over {other}: {interval}" for other, interval in found.items())
    outcome = all_of(within(interval, 1.0, None) for interval in found.values())
    return Found(outcome, f"gamma / null, random share {shares[0]:g} {numbers}.")


STEPS = 100


def signals(ratio_to_own: float, scale: float, seeds: Sequence[int] = SEEDS) -> list[PlantedRun]:
    """Runs whose full-batch gamma is that multiple of gamma = .05, of that noise scale over b."""
    found = []
    norms = {"batch 0": 1 + scale, "batch 1": 1 + scale, "2 x b": 1 + scale / 2}
    roots = {label: math.sqrt(value) for label, value in norms.items()}
    for seed in seeds:
        value = 0.05 * ratio_to_own * jitter(seed)
        tables = {
            "full_batch": pd.DataFrame({"step": np.arange(0, STEPS, 10), "gamma": value}),
            "probe_batches": labelled({"gradient_norm": roots}, STEPS),
        }
        axes = {"batch_size": 64, "seed": seed}
        found.append(PlantedRun(axes, path_steps(STEPS, 0.05), tables=tables))
    return found


def dimensions(over_steps: float, seeds: Sequence[int] = SEEDS) -> list[PlantedRun]:
    """Runs whose gradient noise has that many dimensions per step."""
    return [
        PlantedRun(
            {"seed": seed},
            path_steps(STEPS, 0.05),
            tables={
                "probe_batches": labelled(
                    {"effective_dimension": {"batch 0": over_steps * STEPS * jitter(seed)}}, STEPS
                )
            },
        )
        for seed in seeds
    ]


def lines(falling: int, seeds: Sequence[int] = SEEDS) -> list[PlantedRun]:
    """Runs whose loss falls along that many of 100 lines, give or take one by seed."""
    found = []
    for seed in seeds:
        monotone = (np.arange(STEPS) < min(falling + seed, STEPS)).astype(float)
        tables = {"straight_line": labelled({"monotone": {"0": monotone, "1": monotone}}, STEPS)}
        found.append(PlantedRun({"seed": seed}, path_steps(STEPS, 0.05), tables=tables))
    return found


def labels(real: float, random: float, seeds: Sequence[int] = SEEDS) -> list[PlantedRun]:
    """Runs with real labels, and with random ones."""
    return [
        PlantedRun(
            {"data.label_noise": noise, "seed": seed}, path_steps(STEPS, gamma * jitter(seed))
        )
        for (noise, gamma), seed in itertools.product(((0.0, real), (1.0, random)), seeds)
    ]


COLUMNS = ("steps.gamma", "steps.null_gamma")

CLAIMS = (
    Claim(
        id="C44",
        statement="a minibatch gradient's useful signal is dominated by its noise",
        source="P1 section 4.1",
        metric="full-batch gamma over minibatch gamma at the same steps; over its prediction "
        "sqrt(1 + noise scale / b)",
        rule=f"passes if in every setting the first's interval lies above {DOMINATED:g} and the "
        f"second's within {PREDICTED}, fails if one lies outside.",
        threshold="ours, untuned",
        needs=(),
        columns=(*COLUMNS, "full_batch.gamma", "probe_batches.gradient_norm"),
        measure=signal,
        decide=dominated,
        planted={
            Word.BEYOND: partial(signals, 4.0, 15.0),
            Word.REFUTED: partial(signals, 1.2, 15.0),
            Word.INCONCLUSIVE: partial(signals, 4.0, 15.0, (0,)),
        },
    ),
    Claim(
        id="C45",
        statement="high dimensionality is the cause of the positive cosine",
        source="P1 appendix D",
        metric="effective dimension 1 / E[cos^2(g_i, g_j)] of the gradient noise over T",
        rule=f"passes if its interval lies above {LARGE:g} in every setting, fails if it lies "
        f"below {SMALL:g} in every one. The null model supposes as much, so it explains a pass.",
        threshold="the null's spread is sqrt((T - t) / d) of its mean; the factors are ours",
        needs=(),
        columns=(*COLUMNS, "probe_batches.effective_dimension"),
        measure=dimension,
        decide=high_dimensional,
        planted={
            Word.EXPLAINED: partial(dimensions, 100.0),
            Word.REFUTED: partial(dimensions, 0.1),
            Word.INCONCLUSIVE: partial(dimensions, 3.0),
        },
    ),
    Claim(
        id="C47",
        statement="real data matter: gamma is larger with real labels than with random ones",
        source="P1 appendix D",
        metric="ratio of gamma over null, real over most random labels, and over random inputs",
        rule="passes if every interval lies above 1, fails if one lies below. The null's own "
        "table has 1.",
        threshold="equality",
        needs=(needs.levels("runs with real and with random labels or inputs", randomness),),
        columns=COLUMNS,
        measure=over_null,
        decide=real_is_more,
        planted={
            Word.BEYOND: partial(labels, 0.08, 0.04),
            Word.REFUTED: partial(labels, 0.04, 0.08),
            Word.INCONCLUSIVE: partial(labels, 0.08, 0.04, (0,)),
        },
    ),
    Claim(
        id="C50",
        statement="there is no obstacle on the straight line from w_t to w*",
        source="P1 section 2 and P2 section 1, after Goodfellow et al. 2015",
        metric="share of the straight lines w_t to w* along which the loss never rises",
        rule=f"passes if its interval lies above {MONOTONE} in every setting, fails if it lies "
        "below in every one.",
        threshold="ours, untuned",
        needs=(),
        columns=("straight_line.monotone",),
        measure=straight_line,
        decide=no_obstacle,
        null=Null.SILENT,
        planted={
            Word.BEYOND: partial(lines, 98),
            Word.REFUTED: partial(lines, 50),
            Word.INCONCLUSIVE: partial(lines, 98, (0,)),
        },
    ),
)
