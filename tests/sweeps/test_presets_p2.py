"""P2's presets against a table typed by hand (INVENTORY B2 and C; P2 sections 3 to 5)."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from geometry.probes.correlation import CorrelationOptions
from sweeps.catalogue import describe, load_spec, preset_names
from sweeps.plan import Plan, PlannedRun, make_plan
from trainables.config import RunConfig
from trainables.errors import UserError

CNN, CNN_MNIST, VGG, VGG_BN, VGG_MNIST = 356_810, 241_546, 14_719_818, 14_728_266, 14_718_666
RES18, RES18_STEM, RES18_MNIST = 11_173_962, 11_181_642, 11_172_810
RES34, RES34_MNIST = 21_282_122, 21_280_970
# one channel instead of three: 2 x 64 x 9 = 1152 weights fewer in VGG's and ResNet's first layer

CIFAR, MNIST, SVHN = 50_000, 60_000, 73_257


class Row(NamedTuple):
    """What one kind of run of a preset must come to; runs counts its seeds."""

    preset: str
    variant: str | None
    ablation: str
    model: str
    data: str
    batch_size: int
    runs: int
    num_steps: int
    learning_rate: float
    schedule: str
    num_weights: int


GD = [
    Row("gd-cnn", None, "seeds", "cnn", "cifar10", CIFAR, 3, 1500, 0.1, "constant", CNN),
    Row("gd-vgg16", None, "seeds", "vgg16", "cifar10", CIFAR, 3, 1500, 0.1, "constant", VGG),
    Row(
        *("gd-vgg16", "batch-norm", "seeds", "vgg16", "cifar10"),
        *(CIFAR, 3, 1500, 0.1, "constant", VGG_BN),
    ),
    Row("gd-resnet18", None, "seeds", "resnet18", "cifar10", CIFAR, 3, 500, 0.1, "constant", RES18),
    Row(
        *("gd-resnet18", "imagenet-stem", "seeds", "resnet18", "cifar10"),
        *(CIFAR, 3, 500, 0.1, "constant", RES18_STEM),
    ),
    Row("gd-resnet34", None, "seeds", "resnet34", "cifar10", CIFAR, 3, 500, 0.1, "constant", RES34),
    Row("gd-vgg16-small-lr", None, "seeds", "vgg16", "cifar10", CIFAR, 3, 1500, 0.01,
        "constant", VGG),
    Row("gd-resnet18-small-lr", None, "seeds", "resnet18", "cifar10", CIFAR, 3, 1000, 0.001,
        "constant", RES18),
    Row("gd-warm-up", None, "schedules", "resnet18", "cifar10", CIFAR, 3, 500, 0.1,
        "constant", RES18),
    Row("gd-warm-up", None, "schedules", "resnet18", "cifar10", CIFAR, 3, 500, 0.1,
        "warmup_cosine", RES18),
    Row("gd-sign-shift", None, "models", "cnn", "cifar10", CIFAR, 3, 1500, 0.1, "constant", CNN),
    Row("gd-sign-shift", None, "models", "vgg16", "svhn", SVHN, 3, 1500, 0.1, "constant", VGG),
    Row("gd-sign-shift-resnet", None, "models", "resnet18", "cifar10", CIFAR, 3, 500, 0.1,
        "constant", RES18),
    Row("gd-sign-shift-resnet", None, "models", "resnet34", "cifar10", CIFAR, 3, 500, 0.1,
        "constant", RES34),
    Row("gd-conv-mnist-svhn", None, "models-data", "cnn", "mnist", MNIST, 3, 1500, 0.1,
        "constant", CNN_MNIST),
    Row("gd-conv-mnist-svhn", None, "models-data", "cnn", "svhn", SVHN, 3, 1500, 0.1,
        "constant", CNN),
    Row("gd-conv-mnist-svhn", None, "models-data", "vgg16", "mnist", MNIST, 3, 1500, 0.1,
        "constant", VGG_MNIST),
    Row("gd-conv-mnist-svhn", None, "models-data", "vgg16", "svhn", SVHN, 3, 1500, 0.1,
        "constant", VGG),
    Row("gd-resnet-mnist-svhn", None, "models-data", "resnet18", "mnist", MNIST, 3, 500, 0.1,
        "constant", RES18_MNIST),
    Row("gd-resnet-mnist-svhn", None, "models-data", "resnet18", "svhn", SVHN, 3, 500, 0.1,
        "constant", RES18),
    Row("gd-resnet-mnist-svhn", None, "models-data", "resnet34", "mnist", MNIST, 3, 500, 0.1,
        "constant", RES34_MNIST),
    Row("gd-resnet-mnist-svhn", None, "models-data", "resnet34", "svhn", SVHN, 3, 500, 0.1,
        "constant", RES34),
    Row("gd-small-lr", None, "models", "cnn", "cifar10", CIFAR, 3, 1500, 0.01, "constant", CNN),
    Row("gd-small-lr", None, "models", "resnet34", "cifar10", CIFAR, 3, 1000, 0.001,
        "constant", RES34),
    Row("gd-both-views", None, "batch-sizes", "cnn", "cifar10", CIFAR, 3, 1500, 0.1,
        "constant", CNN),
    *(
        Row("gd-lr-ladder", None, model, model, "cifar10", CIFAR, 3, 1500, rate, "constant", count)
        for model, count in (("cnn", CNN), ("resnet18", RES18))
        for rate in (0.1, 0.03, 0.01, 0.003, 0.001)
    ),
]  # fmt: skip
"""Full-batch gradient descent: an epoch is one step over all training images."""

MINIBATCHES = [
    Row("gd-both-views", None, "batch-sizes", "cnn", "cifar10", 5000, 3, 1500, 0.1,
        "constant", CNN),
    # T = 500 * 50,000 / b, learning rate 0.1 * b / 50,000
    *(
        Row(preset, None, "batch-sizes", model, "cifar10", b, 3, 25_000_000 // b, 2e-6 * b,
            "constant", count)
        for preset, model, count in (
            ("large-batch-resnet18", "resnet18", RES18),
            ("large-batch-models", "cnn", CNN),
            ("large-batch-models", "vgg16", VGG),
            ("large-batch-models", "resnet34", RES34),
        )
        for b in (1000, 2500, 5000, 10_000)
    ),
    # P2 5.2: batch 5000, eta_0 = 0.001; 100 epochs of 10 steps
    *(
        Row("gawu-vs-wu", variant, label, "resnet18", "cifar10", 5000, runs, 1000, 0.001,
            schedule, RES18)
        for variant in (None, "augmented")
        for label, schedule, runs in (
            ("paper", "gawu", 3),
            ("paper", "wu", 9),
            ("change-points", "gawu", 3),
            ("change-points", "wu", 39),
        )
    ),
    *(
        Row("gawu-vs-wu", variant, "paper", "resnet18", "cifar10", 5000, runs, 1000, 0.001,
            schedule, RES18)
        for variant in ("plain-exponential", "warm-up-in-epochs")
        for schedule, runs in (("gawu", 3), ("wu", 9))
    ),
    *(
        Row("gawu-vs-wu", None, "without-warm-up", "resnet18", "cifar10", 5000, 3, 1000, rate,
            schedule, RES18)
        for schedule in ("constant", "warmup_cosine")
        for rate in (0.01, 0.03, 0.1, 0.3, 1.0, 2.44)
    ),
]  # fmt: skip

FIGURES = {
    "gd-cnn": "P2 figure 1",
    "gd-vgg16": "P2 figure 2",
    "gd-resnet18": "P2 figure 3",
    "gd-resnet34": "P2 figure 4",
    "gd-vgg16-small-lr": "P2 figure 5",
    "gd-resnet18-small-lr": "P2 figure 6",
    "gd-warm-up": "P2 figure 7",
    "gd-sign-shift": "P2 figure 8",
    "large-batch-resnet18": "P2 figure 9",
    "gawu-vs-wu": "P2 figure 10, Table 1",
    "gd-conv-mnist-svhn": "P2 appendix A",
    "gd-resnet-mnist-svhn": "P2 appendix B",
    "gd-small-lr": "P2 appendix C",
    "gd-sign-shift-resnet": "P2 appendix D",
    "large-batch-models": "P2 appendix E",
    "gd-lr-ladder": "P2 section 3.3",
    "gd-both-views": "P1 and P2 side by side",
}

MATRIX_EPOCHS = {
    "gd-cnn": {4, 674, 1489},
    "gd-vgg16": {4, 914},
    "gd-resnet18": {4, 59, 489},
    "gd-vgg16-small-lr": {924, 1489},
    "gd-resnet18-small-lr": {489, 989},
    "gd-sign-shift": {674, 704},
}
"""What P2's captions and text name, less one: epochs here count from 0."""


def published_size(config: RunConfig, root: Path) -> int:
    data: Any = config.data
    return int(data.train_examples or data.official_counts["train"])


@cache
def plan_of(name: str, scale: str = "full", variant: str | None = None) -> Plan:
    spec = load_spec(name, scale=scale, variant=variant)
    return make_plan(spec, Path("unused"), num_train=published_size)


def size_of(run: PlannedRun) -> int:
    return run.config.examples_per_step(published_size(run.config, Path("unused")))


def matches(run: PlannedRun, row: Row) -> bool:
    config = run.config
    return (
        row.ablation in run.ablations
        and (config.model.name, config.data.name) == (row.model, row.data)
        and (config.schedule.name, size_of(run)) == (row.schedule, row.batch_size)
        and config.learning_rate.at(row.batch_size) == pytest.approx(row.learning_rate)
    )


def num_weights(config: RunConfig) -> int:
    shape, num_classes = config.data.signature(Path("unused"))
    with torch.device("meta"):
        network = config.model.build(shape, num_classes)
    return sum(parameter.numel() for parameter in network.parameters())


def label(row: Row) -> str:
    names = (row.preset, row.variant, row.ablation, row.model, row.data, row.schedule)
    return "-".join(map(str, (*names, row.batch_size, f"{row.learning_rate:g}")))


@pytest.mark.parametrize("row", GD + MINIBATCHES, ids=label)
def test_the_plan_is_the_papers(row: Row) -> None:
    runs = [r for r in plan_of(row.preset, "full", row.variant).runs if matches(r, row)]
    assert len(runs) == row.runs
    assert {run.num_steps for run in runs} == {row.num_steps}
    assert num_weights(runs[0].config) == row.num_weights
    for run in runs:
        assert (run.config.batch_size == "full") is (row in GD)
        assert run.config.chunk == (1000 if row in GD else "auto")


@pytest.mark.parametrize("preset", FIGURES)
def test_the_table_has_every_run_of_a_preset(preset: str) -> None:
    rows = [row for row in GD + MINIBATCHES if (row.preset, row.variant) == (preset, None)]
    plan = plan_of(preset)
    assert describe(preset).figure == FIGURES[preset]
    assert all(any(matches(run, row) for row in rows) for run in plan.runs)
    assert sum(row.runs for row in rows) == sum(len(run.ablations) for run in plan.runs)


def test_every_preset_of_p2_is_in_the_table() -> None:
    assert {n for n in preset_names() if "P2" in describe(n).figure} == set(FIGURES)


@pytest.mark.parametrize("preset", FIGURES)
def test_everything_trains_plainly_on_all_images_and_is_tested_on_the_test_images(
    preset: str,
) -> None:
    for run in plan_of(preset).runs:
        config, data = run.config, run.config.data
        assert (config.optimizer.name, config.optimizer.weight_decay) == ("sgd", 0)
        given: Any = data
        assert (given.validation_fraction, given.crop_padding, given.flip) == (0, 0, False)
        assert given.train_examples is None
        correlation = next(p for p in config.probes if p.name == "correlation")
        assert correlation.cadence(1) == 1
        assert correlation.typed_options() == CorrelationOptions(window=5)


@pytest.mark.parametrize("preset", MATRIX_EPOCHS)
def test_the_matrices_are_those_of_the_papers_epochs(preset: str) -> None:
    assert MATRIX_EPOCHS[preset] <= set(plan_of(preset).spec.analysis.matrix_epochs)


def test_mnist_is_padded_where_a_network_needs_32_pixels() -> None:
    padded = set()
    for name in ("gd-conv-mnist-svhn", "gd-resnet-mnist-svhn"):
        for run in plan_of(name).runs:
            data: Any = run.config.data
            padded |= {(run.config.model.name, data.padded_size)} if data.name == "mnist" else set()
    assert padded == {("cnn", None), ("vgg16", 32), ("resnet18", 32), ("resnet34", 32)}


def test_the_grid_of_change_points_runs_from_3_to_15_and_late_ones_may_diverge() -> None:
    plan = plan_of("gawu-vs-wu")
    assert plan.spec.expects_divergence
    points: dict[str, list[int]] = {"paper": [], "change-points": []}
    for run in plan.runs:
        schedule: Any = run.config.schedule
        if schedule.name == "wu":
            for name in run.ablations:
                points[name].append(schedule.change_point)
    assert sorted(set(points["paper"])) == [5, 10, 12]
    assert sorted(set(points["change-points"])) == list(range(3, 16))


def test_the_large_learning_rate_is_where_the_best_warm_up_ends() -> None:
    # 0.001 exp(0.1 (1 + 2 + ... + 12)) = 0.001 exp(7.8)
    rates = {run.config.learning_rate.base for run in plan_of("gawu-vs-wu").runs}
    assert max(rates) == pytest.approx(2.4406, rel=1e-3)


@pytest.mark.parametrize("preset", FIGURES)
def test_a_smoke_scale_trains_on_a_few_images_and_names_its_stand_ins(preset: str) -> None:
    plan = plan_of(preset, "smoke")
    for run in plan.runs:
        data: Any = run.config.data
        assert data.train_examples in (512, 2048)
        stand_in = data.name == "mnist_as_svhn"
        assert not stand_in or "MNIST in SVHN's format instead of SVHN" in plan.spec.title
        assert data.name in ("cifar10", "mnist") or stand_in


def test_a_matrix_of_an_epoch_that_does_not_exist_is_refused() -> None:
    make_plan(load_spec("gd-cnn", ["analysis.matrix_epochs=0,1495"]), Path("unused"),
              num_train=published_size)  # fmt: skip
    spec = load_spec("gd-cnn", ["analysis.matrix_epochs=0,1496"])
    match = (
        r"command line: analysis\.matrix_epochs: no window of 5 steps begins in epoch 1496 of a "
    )
    with pytest.raises(UserError, match=match + "run of 1500 steps; give epochs from 0 to 1495"):
        make_plan(spec, Path("unused"), num_train=published_size)
    shorter = load_spec("gd-cnn", ["budget.epochs=10"])
    match = (
        r"gd-cnn\.yaml: ablations\.seeds: analysis\.matrix_epochs: no window of 5 steps begins in"
    )
    with pytest.raises(UserError, match=match + " epoch 674 of a run of 10 steps"):
        make_plan(shorter, Path("unused"), num_train=published_size)
    one = load_spec("gd-cnn", ["analysis.matrix_epochs=7"])
    assert one.analysis.matrix_epochs == (7,)
    with pytest.raises(UserError, match="matrix_epochs"):
        load_spec("gd-cnn", ["analysis.matrix_epochs=-1"])
