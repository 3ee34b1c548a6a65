"""Where P1 or P2 contradict themselves or their code, a preset has each reading.

The default or a named variant; typed by hand from INVENTORY B3, of which K12 to K14, K17, K18 and
K23 to K25 are about words, not about runs.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from sweeps.catalogue import describe, load_spec, preset_names
from sweeps.plan import Plan, make_plan
from tests.sweeps.test_presets import published_size

MEDIUM_MLP = (4096, 4096, 4096)

# number, preset, variant (None: default), dotted option; its values over the runs
READINGS: list[tuple[str, str, str | None, str, set[Any]]] = [
    ("K1", "imagenet-model", None, "learning_rate.base", {0.1}),
    ("K1", "imagenet-model", "max-lr-1e-3", "learning_rate.base", {1e-3}),
    ("K1", "imagenet-model", "max-lr-0.075", "learning_rate.base", {0.075}),
    ("K2", "imagenet-model", None, "optimizer.weight_decay", {1e-6}),
    ("K2", "imagenet-model", "weight-decay-1e-4", "optimizer.weight_decay", {1e-4}),
    ("K1", "imagenet-resnet50", "text-setting", "learning_rate.base", {1e-3}),
    ("K2", "imagenet-resnet50", "text-setting", "optimizer.weight_decay", {1e-4}),
    ("K3", "cifar10-optimizer", None, "learning_rate.base", {1e-4, 5e-4, 1e-3}),
    ("K3", "cifar10-optimizer", "sgd-lr-1e-2", "learning_rate.base", {1e-2, 1e-3}),
    ("K4", "cifar10-resnet18", None, "data.validation_fraction", {0.2}),
    ("K4", "cifar10-resnet18", "train-50k", "data.validation_fraction", {0}),
    ("K5", "cifar10-mlp-vs-resnet", None, "budget.epochs", {150}),
    ("K5", "cifar10-mlp-vs-resnet", "budgets-150-400", "budget.epochs", {150, 400}),
    ("K5", "cifar10-mlp-vs-resnet", None, "model.width", {2}),
    ("K5", "cifar10-mlp-vs-resnet", "resnet18-1", "model.width", {1}),
    ("K5", "cifar10-batch-size", "medium-mlp", "model.hidden", {MEDIUM_MLP}),
    ("K5", "cifar10-budget", "medium-mlp", "model.hidden", {MEDIUM_MLP}),
    ("K6", "wikitext2-batch-size", None, "learning_rate.reference_batch_size", {32}),
    ("K6", "wikitext2-batch-size", "lr-base-64", "learning_rate.reference_batch_size", {64}),
    ("K7", "wikitext2-batch-size", None, "batch_size", {32, 64, 128, 256}),
    ("K8", "ptb-transformer", None, "data.train_examples", {None}),
    ("K8", "ptb-transformer", "lines-38219", "data.train_examples", {38_219}),
    ("K9", "vaihingen-model", None, "schedule.weight_decay", {True}),
    ("K9", "vaihingen-model", "lr-only", "schedule.weight_decay", {False}),
    ("K10", "synthetic-counter-examples", None, "data.loss", {"rmse", "squares"}),
    ("K11", "cifar10-mlp-vs-resnet", None, "data.name", {"cifar10"}),
    ("K11", "imagenet-model", None, "data.name", {"imagenet"}),
    ("K15", "imagenet-model", None, "model.width", {0.5, 1, 2}),
    ("K16", "imagenet-model", None, "budget.epochs", {180}),
    ("K16", "imagenet-model", "budgets-90-180", "budget.epochs", {90, 180}),
    ("K19", "wikitext2-transformer", None, "model.attention", {"tokens"}),
    ("K19", "wikitext2-transformer", "authors_lm", "model.attention", {"minibatch"}),
    ("K19", "wikitext2-transformer", "pytorch_example", "model.embedding_size", {200}),
    ("K20", "cifar10-budget", None, "learning_rate.base", {1e-2}),
    ("K20", "cifar10-budget", "lr-1e-3", "learning_rate.base", {1e-3}),
    ("K21", "gawu-vs-wu", None, "schedule.growth", {"recursive"}),
    ("K21", "gawu-vs-wu", "plain-exponential", "schedule.growth", {"plain"}),
    ("K22", "gawu-vs-wu", None, "schedule.unit", {"step"}),
    ("K22", "gawu-vs-wu", "warm-up-in-epochs", "schedule.unit", {"epoch"}),
    # runs that the authors' code has and the paper does not show
    ("code", "imagenet-model", "resnet18-3", "model.width", {1, 2, 3}),
    ("code", "cifar10-mlp-vs-resnet", "resnet18-3", "model.width", {3}),
    ("code", "vaihingen-budget", None, "budget.epochs", {26, 50}),
    ("code", "imagenet-batch-size", None, "batch_size", {64, 128, 256, 512}),
]

# INVENTORY B1, B2; panels where a figure has several
FIGURES = {
    "P1": {
        *("1 top left", "1 top right", "1 bottom left", "1 bottom right"),
        *("2 left", "2 middle", "2 right", "3 left", "3 right", "4 left", "4 right"),
        *map(str, range(5, 25)),
    },
    "P2": set(map(str, range(1, 11))),
}
TABLES = {"P1": set(map(str, range(1, 10))), "P2": {"1"}}


@cache
def plan_of(name: str, variant: str | None) -> Plan:
    return make_plan(load_spec(name, variant=variant), Path("unused"), num_train=published_size)


@pytest.mark.parametrize(("number", "name", "variant", "key", "values"), READINGS)
def test_a_reading_is_a_default_or_a_variant(
    number: str, name: str, variant: str | None, key: str, values: set[Any]
) -> None:
    found = set()
    for run in plan_of(name, variant).runs:
        value: Any = run.config
        for part in key.split("."):
            value = getattr(value, part, ...)
        found.add(value)
    assert found - {...} == values


@pytest.mark.parametrize("name", preset_names())
def test_every_variant_says_who_reads_it_so(name: str) -> None:
    for told in describe(name).variants.values():
        assert re.fullmatch(r".+ \(.+\)", told, re.DOTALL)


@pytest.mark.parametrize("kind", ["figure", "Table"])
@pytest.mark.parametrize("paper", ["P1", "P2"])
def test_every_figure_and_table_is_some_presets(paper: str, kind: str) -> None:
    found = set()
    for name in preset_names():
        figure = describe(name).figure
        if figure.startswith(paper):
            for list_ in re.findall(rf"{kind}s? (\d[\w ]*(?:(?:, | and )\d[\w ]*)*)", figure):
                found |= set(re.split(r", | and ", list_))
    wanted = FIGURES[paper] if kind == "figure" else TABLES[paper]
    assert found == wanted


def test_the_triple_width_resnet_has_the_inventorys_weights() -> None:
    models = {run.config.model for run in plan_of("cifar10-mlp-vs-resnet", "resnet18-3").runs}
    with torch.device("meta"):
        counts = {sum(p.numel() for p in m.build((3, 32, 32), 10).parameters()) for m in models}
    assert counts == {100_466_890, 46_190_602}
