"""P1 section 5 and its appendix: depth, width, the kind of network."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from analysis.claims import needs, statistics
from analysis.claims.contract import Claim, Evidence, Measured, Measures, Need
from analysis.claims.facts import Facts
from analysis.claims.planting import SEEDS, PlantedRun, jitter, path_steps
from analysis.claims.rules import Pair, each_run, pairs, ratio
from analysis.claims.run import ClaimRun
from analysis.verdicts import Found, Word, all_of, within

DEEPER = (1.02, 2.0)
"""Ratio of gamma, deepest over shallowest, that is 'slightly' more [1]; ours, untuned."""
WIDER = (0.9, 1.1)
"""Ratio of gamma, widest over narrowest, that is 'trivial' [1]; ours, untuned."""
LATE = 0.95
"""P1 appendix: VGG-11's negatives are in the final 5 % of the epochs."""


def depth(facts: Facts) -> int | None:
    """The number in the model's name: 18 of resnet18; None without one."""
    found = re.search(r"(\d+)", facts.member("model"))
    return int(found.group(1)) if found else None


def width(facts: Facts) -> float:
    """The model's width multiplier; 1 where the config says nothing, the default of the models."""
    return facts.number("model.width", 1.0)


def family(facts: Facts) -> str:
    """The model's name without its number: resnet of resnet18."""
    name = needs.plain(facts.member("model"))
    return re.sub(r"\d.*", "", name)


def geometry(run: ClaimRun) -> Measures:
    """Mean gamma, over the null; its variation within and between epochs; negatives and where."""
    gamma = run.kept("gamma")
    band = run.by_epoch("gamma", "max") - run.by_epoch("gamma", "min")
    negative = run.kept_steps[gamma < 0] / run.facts.num_steps
    mean, null = statistics.mean(gamma), statistics.mean(run.kept("null_gamma"))
    return {
        "gamma": mean,
        "over_null": mean / null if null else math.nan,
        "between": statistics.variation(run.by_epoch("gamma")),
        "within": statistics.median(run.by_epoch("gamma", "std") / run.by_epoch("gamma")),
        "band": statistics.mean(band),
        "negatives": len(negative),
        "first_negative": float(negative.min()) if len(negative) else math.nan,
    }


def extremes(
    runs: Sequence[Measured],
    level: Callable[[Facts], Any],
    key: Callable[[Facts], Any],
    *fields: str,
) -> list[Pair]:
    """Pairs of the highest and lowest level among the runs of each value of the other factor."""
    found: list[Pair] = []
    for value in dict.fromkeys(key(run.facts) for run in runs):
        group = [run for run in runs if key(run.facts) == value and level(run.facts) is not None]
        levels = sorted({level(run.facts) for run in group})
        if len(levels) > 1:
            found += pairs(group, level, levels[-1], levels[0], *fields)
    return found


def depth_and_width(evidence: Evidence) -> Found:
    """Depth raises gamma slightly, width hardly changes it."""
    value: Callable[[Measured], float] = lambda run: float(run["gamma"])  # noqa: E731
    deep = ratio(extremes(evidence.runs, depth, width, "model"), value)
    wide = ratio(extremes(evidence.runs, width, depth, "model"), value)
    outcome = all_of([within(deep, *DEEPER), within(wide, *WIDER)])
    return Found(outcome, f"gamma, deepest over shallowest: {deep}; widest over narrowest: {wide}.")


def mlp_is_more_regular(evidence: Evidence) -> Found:
    """The MLP's gamma varies less within and between epochs than the ResNet's."""
    found = pairs(evidence.runs, family, "mlp", "resnet", "model")
    between = ratio(found, lambda run: float(run["between"]))
    inside = ratio(found, lambda run: float(run["within"]))
    outcome = all_of([within(between, None, 1.0), within(inside, None, 1.0)])
    numbers = f"MLP over ResNet, variation between epochs: {between}; within epochs: {inside}."
    return Found(outcome, numbers)


def convolutional(evidence: Evidence) -> Found:
    """VGG-11 has more gamma, a wider band, negatives in the end alone; the others have none."""
    shallow = [run for run in evidence.runs if is_model(run.facts, "vgg11")]
    others = [run for run in evidence.runs if not is_model(run.facts, "vgg11")]
    found = [
        pair
        for name in ("vgg19", "mobilenet")
        for pair in pairs(evidence.runs, partial(_either, name=name), "vgg11", name, "model")
    ]
    higher = ratio(found, lambda run: float(run["gamma"]))
    wider = ratio(found, lambda run: float(run["band"]))
    late = each_run(shallow, lambda run: not run["first_negative"] < LATE)
    none = each_run(others, lambda run: run["negatives"] == 0)
    parts = [within(higher, 1.0, None), within(wider, 1.0, None), late.outcome, none.outcome]
    numbers = f"VGG-11 over the others, gamma: {higher}; band within an epoch: {wider}. "
    return Found(all_of(parts), f"{numbers}VGG-11, late: {late.numbers} Others: {none.numbers}")


def is_model(facts: Facts, start: str) -> bool:
    """True if the model's name begins so."""
    return needs.plain(facts.member("model")).startswith(start)


def _either(facts: Facts, name: str) -> str:
    return next((start for start in ("vgg11", name) if is_model(facts, start)), "")


STEPS, PER_EPOCH = 200, 10
TIME = np.arange(STEPS)
COLUMNS = ("steps.gamma", "steps.null_gamma")


def planted(
    levels: Sequence[tuple[Mapping[str, Any], float]],
    null: Sequence[float] = (),
    *,
    waves: Sequence[float] = (),
    negative: Mapping[int, Sequence[int]] | None = None,
    seeds: Sequence[int] = SEEDS,
) -> list[PlantedRun]:
    """Axes and gamma per level; per level the null's gamma, a wave in time, negative steps."""
    found = []
    for (index, (axes, gamma)), seed in itertools.product(enumerate(levels), seeds):
        wave = waves[index] if waves else 0.1
        ripple = 1 + wave * np.sin(TIME / 10) + wave * (-1.0) ** TIME
        values = gamma * ripple * jitter(seed)
        values[list((negative or {}).get(index, ()))] = -0.01
        steps = path_steps(STEPS, values, null[index] if null else 0.02)
        if null:
            steps["null_gamma"] = steps["null_gamma"] * ripple
        found.append(PlantedRun({**axes, "seed": seed}, steps, PER_EPOCH))
    return found


def nets(
    *gammas: float, null: Sequence[float] = (), seeds: Sequence[int] = SEEDS
) -> list[PlantedRun]:
    """ResNet-18 and -50, each at width 1 and 2."""
    axes = [
        {"model": {"name": name}, "model.width": size}
        for name, size in itertools.product(("resnet18", "resnet50"), (1.0, 2.0))
    ]
    return planted(list(zip(axes, gammas, strict=True)), null, seeds=seeds)


def kinds(
    mlp: float, resnet: float, *, null: bool = False, seeds: Sequence[int] = SEEDS
) -> list[PlantedRun]:
    """An MLP and a ResNet with those waves in gamma, and in the null too or not."""
    axes: list[dict[str, Any]] = [
        {"model": {"name": "mlp"}},
        {"model": {"name": "resnet18", "width": 2}},
    ]
    levels = list(zip(axes, (0.05, 0.05), strict=True))
    nulls = (0.02, 0.02) if null else ()
    return planted(levels, nulls, waves=(mlp, resnet), seeds=seeds)


def vggs(
    gamma: float, *, early: bool = False, null: bool = False, seeds: Sequence[int] = SEEDS
) -> list[PlantedRun]:
    """VGG-11 with that gamma and a negative step, VGG-19 and MobileNetV2 at .05."""
    axes = [{"model": {"name": name}} for name in ("vgg11", "vgg19", "mobilenet_v2")]
    levels = list(zip(axes, (gamma, 0.05, 0.05), strict=True))
    nulls = (gamma, 0.05, 0.05) if null else ()
    steps = {0: (5,) if early else ()}
    return planted(levels, nulls, waves=(0.3, 0.1, 0.1), negative=steps, seeds=seeds)


def _models(names: Sequence[str]) -> Callable[[Sequence[Facts]], bool]:
    return lambda runs: all(any(is_model(f, name) for f in runs) for name in names)


CLAIMS = (
    Claim(
        id="C18",
        statement="depth raises gamma slightly, the effect of width is trivial",
        source="P1 section 5, figure 1 top left",
        metric="ratio of mean gamma, deepest over shallowest at equal width, and widest over "
        "narrowest at equal depth",
        rule=f"passes if the first ratio's interval lies within {DEEPER} and the second's within "
        f"{WIDER}, fails if one lies outside.",
        threshold="ours, untuned",
        needs=(
            Need("runs of a ResNet", lambda f: family(f) == "resnet"),
            needs.levels("two depths", depth),
            needs.levels("two widths", width),
        ),
        columns=COLUMNS,
        measure=geometry,
        decide=depth_and_width,
        planted={
            Word.BEYOND: partial(nets, 0.05, 0.051, 0.06, 0.061),
            Word.EXPLAINED: partial(nets, 0.05, 0.051, 0.06, 0.061, null=(0.05, 0.05, 0.06, 0.06)),
            Word.REFUTED: partial(nets, 0.05, 0.051, 0.03, 0.031),
            Word.INCONCLUSIVE: partial(nets, 0.05, 0.051, 0.06, 0.061, seeds=(0,)),
        },
    ),
    Claim(
        id="C28",
        statement="an MLP's gamma is more regular than a ResNet's",
        source="P1 appendix, figure 16",
        metric="variation of gamma within epochs and of its epoch means, MLP over ResNet",
        rule="passes if both ratios' intervals lie below 1, fails if one lies above.",
        threshold="equality",
        needs=(needs.each_of("an MLP and a ResNet", family, ("mlp", "resnet")),),
        columns=COLUMNS,
        measure=geometry,
        decide=mlp_is_more_regular,
        planted={
            Word.BEYOND: partial(kinds, 0.1, 0.3),
            Word.EXPLAINED: partial(kinds, 0.1, 0.3, null=True),
            Word.REFUTED: partial(kinds, 0.3, 0.1),
            Word.INCONCLUSIVE: partial(kinds, 0.1, 0.3, seeds=(0,)),
        },
    ),
    Claim(
        id="C29",
        statement="VGG-11's gamma is higher, in a wider band, and negative in the last 5 % alone; "
        "VGG-19's and MobileNetV2's are never negative",
        source="P1 appendix, figure 17",
        metric="ratios of mean gamma and of the band within an epoch; negative steps and where",
        rule="passes if both ratios' intervals lie above 1, VGG-11's negatives are late in every "
        "run and no other run has any; fails if one of the four fails.",
        threshold="the 5 %: the paper's text",
        needs=(
            needs.model("VGG-11, VGG-19 or MobileNetV2", "vgg11", "vgg19", "mobilenet"),
            Need("VGG-11 and another", of_sweep=_models(("vgg11",))),
            needs.levels("two of these models", lambda f: f.member("model")),
        ),
        columns=COLUMNS,
        measure=geometry,
        decide=convolutional,
        planted={
            Word.BEYOND: partial(vggs, 0.06),
            Word.EXPLAINED: partial(vggs, 0.06, null=True),
            Word.REFUTED: partial(vggs, 0.06, early=True),
            Word.INCONCLUSIVE: partial(vggs, 0.06, seeds=(0,)),
        },
    ),
)
