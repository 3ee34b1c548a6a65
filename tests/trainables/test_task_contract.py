"""Every registered task with every model it takes, and every optimizer, schedule and probe.

They train, repeat and replay. A new member is picked up from its registry; no test is edited for
it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from geometry.probes.registry import PROBES
from tests.trainables.samples import SAMPLES
from tests.trainables.small_probes import small_probe
from trainables.config import RunConfig
from trainables.data.registry import DATA
from trainables.errors import UserError
from trainables.job import Progress
from trainables.models.registry import MODELS
from trainables.optimizers import OPTIMIZERS
from trainables.registry import Member
from trainables.schedules.registry import SCHEDULES
from trainables.store import Store, read_table
from trainables.tasks.contract import Task
from trainables.tasks.registry import TASKS
from trainables.trajectory import Trajectory

CPU = torch.device("cpu")

SMALL: dict[str, Any] = {"width": 0.0625, "hidden": [8], "train_examples": 24}
SMALL |= {"validation_examples": 32, "channels": [4]}
SMALL |= {"embedding_size": 8, "num_heads": 2, "num_layers": 2, "hidden_size": 8}
"""Options that make a member small, by option; given to every member that has them."""

REQUIRED: dict[str, Any] = {"epochs": [1]}
"""Values for options that have no default, by option."""


def member(registry: dict[str, Any], name: str) -> dict[str, Any]:
    """A registered member, small, as it stands in a config."""
    fields = registry[name].model_fields
    given = {key: value for key, value in SMALL.items() if key in fields}
    given |= {key: REQUIRED[key] for key, field in fields.items() if field.is_required()}
    return {"name": name, **given}


def small_data(kind: str, root: Path) -> dict[str, Any]:
    """A data set of that kind: one that needs no file, or one whose sample files are written."""
    if kind in SAMPLES:
        SAMPLES[kind](root)
    for name, data in DATA.items():
        if data.kind == kind:
            try:
                data().sizes(root)
            except UserError:
                continue
            return member(DATA, name)
    pytest.skip(f"no data set of kind {kind} comes without files, and no sample is written")


def first_model(kind: str) -> str:
    """The first registered model that takes that kind of data."""
    return next(name for name, model in MODELS.items() if model.data_kind == kind)


def config_of(root: Path, **members: Any) -> RunConfig:
    """Five steps of eight examples, in two epochs."""
    task = members.pop("task", "classification")
    kind = TASKS[task].data_kind
    options: dict[str, Any] = {
        "task": task,
        "data": small_data(kind, root),
        "model": member(MODELS, members.pop("model", first_model(kind))),
        "batch_size": 8,
        "budget": {"steps": 5},
        "learning_rate": 0.01,
    }
    return fitting(RunConfig.parse({**options, **members}), root)


def fitting(config: RunConfig, root: Path) -> RunConfig:
    """The run with its images padded if its network cannot take images as small as they are."""
    if "padded_size" not in type(config.data).model_fields:
        return config
    try:
        with torch.device("meta"):
            config.model.build(*config.data.signature(root))
    except UserError:
        data = config.data.model_copy(update={"padded_size": 32})
        return config.model_copy(update={"data": data})
    return config


CASES: list[dict[str, Any]] = [
    {"task": task, "model": model}
    for task in TASKS
    for model in MODELS
    if TASKS[task].data_kind == MODELS[model].data_kind
]
CASES += [{"task": task, "batch_growth": {"epochs": [1], "factor": 2}} for task in TASKS]
CASES += [{"optimizer": member(OPTIMIZERS, name)} for name in OPTIMIZERS]
CASES += [{"schedule": member(SCHEDULES, name)} for name in SCHEDULES]


def case_id(case: dict[str, Any]) -> str:
    """For example task-classification-model-mlp."""
    names = {k: v if isinstance(v, str) else v.get("name", "on") for k, v in case.items()}
    return "-".join(f"{kind}-{name}" for kind, name in names.items())


@pytest.fixture(params=CASES, ids=case_id)
def config(request: pytest.FixtureRequest, tmp_path: Path) -> RunConfig:
    """A small run of that task and model, or with that optimizer or schedule."""
    return config_of(tmp_path, **request.param)


def test_the_same_seed_is_the_same_training_and_another_is_not(
    config: RunConfig, trajectory: Callable[[RunConfig], Trajectory]
) -> None:
    first, again = trajectory(config), trajectory(config)
    other = trajectory(config.model_copy(update={"seed": 1}))
    for built in (first, again, other):
        built.advance(4)
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()
    assert first.flat.layout == again.flat.layout
    assert first.is_finite()


def test_the_replay_equals_the_reference_pass(
    config: RunConfig, store: Store, finish: Callable[..., list[Progress]]
) -> None:
    finish(store, a=config)
    sealed = store.run("a").manifest()
    assert sealed is not None
    assert (sealed["status"], sealed["replay_exact"]) == ("done", True)
    assert sealed["metrics"][f"last_{sealed['judged_by']['metric']}"] is not None
    table = read_table(store.run("a").path / "steps.parquet")
    assert table["step"].tolist() == list(range(5))
    assert table["distance"].iloc[:-1].gt(0).all()
    assert table["null_gamma"].notna().all()


@pytest.mark.parametrize("name", PROBES)
def test_a_probe_writes_the_columns_that_it_documents(
    name: str, tmp_path: Path, store: Store, finish: Callable[..., list[Progress]]
) -> None:
    config = config_of(tmp_path, probes=[small_probe(name)])
    finish(store, a=config)
    probe = PROBES[name]
    table = read_table(store.run("a").path / f"{probe.table}.parquet")
    for column in probe.columns:
        assert str(table[column.name].dtype) == "float64"
        assert table[column.name].notna().any()
    every = config.probes[0].cadence(steps_per_epoch=3)
    assert set(table["step"]) == set(range(0, 5, every)) or probe.remembers


def bound(config: RunConfig, root: Path) -> Task:
    return config.task.bind(config, root, CPU)


@pytest.fixture(params=TASKS)
def task_config(request: pytest.FixtureRequest, tmp_path: Path) -> RunConfig:
    """A small run of that task."""
    return config_of(tmp_path, task=request.param)


def test_a_tasks_loss_is_a_pure_function_of_the_step(
    task_config: RunConfig, tmp_path: Path
) -> None:
    task, other = bound(task_config, tmp_path), bound(task_config, tmp_path)
    model = task.build_model()
    forwards = [task.loss(model, step).item() for step in range(6)]
    backwards = [other.loss(model, step).item() for step in reversed(range(6))]
    assert forwards == backwards[::-1]
    assert len(set(forwards)) == 6
    assert all(math.isfinite(loss) for loss in forwards)


def test_held_out_minibatches_are_a_pure_function_of_their_number(
    task_config: RunConfig, tmp_path: Path
) -> None:
    task, other = bound(task_config, tmp_path), bound(task_config, tmp_path)
    model = task.build_model()
    there = task.num_held_out(4)
    assert there >= 2
    forwards = [task.held_out_loss(model, number, 4).item() for number in range(there)]
    backwards = [other.held_out_loss(model, number, 4).item() for number in reversed(range(there))]
    assert forwards == backwards[::-1]
    assert all(math.isfinite(loss) for loss in forwards)
    own = [task.loss(model, step).item() for step in range(5)]
    assert not set(own) & set(forwards)


def test_every_task_measures_held_out_gradients(
    task_config: RunConfig, tmp_path: Path, store: Store, finish: Callable[..., list[Progress]]
) -> None:
    config = config_of(tmp_path, task=task_config.task.name, probes=[small_probe("held_out")])
    finish(store, a=config)
    table = read_table(store.run("a").path / "held_out.parquet")
    assert table[table["label"] == "batch 1"]["gamma"].notna().all()


def test_a_tasks_evaluation_disturbs_nothing_and_knows_its_splits(
    task_config: RunConfig, tmp_path: Path
) -> None:
    task = bound(task_config, tmp_path)
    model = task.build_model()
    task.loss(model, 0).backward()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    generator = torch.get_rng_state()
    assert {"train", "validation"} <= set(task.splits)
    for split in task.splits:
        values = task.evaluate(model, split)
        assert values.keys() == {"loss", *task.metrics}
        assert task_config.task.judged_by in values
        assert task.evaluate(model, split) == values
    assert torch.equal(torch.get_rng_state(), generator)
    assert model.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, gradient)


def test_a_task_counts_its_examples_without_loading_them(
    task_config: RunConfig, tmp_path: Path
) -> None:
    counted = task_config.task.num_train(task_config, tmp_path)
    task = bound(task_config, tmp_path)
    assert counted // task_config.batch_size == task.steps_per_epoch >= 1
    assert task.data_digest


def test_registries_are_keyed_by_their_members_names() -> None:
    registries: list[dict[str, type[Member]]] = [TASKS, DATA, MODELS, OPTIMIZERS, SCHEDULES]  # type: ignore[list-item]
    for registry in registries:
        assert [cls.name for cls in registry.values()] == list(registry)
