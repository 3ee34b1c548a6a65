"""The rest of P1's image presets against a table typed by hand (INVENTORY B and C; P1 A.3, A.4)."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from sweeps.catalogue import describe, load_spec
from sweeps.plan import Plan, make_plan

NUM_TRAIN = {"imagenet": 1_281_167, "cifar10": 40_000, "image_stream": 1_800}
"""cifar10: 80 % of 50,000 (INVENTORY B0); its smoke scale has 2,000."""

WIDTHS = {
    ("resnet18", 1.0): 11_689_512,
    ("resnet18", 2.0): 45_693_032,
    ("resnet18", 3.0): 102_011_560,
    ("resnet50", 1.0): 25_557_032,
    ("resnet50", 2.0): 98_004_072,
    ("resnet152", 0.5): 15_601_160,
    ("resnet152", 1.0): 60_192_808,
    ("mobilenet_v2", 1.0): 3_504_872,
}
"""Weights at 1000 classes, ImageNet stem (INVENTORY C)."""

# name, scale, variant; runs, trajectories, steps per epoch, T, learning rates
TABLE = [
    ("imagenet-model", "full", None, 18, 18, {5004}, {900_720}, {0.1}),
    ("imagenet-model", "full", "resnet18-3", 9, 9, {5004}, {900_720}, {0.1}),
    ("imagenet-model", "full", "max-lr-0.075", 18, 18, {5004}, {900_720}, {0.075}),
    ("imagenet-model", "full", "max-lr-1e-3", 18, 18, {5004}, {900_720}, {0.001}),
    ("imagenet-model", "full", "weight-decay-1e-4", 18, 18, {5004}, {900_720}, {0.1}),
    ("imagenet-model", "full", "budgets-90-180", 36, 36, {5004}, {450_360, 900_720}, {0.1}),
    ("imagenet-resnet50", "full", None, 3, 3, {5004}, {900_720}, {0.1}),
    ("imagenet-resnet50", "full", "text-setting", 3, 3, {5004}, {900_720}, {0.001}),
    ("imagenet-mobilenet", "full", None, 3, 3, {5004}, {900_720}, {0.1}),
    (
        "imagenet-batch-size",
        "full",
        None,
        24,
        24,
        {20_018, 10_009, 5_004, 2_502},
        {3_603_240, 1_801_620, 900_720, 450_360},
        {5e-4, 7.0711e-4, 1e-3, 1.41421e-3},
    ),
    ("cifar10-resnet18", "full", None, 3, 3, {156}, {29_640}, {0.01}),
    ("cifar10-vgg-mobilenet", "full", None, 9, 9, {156}, {62_400}, {0.001}),
    ("cifar10-vgg-mobilenet", "full", "batch-norm", 9, 9, {156}, {62_400}, {0.001}),
    ("plausible-causes", "full", None, 27, 27, {156}, {29_640}, {0.01}),
    ("imagenet-model", "smoke", None, 12, 12, {7}, {70}, {0.1}),
    ("imagenet-model", "smoke", "resnet18-3", 6, 6, {7}, {70}, {0.1}),
    ("imagenet-model", "smoke", "max-lr-0.075", 12, 12, {7}, {70}, {0.075}),
    ("imagenet-model", "smoke", "max-lr-1e-3", 12, 12, {7}, {70}, {0.001}),
    ("imagenet-model", "smoke", "weight-decay-1e-4", 12, 12, {7}, {70}, {0.1}),
    ("imagenet-model", "smoke", "budgets-90-180", 24, 24, {7}, {70, 140}, {0.1}),
    ("imagenet-resnet50", "smoke", None, 2, 2, {7}, {140}, {0.1}),
    ("imagenet-resnet50", "smoke", "text-setting", 2, 2, {7}, {140}, {0.001}),
    ("imagenet-mobilenet", "smoke", None, 2, 2, {7}, {140}, {0.1}),
    (
        "imagenet-batch-size",
        "smoke",
        None,
        16,
        16,
        {28, 14, 7, 3},
        {168, 84, 42, 18, 40},
        {5e-4, 7.0711e-4, 1e-3, 1.41421e-3},
    ),
    ("cifar10-resnet18", "smoke", None, 2, 2, {7}, {200}, {0.01}),
    ("cifar10-vgg-mobilenet", "smoke", None, 6, 6, {7}, {200}, {0.001}),
    ("cifar10-vgg-mobilenet", "smoke", "batch-norm", 6, 6, {7}, {200}, {0.001}),
    ("plausible-causes", "smoke", None, 18, 18, {7}, {200}, {0.01}),
]


@cache
def plan_of(name: str, scale: str, variant: str | None) -> Plan:
    """The plan without any file."""

    def examples(config: Any, root: Path) -> int:
        return int(config.data.train_examples or NUM_TRAIN[config.data.name])

    spec = load_spec(name, scale=scale, variant=variant)
    return make_plan(spec, Path("unused"), num_train=examples)


def test_the_table_has_every_variant_and_scale() -> None:
    offered = {
        (name, scale, variant)
        for name in {row[0] for row in TABLE}
        for scale in describe(name).scales
        for variant in (None, *describe(name).variants)
    }
    own = {key for key in offered if key[2] not in describe("cifar10-resnet18").variants}
    assert {(row[0], row[1], row[2]) for row in TABLE} == own


@pytest.mark.parametrize(
    ("name", "scale", "variant", "runs", "trajectories", "per_epoch", "steps", "rates"), TABLE
)
def test_a_plan_has_the_runs_and_steps_of_the_table(
    name: str,
    scale: str,
    variant: str | None,
    runs: int,
    trajectories: int,
    per_epoch: set[int],
    steps: set[int],
    rates: set[float],
) -> None:
    plan = plan_of(name, scale, variant)
    assert (len(plan.runs), len(plan.trajectories)) == (runs, trajectories)
    assert {run.steps_per_epoch for run in plan.runs} == per_epoch
    assert {run.num_steps for run in plan.runs} == steps
    configs = [run.config for run in plan.runs]
    used = {config.learning_rate.at(config.examples_per_step(0)) for config in configs}
    assert sorted(used) == pytest.approx(sorted(rates), rel=1e-4)
    for config in configs:
        decay = 1e-4 if variant in ("weight-decay-1e-4", "text-setting") else 1e-6
        assert (config.optimizer.name, config.optimizer.weight_decay) == ("momentum", decay)
        assert config.schedule.name == ("warmup_cosine" if "imagenet" in name else "constant")


@pytest.mark.parametrize(("model", "width"), WIDTHS)
def test_imagenet_networks_have_the_weights_of_the_inventory(model: str, width: float) -> None:
    rows = [(name, variant) for name, scale, variant, *_ in TABLE if scale == "full"]
    configs = [run.config for row in rows for run in plan_of(row[0], "full", row[1]).runs]
    wanted: Any = next(
        c.model
        for c in configs
        if c.data.name == "imagenet"
        and (c.model.name, getattr(c.model, "width", 1)) == (model, width)
    )
    with torch.device("meta"):
        network = wanted.build((3, 224, 224), 1000)
    assert sum(p.numel() for p in network.parameters()) == WIDTHS[model, width]


def test_smoke_scales_of_imagenet_say_what_they_stand_on() -> None:
    for name in {row[0] for row in TABLE if row[0].startswith("imagenet")}:
        spec = load_spec(name, scale="smoke")
        assert "CIFAR-10's JPEG files" in spec.title
        assert "no number is ImageNet's" in spec.description
