"""Overrides: key=value narrows, replaces or adds an axis, or changes the base; or is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from sweeps.catalogue import load_spec
from sweeps.plan import make_plan
from sweeps.spec import SweepSpec
from trainables.errors import UserError

TWO = {
    "base": {"optimizer": {"name": "momentum", "weight_decay": 0.5}},
    "ablations": {
        "batches": {"grid": {"batch_size": [8, 16]}},
        "fixed": {"set": {"batch_size": 32, "optimizer": {"name": "adam"}}},
    },
}


@pytest.fixture
def two(tmp_path: Path) -> str:
    """A sweep of two ablations, one with an axis of batch sizes, one with a fixed one."""
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(TWO, sort_keys=False))
    return str(path)


def levels(spec: SweepSpec, field: str) -> list[list[Any]]:
    """Per ablation, the distinct values of an axis among its runs."""
    plan = make_plan(spec, Path("unused"), num_train=lambda config, root: 1000)
    return [
        list(dict.fromkeys(r.axes[field] for r in plan.runs if label in r.ablations))
        for label in spec.ablations
    ]


def test_a_list_replaces_the_axis_where_it_is(two: str) -> None:
    spec = load_spec(two, ["batch_size=4,8,16"])
    assert spec.ablations["batches"].grid == {"batch_size": [4, 8, 16]}
    assert spec.ablations["fixed"].grid == {}


def test_a_list_in_brackets_means_the_same(two: str) -> None:
    assert (
        load_spec(two, ["batch_size=4,8"]).plain() == load_spec(two, ["batch_size=[4, 8]"]).plain()
    )


def test_a_list_for_a_new_key_becomes_an_axis_of_every_ablation(two: str) -> None:
    spec = load_spec(two, ["learning_rate=1e-2,1e-3"])
    assert levels(spec, "learning_rate.base") == [[0.01, 0.001], [0.01, 0.001]]


def test_a_single_value_narrows_an_axis_and_leaves_the_base(two: str) -> None:
    spec = load_spec(two, ["batch_size=16"])
    assert spec.ablations["batches"].grid == {"batch_size": [16]}
    assert spec.ablations["fixed"].set["batch_size"] == 16
    assert spec.base == load_spec(two).base


def test_a_single_value_wins_over_what_an_ablation_sets(two: str) -> None:
    spec = load_spec(two, ["optimizer.weight_decay=0"])
    plan = make_plan(spec, Path("unused"), num_train=lambda config, root: 1000)
    assert {(r.config.optimizer.name, r.config.optimizer.weight_decay) for r in plan.runs} == {
        ("momentum", 0.0),
        ("adam", 0.0),
    }


def test_an_override_narrows_an_axis_of_members_to_the_level_with_its_options() -> None:
    spec = load_spec("cifar10-optimizer", ["optimizer=adam"])
    for ablation in spec.ablations.values():
        (level,) = ablation.grid["optimizer"]
        assert level["weight_decay"] == 1e-6


def test_an_override_narrows_cases() -> None:
    spec = load_spec("cifar10-optimizer", ["optimizer=sgd"], variant="sgd-lr-1e-2")
    assert [case["learning_rate"] for case in spec.ablations["same-lr"].cases] == [1e-2]
    with pytest.raises(UserError, match=r"command line: optimizer: ablation same-lr has no case"):
        load_spec("cifar10-optimizer", ["optimizer=nesterov"], variant="sgd-lr-1e-2")


def test_a_budget_in_steps_replaces_an_axis_of_epochs() -> None:
    spec = load_spec("cifar10-budget", ["budget.steps=10,20"])
    assert spec.ablations["budgets"].grid == {"budget.steps": [10, 20]}
    assert load_spec("quickstart", ["budget.steps=10"]).base["budget"] == {"steps": 10}


def test_a_list_field_takes_a_list_and_an_axis_is_a_list_of_lists() -> None:
    spec = load_spec("quickstart", ["model.hidden=[32, 32]"])
    assert spec.base["model"]["hidden"] == [32, 32]
    axis = load_spec("quickstart", ["model.hidden=[[32], [64, 64]]"])
    assert axis.ablations["equal-steps"].grid["model.hidden"] == [[32], [64, 64]]


def test_seeds_name_and_analysis_can_be_overridden() -> None:
    spec = load_spec(
        "quickstart", ["seeds=4,5", "name=other", "analysis.exclude.last_epochs=2"], scale="smoke"
    )
    assert (spec.name, spec.seeds) == ("other", {"seed": [4, 5]})
    assert spec.analysis.exclude is not None
    assert spec.analysis.exclude.last_epochs == 2


def test_named_seeds_can_be_overridden_where_they_are() -> None:
    spec = load_spec("cifar10-seed", ["seeds.init=1,2"])
    assert spec.ablations["init"].seeds == {"init": [1, 2]}
    assert spec.ablations["all"].seeds == {"seed": [2019, 2020, 2021, 2022, 2023]}


def test_ablations_can_be_selected() -> None:
    assert list(load_spec("cifar10-optimizer", ["ablations=lr-grid"]).ablations) == ["lr-grid"]


BAD_OVERRIDES = [
    ("batch_size", r"'batch_size' is no key=value; write it like batch_size=32"),
    ("batch_size=", r"batch_size has no value"),
    ("batchsize=8", r"unknown key 'batchsize'; did you mean batch_size"),
    ("xyz=8", r"unknown key 'xyz'; known: ablations, batch_growth, batch_size, budget, chunk, "),
    ("optimizer.weigth_decay=0", r"unknown key .* did you mean optimizer.weight_decay"),
    ("learning_rate=fast", r"learning_rate.base: .*number.*got 'fast'"),
    ("batch_size=[]", r"batch_size: an empty axis"),
    ("batch_size=[8", r"batch_size:1: not valid YAML"),
    ("budget.epochs=0", r"budget.epochs: .*greater than or equal to 1, got 0"),
    ("data=cifar", r"unknown data 'cifar'; did you mean cifar10"),
    ("seeds=a", r"seeds: whole numbers from 0, not 'a'"),
    ("seeds=[]", r"seeds: an empty axis"),
    ("seeds.inti=1", r"unknown key 'seeds.inti'; did you mean seeds.init"),
    ("name=a/b", r"name: 'a/b' has other characters"),
    ("ablations=equal-step", r"unknown ablation 'equal-step'; did you mean equal-steps"),
    ("expects_divergence=maybe", r"expects_divergence: true or false, not 'maybe'"),
    ("analysis.exclude.last_epochs=-1", r"analysis.exclude.last_epochs: .*got -1"),
]


@pytest.mark.parametrize(("override", "message"), BAD_OVERRIDES)
def test_a_wrong_override_is_refused_in_one_line(override: str, message: str) -> None:
    with pytest.raises(UserError, match=f"^command line: {message}") as caught:
        load_spec("quickstart", [override])
    assert "\n" not in str(caught.value)


def test_a_key_given_twice_is_refused() -> None:
    with pytest.raises(UserError, match="command line: batch_size is given twice"):
        load_spec("quickstart", ["batch_size=8", "batch_size=16"])
