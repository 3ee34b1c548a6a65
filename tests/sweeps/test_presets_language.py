"""Language presets: P1's figures, typed by hand from the paper and its code's scripts."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from sweeps.catalogue import describe, load_spec, preset_names
from sweeps.plan import Plan, PlannedRun, make_plan
from tests.sweeps.published import published_items
from trainables.config import RunConfig

NAMES = [
    "ptb-transformer",
    "wikitext103-transformer",
    "wikitext2-batch-size",
    "wikitext2-transformer",
]


class Row(NamedTuple):
    """What one kind of run of a preset must come to."""

    preset: str
    variant: str | None
    ablation: str
    batch_size: int
    runs: int
    steps_per_epoch: int
    num_steps: int
    learning_rate: float
    weight_decay: float
    num_weights: int


WT2, PTB_WEIGHTS, WT103 = 9_747_454, 3_765_008, 70_002_903

TABLE = [
    Row("wikitext2-transformer", None, "seeds", 32, 3, 1147, 22_940, 1e-4, 1e-5, WT2),
    Row("wikitext2-transformer", "authors_lm", "seeds", 32, 3, 1147, 22_940, 1e-4, 1e-5, WT2),
    Row("wikitext2-transformer", "adamw", "seeds", 32, 3, 1147, 22_940, 1e-4, 1e-5, WT2),
    # 2 x 33,278 x 200 + 33,278, and 2 x 242,000: the example's two layers of width 200
    Row(
        "wikitext2-transformer",
        "pytorch_example",
        "seeds",
        *(32, 3, 1864, 37_280, 1e-4, 1e-5, 13_828_478),
    ),
    Row("wikitext2-batch-size", None, "equal-epochs", 32, 3, 1147, 22_940, 1e-4, 1e-5, WT2),
    Row("wikitext2-batch-size", None, "equal-epochs", 64, 3, 573, 11_460, 1.4142e-4, 1e-5, WT2),
    Row("wikitext2-batch-size", None, "equal-epochs", 128, 3, 286, 5_720, 2e-4, 1e-5, WT2),
    Row("wikitext2-batch-size", None, "equal-epochs", 256, 3, 143, 2_860, 2.8284e-4, 1e-5, WT2),
    Row("wikitext2-batch-size", None, "equal-steps", 32, 3, 1147, 22_940, 1e-4, 1e-5, WT2),
    Row("wikitext2-batch-size", None, "equal-steps", 64, 3, 573, 22_940, 1.4142e-4, 1e-5, WT2),
    Row("wikitext2-batch-size", None, "equal-steps", 128, 3, 286, 22_940, 2e-4, 1e-5, WT2),
    Row("wikitext2-batch-size", None, "equal-steps", 256, 3, 143, 22_940, 2.8284e-4, 1e-5, WT2),
    Row(
        "wikitext2-batch-size",
        "lr-base-64",
        "equal-epochs",
        *(32, 3, 1147, 22_940, 7.0711e-5, 1e-5, WT2),
    ),
    Row("wikitext2-batch-size", "lr-base-64", "equal-epochs", 64, 3, 573, 11_460, 1e-4, 1e-5, WT2),
    Row(
        "wikitext2-batch-size",
        "lr-base-64",
        "equal-epochs",
        *(256, 3, 143, 2_860, 2e-4, 1e-5, WT2),
    ),
    Row("ptb-transformer", None, "seeds", 256, 3, 164, 3_280, 1e-4, 1e-5, PTB_WEIGHTS),
    Row("ptb-transformer", "lines-38219", "seeds", 256, 3, 149, 2_980, 1e-4, 1e-5, PTB_WEIGHTS),
    Row("wikitext103-transformer", None, "seeds", 32, 3, 56_292, 112_584, 1e-4, 1e-5, WT103),
]
"""INVENTORY B0, B1, B3 (K6, K8, K19) and C."""


def published_size(config: RunConfig, root: Path) -> int:
    return published_items(config)


@cache
def plan_of(name: str, scale: str = "full", variant: str | None = None) -> Plan:
    return make_plan(
        load_spec(name, scale=scale, variant=variant), Path("unused"), num_train=published_size
    )


def runs_of(row: Row) -> list[PlannedRun]:
    return [
        run
        for run in plan_of(row.preset, "full", row.variant).runs
        if row.ablation in run.ablations and run.config.batch_size == row.batch_size
    ]


def num_weights(config: RunConfig) -> int:
    data: Any = config.data
    with torch.device("meta"):
        network = config.model.build((), data.published_words)
    return sum(parameter.numel() for parameter in network.parameters())


def label(row: Row) -> str:
    return f"{row.preset}+{row.variant}-{row.ablation}-{row.batch_size}"


@pytest.mark.parametrize("row", TABLE, ids=label)
def test_the_plan_is_the_papers(row: Row) -> None:
    runs = runs_of(row)
    assert len(runs) == row.runs
    for run in runs:
        config = run.config
        assert config.steps_per_epoch(published_items(config)) == row.steps_per_epoch
        assert run.num_steps == row.num_steps
        rate = config.learning_rate.at(row.batch_size)
        assert rate == pytest.approx(row.learning_rate, rel=1e-4)
        assert config.optimizer.weight_decay == row.weight_decay
        assert config.schedule.name == "constant"
    assert num_weights(runs[0].config) == row.num_weights


def test_every_language_preset_and_variant_is_in_the_table() -> None:
    prefixes = ("ptb", "wikitext")
    assert [name for name in preset_names() if name.startswith(prefixes)] == NAMES
    every = {(name, variant) for name in NAMES for variant in (None, *describe(name).variants)}
    assert {(row.preset, row.variant) for row in TABLE} == every


@pytest.mark.parametrize("name", NAMES)
def test_every_run_clips_after_measuring_and_reports_gamma_without_unused_rows(name: str) -> None:
    for run in plan_of(name).runs:
        config = run.config
        assert config.optimizer.gradient_clip == 0.25
        assert (config.optimizer.name, config.precision) == ("adam", "fp32")
        assert [probe.name for probe in config.probes][:3] == ["path", "update", "used_rows"]
        task, model, data = (
            member.model_dump() for member in (config.task, config.model, config.data)
        )
        assert task == {"items": "lines", "tokens": 33, "padding": "ignored"}
        assert (model["attention"], model["layer_init"], model["dropout"]) == (
            "tokens",
            "independent",
            0,
        )
        assert (data["vocabulary"], data["training_split"]) == ("words", "train")


def test_adamw_changes_the_optimizer_alone() -> None:
    plain, adamw = (
        plan_of("wikitext2-transformer", "full", variant).runs[0].config
        for variant in (None, "adamw")
    )
    assert adamw.optimizer.name == "adamw"
    assert adamw.optimizer.gradient_clip == 0.25
    assert adamw.model_copy(update={"optimizer": plain.optimizer}) == plain


def test_authors_lm_is_the_published_code() -> None:
    config = plan_of("wikitext2-transformer", "full", "authors_lm").runs[0].config
    task, model, data = (member.model_dump() for member in (config.task, config.model, config.data))
    assert (task["items"], task["tokens"], task["padding"]) == ("lines", 33, "predicted")
    assert (model["attention"], model["layer_init"]) == ("minibatch", "copied")
    assert data["vocabulary"] == "authors"


def test_pytorch_example_has_the_examples_network_and_stream() -> None:
    config = plan_of("wikitext2-transformer", "full", "pytorch_example").runs[0].config
    task, model = config.task.model_dump(), config.model.model_dump()
    assert (task["items"], task["tokens"]) == ("stream", 36)
    sizes = ("embedding_size", "hidden_size", "num_layers", "num_heads", "dropout")
    assert [model[size] for size in sizes] == [200, 200, 2, 2, 0.2]


def test_the_equal_steps_twin_shares_the_trajectories_of_equal_epochs() -> None:
    plan = plan_of("wikitext2-batch-size")
    assert (len(plan.runs), len(plan.trajectories)) == (24, 12)


@pytest.mark.parametrize("name", NAMES)
def test_the_smoke_scale_says_what_it_trains_on(name: str) -> None:
    plan = plan_of(name, "smoke")
    assert "test split" in plan.spec.title
    for run in plan.runs:
        data: Any = run.config.data
        lines = 2000 if name.startswith("ptb") else 1000
        assert (data.training_split, data.train_examples) == ("test", lines)
        assert "ours" in plan.spec.description
        assert run.config.learning_rate.base == 1e-3


def test_wikitext_2_stands_in_for_wikitext_103_and_says_so() -> None:
    plan = plan_of("wikitext103-transformer", "smoke")
    assert "WikiText-2 in place of WikiText-103" in plan.spec.title
    assert {run.config.data.name for run in plan.runs} == {"wikitext2"}
    assert {run.num_steps for run in plan.runs} == {62}


def test_the_smoke_batch_sizes_keep_steps_as_one_over_batch() -> None:
    plan = plan_of("wikitext2-batch-size", "smoke")
    steps = {r.config.batch_size: r.num_steps for r in plan.runs if "equal-epochs" in r.ablations}
    assert steps == {32: 186, 64: 90, 128: 42, 256: 18}
