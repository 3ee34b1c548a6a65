"""Presets: the paper's numbers, no two alike, and smoke scales that stay small."""

from __future__ import annotations

import itertools
import math
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from sweeps.catalogue import describe, load_spec, preset_names
from sweeps.plan import Plan, make_plan
from tests.sweeps.published import published_items
from trainables.config import RunConfig

NAMES = [
    "cifar10-batch-size",
    "cifar10-budget",
    "cifar10-depth-width",
    "cifar10-mlp-vs-resnet",
    "cifar10-optimizer",
    "cifar10-seed",
    "quickstart",
]

SMOKE_STEPS = {"quickstart": 372}
"""Longest smoke run in steps where it is not 200: the quickstart's take 20 us each."""

IMAGENET_TRAIN = 1_281_167


def published_size(config: RunConfig, root: Path) -> int:
    """Training examples without any file: as many as were published."""
    data: Any = config.data
    if data.kind == "text":
        return published_items(config)
    if data.kind == "objective":
        return config.task.num_train(config, root)
    if data.train_examples is not None:
        return int(data.train_examples)
    if data.name == "imagenet":
        return IMAGENET_TRAIN
    published = int(data.official_counts["train"])
    return published - math.floor(published * data.validation_fraction)


@cache
def plan_of(name: str, scale: str = "full", variant: str | None = None) -> Plan:
    spec = load_spec(name, scale=scale, variant=variant)
    return make_plan(spec, Path("unused"), num_train=published_size)


def every() -> list[tuple[str, str, str | None]]:
    return [
        (name, scale, variant)
        for name in preset_names()
        for scale in ("full", "smoke")
        for variant in (None, *describe(name).variants)
    ]


def axes(plan: Plan, label: str) -> dict[str, list[Any]]:
    """Field -> distinct values among the ablation's runs, in the order of the plan."""
    runs = [run for run in plan.runs if label in run.ablations]
    fields = plan.ablations[label].axes
    return {f: list(dict.fromkeys(run.axes.get(f) for run in runs)) for f in fields}


def test_the_presets() -> None:
    assert set(NAMES) <= set(preset_names())


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_says_what_it_asks_and_has_both_scales(name: str) -> None:
    offered = describe(name)
    assert offered.name == name
    assert offered.question.endswith("?")
    assert offered.scales == ("full", "smoke")


def test_no_two_presets_resolve_to_the_same_plan() -> None:
    plans = {key: frozenset(run.run_id for run in plan_of(*key).runs) for key in every()}
    same = [(a, b) for a, b in itertools.combinations(plans, 2) if plans[a] == plans[b]]
    assert same == []


def test_no_two_presets_have_the_same_name() -> None:
    names = [plan_of(*key).name for key in every()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(("name", "scale", "variant"), every())
def test_every_axis_has_as_many_runs_as_its_levels_cross(
    name: str, scale: str, variant: str | None
) -> None:
    plan = plan_of(name, scale, variant)
    assert len({run.run_id for run in plan.runs}) == len(plan.runs)
    for label, ablation in plan.spec.ablations.items():
        seeds = ablation.seeds or plan.spec.seeds
        expected = max(1, len(ablation.cases))
        expected *= math.prod(len(levels) for levels in (*ablation.grid.values(), *seeds.values()))
        assert sum(label in run.ablations for run in plan.runs) == expected


@pytest.mark.parametrize(
    ("name", "variant"), [(name, variant) for name, scale, variant in every() if scale == "smoke"]
)
def test_a_smoke_scale_is_small_and_has_the_full_scales_axes(
    name: str, variant: str | None
) -> None:
    smoke, full = plan_of(name, "smoke", variant), plan_of(name, "full", variant)
    assert "smoke scale" in smoke.spec.title
    assert max(run.num_steps for run in smoke.runs) <= SMOKE_STEPS.get(name, 200)
    for label, ablation in full.ablations.items():
        assert smoke.ablations[label].axes == ablation.axes
        few, many = axes(smoke, label), axes(full, label)
        levels = {f: len(v) for f, v in many.items() if f not in ("seed", "seeds.init")}
        assert {f: len(few[f]) for f in levels} == levels
        assert all(len(few[f]) >= 2 for f in few if f in ("seed", "seeds.init"))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "quickstart"])
def test_a_cifar_smoke_scale_trains_on_2000_real_images(name: str) -> None:
    for run in plan_of(name, "smoke").runs:
        data: Any = run.config.data
        assert (data.name, data.train_examples) == ("cifar10", 2000)


# The numbers of P1, table by table


@pytest.mark.parametrize("name", [name for name in NAMES if name != "quickstart"])
def test_the_full_scale_is_p1s_default_run(name: str) -> None:
    for run in plan_of(name).runs:
        config = run.config
        data: Any = config.data
        assert (data.validation_fraction, data.crop_padding, data.flip) == (0.2, 4, False)
        assert config.optimizer.weight_decay == 1e-6
        assert config.schedule.name == "constant"
        assert config.precision == "fp32"
        if "batch_size" not in run.axes:
            assert config.batch_size == 256


def test_p1s_default_run_takes_29640_steps() -> None:
    assert {run.num_steps for run in plan_of("cifar10-seed").runs} == {29640}
    assert {run.num_steps for run in plan_of("cifar10-seed", "full", "train-50k").runs} == {37050}


def test_batch_sizes_are_figure_6_and_an_equal_steps_twin() -> None:
    plan = plan_of("cifar10-batch-size")
    for label in ("equal-epochs", "equal-steps"):
        assert axes(plan, label) == {"batch_size": [64, 128, 256, 512], "seed": [0, 1, 2]}
    rates = {r.config.batch_size: r.config.learning_rate.at(r.config.batch_size) for r in plan.runs}
    expected = {64: 0.005, 128: 0.00707107, 256: 0.01, 512: 0.01414214}
    assert rates == pytest.approx(expected, rel=1e-6)
    steps = {
        label: [r.num_steps for r in plan.runs if label in r.ablations] for label in plan.ablations
    }
    assert set(steps["equal-steps"]) == {29640}
    assert sorted(set(steps["equal-epochs"])) == [190 * 78, 190 * 156, 190 * 312, 190 * 625]
    assert len(plan.trajectories) == 12


def test_the_smoke_twin_keeps_steps_as_one_over_batch() -> None:
    plan = plan_of("cifar10-batch-size", "smoke")
    steps = {r.config.batch_size: r.num_steps for r in plan.runs if "equal-epochs" in r.ablations}
    assert steps == {64: 186, 128: 90, 256: 42, 512: 18}


def test_optimizers_are_table_2() -> None:
    plan = plan_of("cifar10-optimizer")
    optimizers = ["sgd", "momentum", "adam"]
    seeds = [0, 1, 2]
    assert axes(plan, "same-lr") == {"optimizer.name": optimizers, "seed": seeds}
    grid = axes(plan, "lr-grid")
    assert set(grid.pop("learning_rate.base")) == {1e-4, 5e-4, 1e-3}
    assert grid == {"optimizer.name": optimizers, "seed": seeds}
    budgets = axes(plan, "budgets")
    assert set(budgets.pop("budget.epochs")) == {100, 190, 280}
    assert budgets == {"optimizer.name": optimizers, "seed": seeds}
    same = [run for run in plan.runs if "same-lr" in run.ablations]
    assert {run.config.learning_rate.base for run in same} == {1e-3}
    assert len(plan.trajectories) == 27


def test_the_variant_of_the_text_raises_sgd_and_momentum_only() -> None:
    plan = plan_of("cifar10-optimizer", "full", "sgd-lr-1e-2")
    rates = {(run.config.optimizer.name, run.config.learning_rate.base) for run in plan.runs}
    assert rates == {("sgd", 1e-2), ("momentum", 1e-2), ("adam", 1e-3)}
    assert set(plan.ablations) == {"same-lr", "budgets"}


def test_seeds_vary_the_initial_weights_alone_and_everything() -> None:
    plan = plan_of("cifar10-seed")
    init = [run.config for run in plan.runs if "init" in run.ablations]
    everything = [run.config for run in plan.runs if "all" in run.ablations]
    assert axes(plan, "init") == {"seeds.init": [2019, 2020, 2021, 2022, 2023]}
    assert {c.seed_for("data_order") for c in init} == {init[0].seed_for("data_order")}
    assert len({c.seed_for("init") for c in init}) == 5
    for name in ("init", "data_order", "augmentation"):
        assert len({c.seed_for(name) for c in everything}) == 5


def test_budgets_are_prefixes_of_one_trajectory_per_seed() -> None:
    plan = plan_of("cifar10-budget")
    assert axes(plan, "budgets")["budget.epochs"] == [100, 190, 280]
    assert [len(t.runs) for t in plan.trajectories] == [3, 3, 3]
    assert plan.base.get("learning_rate", {"base": 1e-2}) == {"base": 1e-2}
    variant = plan_of("cifar10-budget", "full", "lr-1e-3")
    assert {run.config.learning_rate.base for run in variant.runs} == {1e-3}


def test_the_smoke_budgets_keep_the_papers_proportions() -> None:
    runs = plan_of("cifar10-budget", "smoke").runs
    assert sorted({run.num_steps for run in runs}) == [70, 133, 196]


def test_mlp_and_resnet_are_figure_16() -> None:
    plan = plan_of("cifar10-mlp-vs-resnet")
    models: list[Any] = [run.config.model for run in plan.runs if run.axes["seed"] == 0]
    assert [m.name for m in models] == ["resnet18", "mlp"]
    assert (models[0].width, models[1].hidden) == (2, (4096, 4096, 4096))
    assert {run.num_steps for run in plan.runs} == {150 * 156}
    variant = plan_of("cifar10-mlp-vs-resnet", "full", "budgets-150-400")
    assert axes(variant, "models")["budget.epochs"] == [150, 400]


@pytest.mark.parametrize("scale", ["full", "smoke"])
def test_mlp_and_resnet_have_as_many_weights(scale: str) -> None:
    import torch

    models = [run.config.model for run in plan_of("cifar10-mlp-vs-resnet", scale).runs]
    with torch.device("meta"):
        counts = {
            m.name: sum(p.numel() for p in m.build((3, 32, 32), 10).parameters()) for m in models
        }
    assert counts["mlp"] == pytest.approx(counts["resnet18"], rel=0.05)


def test_depth_and_width_are_crossed() -> None:
    for scale, unit in (("full", 1.0), ("smoke", 0.125)):
        found = axes(plan_of("cifar10-depth-width", scale), "depth-width")
        assert found["model.name"] == ["resnet18", "resnet34", "resnet50"]
        assert found["model.width"] == [0.5 * unit, unit, 2 * unit]


def test_the_quickstart_is_batch_sizes_at_equal_epochs_and_at_equal_steps() -> None:
    plan = plan_of("quickstart")
    for label in ("equal-epochs", "equal-steps"):
        assert axes(plan, label) == {"batch_size": [16, 32, 64, 128, 256], "seed": [0, 1, 2]}
    assert (len(plan.runs), len(plan.trajectories)) == (30, 15)
    config = plan.runs[-1].config
    assert config.learning_rate.at(256) == pytest.approx(0.04)
    steps = {run.config.budget.steps for run in plan.runs if "equal-steps" in run.ablations}
    assert steps == {1000}
