"""Specs: what a file means, and one line for every way of writing it wrongly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from sweeps.catalogue import describe, load_spec
from sweeps.plan import make_plan
from sweeps.spec import SweepSpec
from sweeps.tree import flatten, merge, nest
from sweeps.yamlfile import parse_yaml
from trainables.errors import UserError

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a sweep file from text or plain values; returns its path."""

    def write(content: str | dict[str, Any], name: str = "mine.yaml") -> str:
        path = tmp_path / name
        text = content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False)
        path.write_text(text)
        return str(path)

    return write


def levels(spec: SweepSpec, field: str) -> list[list[Any]]:
    """Per ablation, the distinct values of an axis among its runs."""
    plan = make_plan(spec, Path("unused"), num_train=lambda config, root: 1000)
    return [
        list(dict.fromkeys(r.axes[field] for r in plan.runs if label in r.ablations))
        for label in spec.ablations
    ]


# Merging


@pytest.mark.parametrize(
    ("parent", "child", "merged"),
    [
        ({"a": {"b": 1, "c": 2}}, {"a": {"c": 3}}, {"a": {"b": 1, "c": 3}}),
        ({"a": 1, "b": 2}, {"a": None}, {"b": 2}),
        ({"m": {"name": "resnet18", "width": 2}}, {"m": {"name": "cnn"}}, {"m": {"name": "cnn"}}),
        (
            {"m": {"name": "resnet18", "width": 2}},
            {"m": {"name": "resnet18", "stem": "cifar"}},
            {"m": {"name": "resnet18", "width": 2, "stem": "cifar"}},
        ),
        ({"m": {"name": "mlp", "dropout": 0.5}}, {"m": "cnn"}, {"m": "cnn"}),
        ({"m": "mlp"}, {"m": {"dropout": 0.5}}, {"m": {"name": "mlp", "dropout": 0.5}}),
        ({"lr": 0.1}, {"lr": {"rule": "fixed"}}, {"lr": {"base": 0.1, "rule": "fixed"}}),
        ({"lr": {"base": 0.1, "rule": "sqrt"}}, {"lr": 0.2}, {"lr": 0.2}),
        ({"budget": {"epochs": 3}}, {"budget": {"steps": 5}}, {"budget": {"steps": 5}}),
        ({"budget.epochs": [1, 2]}, {"budget.steps": [5]}, {"budget.steps": [5]}),
    ],
)
def test_merge(parent: dict[str, Any], child: dict[str, Any], merged: dict[str, Any]) -> None:
    assert merge(parent, child) == merged


def test_a_null_stays_in_a_tree_that_is_still_to_be_laid_over_another() -> None:
    assert merge({"a": 1}, {"a": None}, keep_nulls=True) == {"a": None}


def test_nesting_and_flattening_are_inverse() -> None:
    flat = {"optimizer.name": "sgd", "optimizer.weight_decay": 0.1, "batch_size": 4}
    assert flatten(nest(flat)) == flat


@pytest.mark.parametrize(("text", "value"), [("1e-3", 1e-3), ("-2E4", -2e4), ("1.5e-3", 1.5e-3)])
def test_numbers_with_an_exponent_are_numbers(text: str, value: float) -> None:
    assert parse_yaml(text, "here") == value


def test_a_word_that_begins_like_a_number_stays_a_word() -> None:
    assert parse_yaml("1e-3x", "here") == "1e-3x"


# What a file means


def test_a_sweep_without_ablations_has_one(write: Write) -> None:
    spec = load_spec(write({"grid": {"batch_size": [8, 16]}, "seeds": [0, 1]}))
    assert spec.name == "mine"
    assert list(spec.ablations) == ["main"]
    assert levels(spec, "batch_size") == [[8, 16]]
    assert levels(spec, "seed") == [[0, 1]]


def test_the_base_s_seed_is_the_seed_where_no_others_are_named(write: Write) -> None:
    assert load_spec(write({"base": {"seed": 7}})).seeds == {"seed": [7]}
    assert load_spec(write({"base": {"seed": 7}, "seeds": [1]})).seeds == {"seed": [1]}


def test_dotted_and_nested_options_mean_the_same(write: Write) -> None:
    dotted = load_spec(write({"base": {"optimizer.name": "sgd", "budget.steps": 7}}))
    nested = load_spec(write({"base": {"optimizer": {"name": "sgd"}, "budget": {"steps": 7}}}))
    assert dotted.base == nested.base


def test_extends_inherits_everything_but_the_name(write: Write) -> None:
    write({"base": {"batch_size": 8, "model": {"name": "cnn"}}, "seeds": [5, 6]}, "parent.yaml")
    spec = load_spec(write({"extends": "parent.yaml", "base": {"model": "mlp"}}, "child.yaml"))
    assert spec.name == "child"
    assert (spec.base["batch_size"], spec.base["model"]) == (8, {"name": "mlp"})
    assert spec.seeds == {"seed": [5, 6]}


def test_options_of_a_parents_default_member_do_not_reach_another_member(write: Write) -> None:
    write({"base": {"optimizer": {"weight_decay": 0.5}}}, "parent.yaml")
    child = {"extends": "parent.yaml", "base": {"optimizer": {"name": "adam"}}}
    assert load_spec(write(child)).base["optimizer"] == {"name": "adam"}


def test_a_file_can_extend_a_preset(write: Write) -> None:
    spec = load_spec(write({"extends": "quickstart", "ablations": {"equal-steps": None}}))
    assert list(spec.ablations) == ["equal-epochs"]
    assert spec.question == load_spec("quickstart").question


def test_named_seeds_replace_inherited_seeds_and_are_not_crossed_with_them(write: Write) -> None:
    write({"seeds": [0, 1, 2]}, "parent.yaml")
    spec = load_spec(write({"extends": "parent.yaml", "seeds": {"init": [7, 8]}}))
    plan = make_plan(spec, Path("unused"), num_train=lambda config, root: 1000)
    assert [run.axes for run in plan.runs] == [{"seeds.init": 7}, {"seeds.init": 8}]
    assert [run.config.seed for run in plan.runs] == [0, 0]


def test_cases_are_paired_and_crossed_with_the_grid(write: Write) -> None:
    cases = [{"batch_size": 8, "learning_rate": 0.1}, {"batch_size": 16, "learning_rate": 0.2}]
    spec = load_spec(write({"cases": cases, "grid": {"budget.epochs": [1, 2]}}))
    plan = make_plan(spec, Path("unused"), num_train=lambda config, root: 1000)
    assert [
        (r.axes["batch_size"], r.axes["learning_rate.base"], r.axes["budget.epochs"])
        for r in plan.runs
    ] == [(8, 0.1, 1), (8, 0.1, 2), (16, 0.2, 1), (16, 0.2, 2)]


SCALED = {
    "title": "Sweep",
    "base": {"batch_size": 8, "budget": {"epochs": 10}},
    "grid": {"learning_rate": [0.1, 0.2]},
    "scales": {"smoke": {"base": {"budget": {"steps": 3}}, "seeds": [0, 1]}},
    "variants": {
        "big": {
            "title": "batch 16",
            "source": "ours",
            "base": {"batch_size": 16},
            "scales": {"smoke": {"base": {"budget": {"steps": 4}}}},
        }
    },
}


def test_scale_and_variant_are_laid_over_the_sweep_and_named(write: Write) -> None:
    path = write(SCALED)
    assert load_spec(path).base["budget"] == {"epochs": 10}
    smoke = load_spec(path, scale="smoke")
    assert (smoke.name, smoke.base["budget"]) == ("mine-smoke", {"steps": 3})
    assert smoke.title == "Sweep (smoke scale)"
    big = load_spec(path, variant="big")
    assert (big.name, big.base["batch_size"]) == ("mine+big", 16)
    assert big.title == "Sweep (variant big: batch 16)"
    both = load_spec(path, scale="smoke", variant="big")
    assert (both.name, both.base["budget"]) == ("mine-smoke+big", {"steps": 4})
    assert both.base["batch_size"] == 16


def test_describe_lists_scales_and_variants(write: Write) -> None:
    offered = describe(write(SCALED))
    assert offered.scales == ("full", "smoke")
    assert offered.variants == {"big": "batch 16 (ours)"}


def test_the_resolved_spec_is_a_file_that_resolves_to_itself(write: Write) -> None:
    spec = load_spec("cifar10-seed", scale="smoke")
    again = load_spec(write(spec.plain()))
    assert again.plain() == spec.plain()


# Bad input: one line that says what, where, and what instead

BAD_FILES = [
    ("base: [", r"mine.yaml:1: not valid YAML"),
    ("name: a\nbase: {\n  batch_size: 8\nseeds: [0]\n", r"mine.yaml:4: not valid YAML"),
    ("name: a\nname: b\n", r"mine.yaml:2: not valid YAML: key 'name' is written twice"),
    ("- 1\n", r"mine.yaml: holds no mapping"),
    ("", r"mine.yaml: holds no mapping"),
    ("sedes: [0]\n", r"mine.yaml: sedes: unknown key 'sedes'; did you mean seeds"),
    (
        "base: {batchsize: 8}\n",
        r"mine.yaml: base: unknown key 'batchsize'; did you mean batch_size",
    ),
    (
        "base: {optimizer: {name: sgd, weight_deca: 1}}\n",
        r"mine.yaml: base: optimizer.weight_deca: unknown key .* did you mean weight_decay\?",
    ),
    ("base: {optimizer: sdg}\n", r"mine.yaml: base: unknown optimizer 'sdg'; did you mean sgd"),
    ("base: {data: cifar}\n", r"unknown data 'cifar'; did you mean cifar10\?"),
    ("base: {batch_size: eight}\n", r"mine.yaml: base: batch_size: .*integer.*got 'eight'"),
    ("base: {budget: {epochs: 0}}\n", r"mine.yaml: base: budget.epochs: .*greater.*got 0"),
    ("base: {budget: {}}\n", r"mine.yaml: base: budget: give exactly one of epochs and steps"),
    ("grid: {batch_size: []}\n", r"mine.yaml: ablations.main.grid.batch_size: an empty axis"),
    ("grid: {seed: [0, 1]}\n", r"main.grid.seed: seeds are an axis .*write  seeds: \[0, 1\]$"),
    (
        "seeds: {init: [0]}\ncases: [{seeds.init: 1}]\n",
        r"main.cases.seeds.init: seeds are an axis of their own; write  seeds: {init: \[0, 1\]}$",
    ),
    (
        "base: {task: segmentation, data: stand_in_tiles, model: unet, batch_size: full}\n",
        r"full needs a task .*\(classification, synthetic\), segmentation is none; give a number",
    ),
    ("grid: {batch_size: 8}\n", r"mine.yaml: ablations.main.grid.batch_size: .*list, got 8"),
    (
        "grid: {optimizer.weigth_decay: [0]}\n",
        r"ablations.main.grid: unknown key 'optimizer.weigth_decay'; .*optimizer.weight_decay",
    ),
    ("cases: [{batch: 8}]\n", r"ablations.main.cases\[0\]: unknown key 'batch'"),
    ("ablations: {a: {gird: {}}}\n", r"ablations.a.gird: unknown key 'gird'; did you mean grid\?"),
    ("ablations: {a: {}}\ngrid: {seed: [0]}\n", r"grid: belongs inside one of the ablations"),
    ("seeds: []\n", r"mine.yaml: seeds: an empty axis"),
    ("seeds: 3\n", r"mine.yaml: seeds: a list of whole numbers such as \[0, 1, 2\], not 3"),
    ("seeds: [0, -1]\n", r"mine.yaml: seeds: whole numbers from 0, not -1"),
    ("seeds: {inti: [0]}\n", r"mine.yaml: seeds: unknown seed 'inti'; did you mean init"),
    ("scales: {smoke: {bse: {}}}\n", r"scales.smoke.bse: unknown key 'bse'; did you mean base\?"),
    ("analysis: {exclude: {last_epoch: 1}}\n", r"mine.yaml: analysis.exclude.last_epoch: unknown"),
    ("name: a b\n", r"mine.yaml: name: 'a b' has other characters"),
    ("extends: quikstart\n", r"mine.yaml: extends: unknown preset 'quikstart'; .*quickstart"),
    ("extends: gone.yaml\n", r"gone.yaml: no such file"),
    ("extends: mine.yaml\n", r"extends itself \(mine.yaml -> mine.yaml\)"),
]


@pytest.mark.parametrize(("text", "message"), BAD_FILES)
def test_a_wrong_file_is_refused_in_one_line(write: Write, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load_spec(write(text))
    assert "\n" not in str(caught.value)


def test_a_cycle_of_two_files_is_refused(write: Write) -> None:
    write({"extends": "mine.yaml"}, "other.yaml")
    with pytest.raises(UserError, match=r"\(mine.yaml -> other.yaml -> mine.yaml\)"):
        load_spec(write({"extends": "other.yaml"}))


def test_an_unknown_preset_names_the_near_ones() -> None:
    with pytest.raises(UserError, match="unknown preset 'quickstrat'; did you mean quickstart"):
        load_spec("quickstrat")


def test_an_unreadable_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot be read as text"):
        load_spec(str(tmp_path / "binary.yaml"))


def test_an_unknown_scale_or_variant_names_the_known(write: Write) -> None:
    path = write(SCALED)
    with pytest.raises(UserError, match="unknown scale 'smok'; did you mean smoke"):
        load_spec(path, scale="smok")
    with pytest.raises(UserError, match="unknown variant 'bigg'; did you mean big"):
        load_spec(path, variant="bigg")
    with pytest.raises(UserError, match="this sweep has no variants"):
        load_spec("quickstart", variant="big")


def test_a_scale_cannot_name_an_ablation_that_is_not_there(write: Write) -> None:
    path = write({"grid": {"seed": [0]}, "scales": {"smoke": {"ablations": {"mian": {}}}}})
    with pytest.raises(UserError, match="smoke scale: unknown ablation 'mian'; did you mean main"):
        load_spec(path, scale="smoke")
