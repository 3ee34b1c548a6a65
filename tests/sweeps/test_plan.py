"""Plans: what is run, what is shared, what is done, and what is refused before anything starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from sweeps.catalogue import load_spec
from sweeps.plan import Plan, make_plan
from sweeps.plan_store import check_same_base, mark_done, plan_values, read_plan, write_plan
from sweeps.spec import SweepSpec
from trainables.config import RunConfig
from trainables.data.cifar10 import CIFAR10
from trainables.errors import UserError
from trainables.store import Store, StoreDamaged

NOWHERE = Path("no-data-here")


def spec_of(tmp_path: Path, overrides: list[str] | None = None, **content: Any) -> SweepSpec:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return load_spec(str(path), overrides or [])


def thousand(config: RunConfig, root: Path) -> int:
    return 1000


def test_budgets_share_a_trajectory_and_schedules_that_see_the_budget_do_not(
    tmp_path: Path,
) -> None:
    grid = {"budget.epochs": [1, 2, 3], "schedule": ["constant", "linear_decay"]}
    plan = make_plan(spec_of(tmp_path, grid=grid), NOWHERE, num_train=thousand)
    assert sorted(len(t.runs) for t in plan.trajectories) == [1, 1, 1, 3]
    shared = next(t for t in plan.trajectories if len(t.runs) == 3)
    assert (shared.num_steps, shared.replay_steps) == (3 * 15, 3 * 15)


def test_probes_share_a_trajectory_and_a_run_without_reference_has_no_replay(
    tmp_path: Path,
) -> None:
    spec = spec_of(tmp_path, grid={"probes": [["path"], []]}, seeds=[0])
    plan = make_plan(spec, NOWHERE, num_train=thousand)
    (trajectory,) = plan.trajectories
    assert len(trajectory.runs) == 2
    alone = plan.with_states({}).runs[1]
    assert not alone.config.needs_replay()


def test_a_run_that_two_ablations_want_is_planned_once(tmp_path: Path) -> None:
    ablations = {"a": {"grid": {"batch_size": [8, 16]}}, "b": {"grid": {"learning_rate": [0.01]}}}
    spec = spec_of(tmp_path, base={"batch_size": 8}, ablations=ablations)
    plan = make_plan(spec, NOWHERE, num_train=thousand)
    both = [run for run in plan.runs if run.ablations == ("a", "b")]
    assert len(plan.runs) == 2
    assert [run.axes for run in both] == [{"batch_size": 8, "learning_rate.base": 0.01, "seed": 0}]


def test_steps_per_epoch_drop_the_last_smaller_minibatch(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, grid={"batch_size": [300, 1000], "budget": [{"epochs": 4}]})
    plan = make_plan(spec, NOWHERE, num_train=thousand)
    assert [(r.steps_per_epoch, r.num_steps) for r in plan.runs] == [(3, 12), (1, 4)]


def test_levels_that_are_mappings_are_axes_by_what_differs_within_a_name(tmp_path: Path) -> None:
    grid = {
        "optimizer": [{"name": "sgd"}, {"name": "momentum", "momentum": 0.5}],
        "model": [{"name": "mlp", "hidden": [8]}, {"name": "mlp", "hidden": [16]}],
        "learning_rate": [{"base": 0.1, "rule": "fixed"}],
    }
    plan = make_plan(spec_of(tmp_path, grid=grid), NOWHERE, num_train=thousand)
    assert plan.ablations["main"].axes == ("optimizer.name", "model.hidden", "seed")
    assert plan.runs[0].axes["model.hidden"] == [8]


def test_a_cached_member_keeps_each_runs_own_options(tmp_path: Path) -> None:
    grid = {"optimizer": ["momentum", "adam"], "optimizer.weight_decay": [0.0, 0.1, 0.2]}
    plan = make_plan(spec_of(tmp_path, grid=grid), NOWHERE, num_train=thousand)
    assert [(r.config.optimizer.name, r.config.optimizer.weight_decay) for r in plan.runs] == [
        (name, decay) for name in ("momentum", "adam") for decay in (0.0, 0.1, 0.2)
    ]


def test_a_plan_is_made_of_configs_equal_to_those_parsed_alone(tmp_path: Path) -> None:
    spec = load_spec("cifar10-optimizer", scale="smoke")
    for run in make_plan(spec, NOWHERE, num_train=thousand).runs:
        assert RunConfig.parse(run.config.plain()) == run.config


# Refused before anything starts


def test_a_batch_larger_than_the_data_set_says_both_sizes(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, base={"data": "digits"}, grid={"batch_size": [1501]})
    match = "batch_size: 1501 is larger than the 1500 training examples of digits; give at most"
    with pytest.raises(UserError, match=f"mine.yaml: ablations.main: {match} 1500"):
        make_plan(spec, NOWHERE)
    spec = spec_of(tmp_path, ["batch_size=1501"], base={"data": "digits"})
    with pytest.raises(UserError, match=f"command line: {match}"):
        make_plan(spec, NOWHERE)


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"batch_size": [8, "x"]}, "ablations.main: batch_size: .*integer.*got 'x'"),
        ({"budget.epochs": [0]}, "ablations.main: budget.epochs: .*greater than or equal to 1"),
        ({"optimizer": ["adm"]}, "ablations.main: unknown optimizer 'adm'; did you mean adam"),
        ({"model.width": [2]}, "ablations.main: model.width: unknown key 'width'"),
        ({"learning_rate.rule": ["sqrt"]}, "rule sqrt needs reference_batch_size"),
    ],
)
def test_a_wrong_level_names_its_ablation(
    tmp_path: Path, grid: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        make_plan(spec_of(tmp_path, grid=grid), NOWHERE, num_train=thousand)
    assert "\n" not in str(caught.value)


def test_a_wrong_level_of_the_command_line_says_so(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, ["batch_size=8,x"], grid={"batch_size": [8]})
    with pytest.raises(UserError, match=r"^command line: batch_size: .*got 'x'"):
        make_plan(spec, NOWHERE, num_train=thousand)


def test_data_that_are_not_there_say_where_they_were_looked_for(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, base={"data": "cifar10"})
    match = f"^data cifar10 not found: looked for {tmp_path}/data/cifar10.*OPTPATH_DATA"
    with pytest.raises(UserError, match=match):
        make_plan(spec, tmp_path / "data")


def test_more_examples_than_there_are_is_refused(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, base={"data": {"name": "digits", "train_examples": 1600}})
    with pytest.raises(UserError, match=r"data.train_examples: 1600 is more than the 1500"):
        make_plan(spec, NOWHERE)


def test_a_cifar_sweep_plans_over_a_tree_of_images(tmp_path: Path) -> None:
    for part, count in (("train", 2), ("test", 1)):
        for label in CIFAR10.class_names:
            folder = tmp_path / "cifar10" / part / label
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = np.full((32, 32, 3), index, dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{index}.png")
    spec = spec_of(tmp_path, base={"data": "cifar10", "batch_size": 4})
    plan = make_plan(spec, tmp_path)
    assert plan.runs[0].steps_per_epoch == 4
    assert plan.runs[0].config.plain()["data"]["layout"] == "folder"
    assert plan.base["data"]["layout"] == "folder"


# In the store


def finish(store: Store, plan: Plan, index: int, status: str) -> None:
    run = plan.runs[index]
    manifest = {"run_id": run.run_id, "status": status, "data_digest": "65e5b4619795efb4"}
    store.run(run.run_id).write_manifest(manifest, [])


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    spec = spec_of(tmp_path, grid={"batch_size": [8, 16, 32], "budget.epochs": [1, 2]})
    return make_plan(spec, NOWHERE, num_train=thousand)


def test_settled_runs_are_marked_and_a_diverged_replay_is_open(plan: Plan, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    for index, status in enumerate(("done", "diverged", "replay_diverged")):
        finish(store, plan, index, status)
    marked = mark_done(plan, store)
    assert [r.state for r in marked.runs] == ["done", "diverged", "open", "open", "open", "open"]
    assert [len(t.open_runs) for t in marked.trajectories] == [0, 2, 2]
    assert len(marked.open_runs) == 4
    assert all(run.state == "open" for run in plan.runs)


def test_an_altered_manifest_is_not_taken_for_done(plan: Plan, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    finish(store, plan, 0, "replay_diverged")
    path = store.run(plan.runs[0].run_id).manifest_path
    path.write_text(path.read_text().replace("replay_diverged", "done"))
    with pytest.raises(StoreDamaged, match="altered"):
        mark_done(plan, store)


def test_a_plan_is_read_as_it_was_written(plan: Plan, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    written = write_plan(store, plan)
    read = read_plan(store, "mine")
    assert {k: v for k, v in read.items() if k != "store_version"} == written
    assert json.loads(json.dumps(plan_values(plan))) == plan_values(plan)
    assert [c["name"] for c in read["citations"]] == ["digits"]
    again = load_spec(str(store.sweep("mine").path / "spec.yaml"))
    assert make_plan(again, NOWHERE, num_train=thousand).runs == plan.runs


def test_a_larger_grid_of_the_same_base_extends_and_a_smaller_one_forgets_nothing(
    tmp_path: Path,
) -> None:
    store = Store(tmp_path / "store")
    first = spec_of(tmp_path, grid={"batch_size": [8, 16]})
    second = spec_of(tmp_path, grid={"batch_size": [16, 32]}, seeds=[0, 1])
    plans = [make_plan(s, NOWHERE, num_train=thousand) for s in (first, second)]
    created = write_plan(store, plans[0])["created"]
    values = write_plan(store, plans[1])
    wanted = {run.run_id for plan in plans for run in plan.runs}
    assert {run["run_id"] for run in values["runs"]} == wanted
    assert len(values["runs"]) == 5
    assert sum(len(t["run_ids"]) for t in values["trajectories"]) == 5
    assert values["created"] == created


def test_the_same_name_with_another_base_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    specs = [spec_of(tmp_path, base={"learning_rate": rate}) for rate in (0.1, 0.2)]
    plans = [make_plan(s, NOWHERE, num_train=thousand) for s in specs]
    write_plan(store, plans[0])
    match = r"another base \(learning_rate.base is 0.2 here, 0.1 there\); .*name=mine-2"
    with pytest.raises(UserError, match=match):
        check_same_base(store, plans[1])
    with pytest.raises(UserError, match=match):
        write_plan(store, plans[1])
    check_same_base(store, plans[0])


def test_the_same_ablation_with_other_settings_is_another_base(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    specs = [spec_of(tmp_path, ablations={"a": {"set": {"batch_size": b}}}) for b in (8, 16)]
    plans = [make_plan(s, NOWHERE, num_train=thousand) for s in specs]
    write_plan(store, plans[0])
    with pytest.raises(UserError, match="batch_size is 16 here, 8 there"):
        write_plan(store, plans[1])


def test_a_sweep_that_the_store_does_not_have_names_the_near_ones(
    plan: Plan, tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    with pytest.raises(UserError, match="it has no sweep yet; type: optpath run quickstart"):
        read_plan(store, "mine")
    write_plan(store, plan)
    with pytest.raises(UserError, match=r"no sweep 'mime' in .*; did you mean mine"):
        read_plan(store, "mime")
