"""RunConfig: defaults, canonical form, and one line for every mistake."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from trainables.config import SEED_NAMES, Budget, LearningRate, RunConfig
from trainables.data.registry import DATA
from trainables.errors import UserError
from trainables.length import Calendar
from trainables.models.registry import MODELS
from trainables.optimizers import OPTIMIZERS
from trainables.registry import Member
from trainables.schedules.registry import SCHEDULES
from trainables.tasks.registry import TASKS


def test_the_defaults_are_the_empty_config() -> None:
    assert RunConfig.parse({}).plain() == {}


def test_the_canonical_form_gives_the_config_back() -> None:
    config = RunConfig.parse(
        {
            "model": {"name": "cnn", "channels": [4, 8]},
            "optimizer": "adamw",
            "schedule": {"name": "milestones", "epochs": [3, 5]},
            "learning_rate": {"base": 0.1, "rule": "linear", "reference_batch_size": 64},
            "budget": {"steps": 10},
            "seeds": {"init": 4},
            "probes": ["path", {"name": "layers", "every": 5}],
        }
    )
    plain = json.loads(json.dumps(config.plain()))
    assert RunConfig.parse(plain) == config
    assert plain["optimizer"] == {"name": "adamw"}


def test_writing_a_default_out_changes_nothing() -> None:
    written = RunConfig.parse(
        {"batch_size": 64, "optimizer": {"name": "momentum", "momentum": 0.9}}
    )
    assert written == RunConfig()
    assert written.plain() == {}


def test_a_config_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        RunConfig().batch_size = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"batchsize": 3}, "batchsize: unknown key 'batchsize'; did you mean batch_size"),
        ({"batch_size": 0}, "batch_size: .*greater than or equal to 1, got 0"),
        ({"batch_size": "many"}, "batch_size: .*got 'many'"),
        ({"budget": {"epochs": 0}}, "budget.epochs: .*greater than or equal to 1, got 0"),
        ({"budget": {}}, "budget: give exactly one of epochs and steps"),
        ({"budget": {"epochs": 2, "steps": 2}}, "budget: give exactly one of epochs and steps"),
        ({"learning_rate": 0}, "learning_rate.base: .*greater than 0"),
        ({"learning_rate": float("inf")}, "learning_rate.base: .*finite number"),
        ({"learning_rate": {"base": 1, "rule": "sqrt"}}, "rule sqrt needs reference_batch_size"),
        ({"model": "resnet81"}, "unknown model 'resnet81'; did you mean resnet"),
        ({"model": {"hidden": [3]}}, "model: write a name or a mapping with the key 'name'"),
        ({"model": {"name": "mlp", "hiden": [3]}}, "model.hiden: .*did you mean hidden"),
        ({"data": "imagnet"}, "unknown data 'imagnet'"),
        ({"optimizer": {"name": "adam", "beta1": 1}}, "optimizer.beta1: .*less than 1"),
        ({"seeds": {"shuffle": 1}}, "seeds.shuffle: unknown key 'shuffle'; known: augmentation"),
        ({"seeds": {"init": -1}}, "seeds.init: .*greater than or equal to 0"),
        ({"probes": ["paths"]}, "unknown probe 'paths'; did you mean path"),
        ({"probes": ["path", "path"]}, "probes: each at most once"),
        ({"precision": "fp16"}, "precision: .*'fp32', 'tf32' or 'bf16'"),
    ],
)
def test_a_mistake_is_one_line_that_names_its_place(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        RunConfig.parse(values)
    assert "\n" not in str(caught.value)


def test_named_seeds_derive_from_the_seed_unless_given() -> None:
    base, other = RunConfig(), RunConfig(seed=1)
    given = RunConfig.parse({"seeds": {"dropout": 7}})
    assert given.seed_for("dropout") == 7
    assert given.seed_for("init") == base.seed_for("init")
    seeds = [config.seed_for(name) for config in (base, other) for name in SEED_NAMES]
    assert len(set(seeds)) == 2 * len(SEED_NAMES)


def test_a_seed_of_zero_counts_as_given() -> None:
    assert RunConfig.parse({"seeds": {"init": 0}}).seed_for("init") == 0


def test_learning_rate_rules() -> None:
    def at(rule: str) -> float:
        rate = LearningRate.model_validate({"base": 0.1, "rule": rule, "reference_batch_size": 16})
        return rate.at(64)

    assert at("fixed") == 0.1
    assert at("sqrt") == pytest.approx(0.2)
    assert at("linear") == pytest.approx(0.4)
    assert LearningRate(base=0.1).at(12345) == 0.1


def test_budgets_count_steps() -> None:
    assert Budget(epochs=3).num_steps(Calendar.constant(23)) == 69
    assert Budget(steps=50).num_steps(Calendar.constant(23)) == 50


def test_a_replay_brings_the_probes_that_the_null_model_needs() -> None:
    def names(**options: Any) -> list[str]:
        return [probe.name for probe in RunConfig.parse(options).all_probes()]

    assert names() == ["path", "update"]
    assert names(optimizer="adam") == ["path", "update", "preconditioner"]
    assert names(probes=["update"]) == ["update", "path"]
    assert names(probes=["preconditioner"], optimizer="adam") == ["preconditioner"]
    assert names(probes=[]) == []
    assert not RunConfig.parse({"probes": []}).needs_replay()
    assert RunConfig.parse({"probes": ["weight_decay"]}).needs_replay()


def test_memory_format_auto_is_what_the_model_prefers() -> None:
    for name, model in MODELS.items():
        if model.data_kind == RunConfig().data.kind:
            assert RunConfig.parse({"model": name}).channels_last() == model.channels_last
    assert RunConfig.parse({"memory_format": "channels_last"}).channels_last()
    assert not RunConfig.parse({"model": "resnet18", "memory_format": "contiguous"}).channels_last()


@pytest.mark.parametrize("registry", [TASKS, DATA, MODELS, OPTIMIZERS, SCHEDULES])
def test_every_option_of_every_member_is_documented(registry: dict[str, type[Member]]) -> None:
    for name, member in registry.items():
        assert member.name == name
        assert member.__doc__
        for option, field in member.model_fields.items():
            assert field.description, f"{name}.{option}"


def test_every_field_of_the_config_is_documented() -> None:
    for name, field in RunConfig.model_fields.items():
        assert field.description, name
