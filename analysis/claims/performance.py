"""P1 appendix A.5, tables 6 to 9: the performance that the authors report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from analysis.claims import needs
from analysis.claims.contract import Claim, Evidence, Measured, Measures, Need, Null
from analysis.claims.facts import Facts
from analysis.claims.planting import SEEDS, PlantedRun, full
from analysis.claims.rules import replicates
from analysis.claims.run import ClaimRun
from analysis.fits import interval_over_seeds
from analysis.verdicts import Found, Word, agreed, within

POINTS = 1.0
"""Percentage points that an accuracy may differ by; ours, untuned."""
PERPLEXITY = 0.05
"""Share that a perplexity may differ by; ours, untuned."""


MEDIUM = (("model.hidden", "4096-4096-4096"),)
"""Hidden widths of P1's Medium-MLP; the default MLP has 128 twice."""


class Reported(NamedTuple):
    """A cell of the tables: the run that it is of, its metric, its value, the fewest steps."""

    data: str
    model: str
    width: float
    metric: str
    value: float
    batch_size: int
    num_steps: int
    """Of its setting in Tables 1 to 5, with what the authors' split leaves: nine tenths of it."""
    optimizer: str = "momentum"
    learning_rates: tuple[float, ...] = (1e-2,)
    """At that batch size: of Tables 1 to 5 and A.4, which of two where they contradict."""
    options: tuple[tuple[str, object], ...] = ()
    """Further options without which the network or its loss is not the table's."""


AUTHORS_LM = (
    ("model.attention", "minibatch"),
    ("model.layer_init", "copied"),
    ("task.padding", "predicted"),
    ("data.vocabulary", "authors"),
)
"""What table 8's perplexity is of: attention across the minibatch, predicted padding."""
LANGUAGE_RATES = (1e-4, 1e-4 * math.sqrt(2))
"""At batch 64: by the footnote of P1's Table 4, and by the square root from its base 32."""
IMAGENET = tuple(
    Reported(
        "imagenet", model, width, "last_validation_accuracy", value, 256, 800_000,
        learning_rates=(0.1,),
    )
    for model, width, value in (
        ("resnet18", 1.0, 67.63),
        ("resnet18", 2.0, 69.75),
        ("resnet50", 1.0, 72.31),
        ("resnet50", 2.0, 73.67),
        ("resnet152", 0.5, 72.23),
        ("resnet152", 1.0, 73.07),
    )
)  # fmt: skip
"""Table 7, at the setting of Table 3."""
REPORTED = (
    Reported("cifar10", "resnet18", 1.0, "last_validation_accuracy", 90.25, 256, 26_000),
    Reported("cifar10", "mlp", 1.0, "last_validation_accuracy", 59.42, 256, 20_000, options=MEDIUM),
    *IMAGENET,
    Reported(
        "wikitext2",
        "transformer",
        1.0,
        "last_validation_perplexity",
        60.72,
        64,
        10_000,
        "adam",
        LANGUAGE_RATES,
        AUTHORS_LM,
    ),
    Reported("vaihingen", "segnet", 1.0, "last_validation_accuracy", 84.56, 10, 23_000),
    Reported("vaihingen", "unet", 1.0, "last_validation_accuracy", 85.40, 10, 23_000),
)


def reported(facts: Facts) -> Reported | None:
    """The cell whose setting a run has, at its length; None for none."""
    for cell in REPORTED:
        if (
            needs.is_of(facts, "data", [cell.data])
            and needs.is_of(facts, "model", [cell.model])
            and math.isclose(facts.number("model.width", 1.0), cell.width)
            and facts.number("batch_size", 0) == cell.batch_size
            and facts.num_steps >= cell.num_steps
            and needs.is_of(facts, "optimizer", [cell.optimizer])
            and any(math.isclose(rate_of(facts), r, rel_tol=0.01) for r in cell.learning_rates)
            and all(facts.options.get(name) == value for name, value in cell.options)
        ):
            return cell
    return None


def rate_of(facts: Facts) -> float:
    """The learning rate at the run's batch size, before the schedule; NaN where it is not known."""
    base = facts.number("learning_rate.base", facts.number("learning_rate", math.nan))
    reference = facts.number("learning_rate.reference_batch_size", math.nan)
    power = RULES.get(str(facts.options.get("learning_rate.rule", "fixed")), math.nan)
    if power == 0:
        return base
    return base * float((facts.number("batch_size", math.nan) / reference) ** power)


RULES = {"fixed": 0.0, "sqrt": 0.5, "linear": 1.0}
"""The power of the batch size in the learning rate."""


def difference(run: ClaimRun) -> Measures:
    """The metric; measured less reported in points, or as a share, in units of the limit."""
    cell, metrics = reported(run.facts), run.facts.metrics
    if cell is None or cell.metric not in metrics:
        return {"difference": math.nan, "value": math.nan}
    value = float(metrics[cell.metric])
    if cell.metric.endswith("accuracy"):
        return {"difference": (100 * value - cell.value) / POINTS, "value": value}
    return {"difference": (value / cell.value - 1) / PERPLEXITY, "value": -value}


def reproduced(evidence: Evidence) -> Found:
    """Every cell's interval over the seeds, of its best setting, is within the limit."""
    by_cell: dict[Reported, dict[str, list[Measured]]] = {}
    for name, runs in replicates(evidence.runs).items():
        cell = reported(runs[0].facts)
        if cell is not None and any(math.isfinite(run["value"]) for run in runs):
            by_cell.setdefault(cell, {})[name] = runs
    outcomes, texts = [], []
    for cell, settings in by_cell.items():
        name = max(settings, key=lambda name: _mean(settings[name], "value"))
        found = interval_over_seeds(_known(settings[name], "difference"))
        outcomes.append(within(found, -1.0, 1.0))
        best = f", the best of its {len(settings)} settings" if len(settings) > 1 else ""
        at = f" at {name}" if name else ""
        texts.append(f"{cell.model} on {cell.data}, table {cell.value:g}{at}{best}: {found}")
    return Found(agreed(outcomes), f"measured less reported, in limits: {'; '.join(texts)}.")


def _known(runs: Sequence[Measured], name: str) -> list[float]:
    return [run[name] for run in runs if math.isfinite(run[name])]


def _mean(runs: Sequence[Measured], name: str) -> float:
    values = _known(runs, name)
    return sum(values) / len(values)


def planted(
    accuracy: float,
    seeds: Sequence[int] = SEEDS,
    *,
    rate: float = 1e-2,
    weight_decay: float = 1e-6,
) -> list[PlantedRun]:
    """ResNet-18 on CIFAR-10 with that accuracy, at that setting."""
    config = {"data": {"name": "cifar10"}, "model": {"name": "resnet18"}, "batch_size": 256}
    return [
        PlantedRun(
            {
                "optimizer": {"name": "momentum", "weight_decay": weight_decay},
                "learning_rate": rate,
                "seed": seed,
            },
            {"loss": full(29_640, 1.0)},
            156,
            config=config,
            metrics={"last_validation_accuracy": accuracy + 1e-3 * seed},
        )
        for seed in seeds
    ]


CLAIMS = (
    Claim(
        id="C43",
        statement="the reported validation performance is reproduced",
        source="P1 appendix A.5, tables 6 to 9",
        metric="measured less reported accuracy, or perplexity",
        rule=f"passes if its interval lies within {POINTS:g} point ({PERPLEXITY:.0%} for a "
        "perplexity) in every cell of the tables, fails if outside in every one. Of a cell only "
        "runs with the optimizer, learning rate, batch size and length that the paper gives it "
        "count, and where they differ in more, those with the best mean of the metric: the paper "
        "reports its tuned setting.",
        threshold="the tables; the limits are ours",
        needs=(
            Need(
                "a run at the setting and full length of a cell of tables 6 to 9",
                lambda facts: reported(facts) is not None,
            ),
        ),
        measure=difference,
        decide=reproduced,
        null=Null.SILENT,
        planted={
            Word.BEYOND: partial(planted, 0.902),
            Word.REFUTED: partial(planted, 0.85),
            Word.INCONCLUSIVE: partial(planted, 0.902, (0,)),
        },
    ),
)
