"""What a plan says of its probes' cost, and of what the store has already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import yaml
from rich.console import Console

from sweeps.catalogue import load_spec
from sweeps.costs import probe_costs
from sweeps.launch import order
from sweeps.plan import Plan, make_plan
from sweeps.plan_store import mark_done
from sweeps.progress import open_steps
from sweeps.ray_session import Launch
from sweeps.same_data import PresentData
from sweeps.tables import costs_table, memory_gib, plan_totals
from trainables.job import Place
from trainables.passes import work
from trainables.store import Store

CPU = torch.device("cpu")
BASE: dict[str, Any] = {
    "data": {"name": "digits", "train_examples": 96, "validation_examples": 64},
    "model": {"name": "mlp", "hidden": [4]},
    "batch_size": 16,
    "budget": {"epochs": 2},
}
"""Two epochs of six steps."""


def plan_of(tmp_path: Path, probes: list[Any], **base: Any) -> Plan:
    path = tmp_path / "mine.yaml"
    content = {"base": {**BASE, **base, "probes": probes}, "seeds": [0, 1]}
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return make_plan(load_spec(str(path), []), tmp_path)


def printed(plan: Plan) -> list[list[str]]:
    table = costs_table(plan)
    assert table is not None
    console = Console(width=200)
    with console.capture() as capture:
        console.print(table)
    return [line.split() for line in capture.get().splitlines()]


def test_every_probes_extra_gradients_are_counted_by_hand(tmp_path: Path) -> None:
    probes = [
        "path",
        "full_batch",
        {"name": "probe_batches", "num_batches": 3, "every": 5},
        {"name": "sharpness", "iterations": 4, "batch": "fixed", "every": 6},
        {"name": "straight_line", "intervals": 2},
        "lags",
        "references",
    ]
    costs = {cost.probe: cost for cost in probe_costs(plan_of(tmp_path, probes))}
    # two runs of 12 steps; a pass over the training examples is 6 minibatches
    expected = {
        "full_batch": (2 * 2, 2 * 2 * 6),
        "probe_batches": (2 * 3, 2 * 3 * 3),
        "sharpness": (2 * 2, 2 * 2 * 4 * 2),
        "straight_line": (2 * 2, 2 * 2 * 3 / 3 * 6),
    }
    found = {name: (c.num_measurements, c.num_gradients) for name, c in costs.items()}
    assert found == expected
    assert costs["full_batch"].share == 1.0


def test_the_table_says_what_each_costs_beside_the_training(tmp_path: Path) -> None:
    heading, row = printed(plan_of(tmp_path, ["path", "full_batch"]))
    assert heading == [
        "probe",
        "every",
        "runs",
        "measurements",
        "extra",
        "gradients",
        "per",
        "step",
    ]
    assert row == ["full_batch", "epoch", "2", "4", "24", "100.0%"]
    assert costs_table(plan_of(tmp_path, ["path", "lags"])) is None
    _, row = printed(plan_of(tmp_path, ["path", "level_sets"]))
    assert row[:4] == ["level_sets", "once", "2", "2"]


def test_memory_counts_what_the_probes_hold(tmp_path: Path) -> None:
    def vectors(*probes: Any) -> float:
        run = plan_of(tmp_path, ["path", *probes]).runs[0]
        return memory_gib(run, 2**28)

    plain = vectors()
    assert vectors({"name": "probe_batches", "num_batches": 4}) == plain + 4
    assert vectors({"name": "references", "ema": [0.9, 0.99]}) == plain + 3
    assert vectors("lags") == plain + 2


def test_a_reference_beyond_the_budget_is_planned_for(tmp_path: Path) -> None:
    beyond = {"name": "references", "epochs": [5]}
    (first, _) = plan_of(tmp_path, ["path", beyond]).trajectories
    assert (first.num_steps, first.replay_steps) == (30, 12)
    assert open_steps(first) == (30, 12)


def test_a_reference_pass_in_the_store_is_not_planned_again(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    plan = plan_of(tmp_path, ["path"])
    place = Place(store, tmp_path, CPU, 1)
    list(work(_order(plan, store).job(), place))
    more = mark_done(plan_of(tmp_path, ["path", "full_batch", "layers"]), store)
    assert [t.has_reference for t in more.trajectories] == [True, False]
    assert [open_steps(t) for t in more.trajectories] == [(0, 12), (12, 12)]
    assert plan_totals(more) == (
        "2 runs on 2 trajectories, 0 done; at most 36 steps are left in both passes together "
        "(48 if nothing were shared); 1 reference pass is in the store already"
    )
    averaged = mark_done(plan_of(tmp_path, ["path", "references"]), store)
    assert [t.has_reference for t in averaged.trajectories] == [False, False], "no average kept"


def test_other_seeds_trainings_are_part_of_the_order(tmp_path: Path) -> None:
    probes = ["path", {"name": "references", "seeds": [7]}]
    plan = plan_of(tmp_path, probes)
    job = _order(plan, Store(tmp_path)).job()
    ((key, config),) = job.others.items()
    assert config.seed == 7
    assert not config.probes
    assert key not in {t.trajectory_id for t in plan.trajectories}
    (run,) = job.runs
    assert job.other(run.config.with_seed(7)) == key


def _order(plan: Plan, store: Store) -> Any:
    launch = Launch(store.root, store.root)
    return order(plan.name, plan.trajectories[0], launch, PresentData(store.root))
