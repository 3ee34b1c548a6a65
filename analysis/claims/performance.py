"""P1 appendix A.5, tables 6 to 9: the performance that the authors report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from analysis.claims import needs
from analysis.claims.contract import Claim, Evidence, Measures, Need, Null
from analysis.claims.facts import Facts
from analysis.claims.planting import SEEDS, PlantedRun, full
from analysis.claims.rules import listed, over_seeds
from analysis.claims.run import ClaimRun
from analysis.verdicts import Found, Word, agreed, within

POINTS = 1.0
"""Percentage points that an accuracy may differ by; ours, untuned."""
PERPLEXITY = 0.05
"""Share that a perplexity may differ by; ours, untuned."""


MEDIUM = "4096-4096-4096"
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
    hidden: str | None = None
    """The hidden widths, of a model whose default is another network than the table's."""


REPORTED = (
    Reported("cifar10", "resnet18", 1.0, "last_validation_accuracy", 90.25, 256, 26_000),
    Reported("cifar10", "mlp", 1.0, "last_validation_accuracy", 59.42, 256, 20_000, MEDIUM),
    Reported("imagenet", "resnet18", 1.0, "last_validation_accuracy", 67.63, 256, 800_000),
    Reported("imagenet", "resnet18", 2.0, "last_validation_accuracy", 69.75, 256, 800_000),
    Reported("imagenet", "resnet50", 1.0, "last_validation_accuracy", 72.31, 256, 800_000),
    Reported("imagenet", "resnet50", 2.0, "last_validation_accuracy", 73.67, 256, 800_000),
    Reported("imagenet", "resnet152", 0.5, "last_validation_accuracy", 72.23, 256, 800_000),
    Reported("imagenet", "resnet152", 1.0, "last_validation_accuracy", 73.07, 256, 800_000),
    Reported("wikitext2", "transformer", 1.0, "last_validation_perplexity", 60.72, 64, 10_000),
    Reported("vaihingen", "segnet", 1.0, "last_validation_accuracy", 84.56, 10, 23_000),
    Reported("vaihingen", "unet", 1.0, "last_validation_accuracy", 85.40, 10, 23_000),
)


def reported(facts: Facts) -> Reported | None:
    """The cell that a run is of, at the tables' batch size and length; None for none."""
    for cell in REPORTED:
        if (
            needs.is_of(facts, "data", [cell.data])
            and needs.is_of(facts, "model", [cell.model])
            and math.isclose(facts.number("model.width", 1.0), cell.width)
            and facts.number("batch_size", cell.batch_size) == cell.batch_size
            and facts.num_steps >= cell.num_steps
            and cell.hidden in (None, facts.options.get("model.hidden"))
        ):
            return cell
    return None


def difference(run: ClaimRun) -> Measures:
    """Measured less reported: in points, or as a share for a perplexity, in units of the limit."""
    cell, metrics = reported(run.facts), run.facts.metrics
    if cell is None or cell.metric not in metrics:
        return {"difference": math.nan}
    value = float(metrics[cell.metric])
    if cell.metric.endswith("accuracy"):
        return {"difference": (100 * value - cell.value) / POINTS}
    return {"difference": (value / cell.value - 1) / PERPLEXITY}


def reproduced(evidence: Evidence) -> Found:
    """Every cell's interval over the seeds is within the limit."""
    cells = over_seeds(evidence.runs, lambda run: float(run["difference"]))
    outcome = agreed(within(each, -1.0, 1.0) for each in cells.values())
    return Found(outcome, f"measured less reported, in units of the limit: {listed(cells)}.")


def planted(accuracy: float, seeds: Sequence[int] = SEEDS) -> list[PlantedRun]:
    """ResNet-18 on CIFAR-10 with that accuracy."""
    config = {"data": {"name": "cifar10"}, "model": {"name": "resnet18"}, "batch_size": 256}
    return [
        PlantedRun(
            {"seed": seed},
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
        "perplexity) in every setting that the tables have, fails if outside in every one.",
        threshold="the tables; the limits are ours",
        needs=(
            Need(
                "a run at the full length of a setting of tables 6 to 9",
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
