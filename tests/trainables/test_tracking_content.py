"""What tracking sends of a run: its tables' values by short names, its whole config, its tags."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd

from geometry.columns import step_columns
from geometry.probes.registry import PROBES
from tests.trainables.small_probes import small_probe
from trainables.config import RunConfig
from trainables.store import Store, read_table, write_table
from trainables.tasks.contract import Task
from trainables.tracking_content import (
    VALUE_LENGTH,
    epoch_keys,
    outcome_tags,
    reference_metrics,
    run_metrics,
    run_name,
    run_params,
    run_tags,
)


def test_metrics_are_the_tables_values_and_nothing_else(plant_sweep: Any) -> None:
    store, entries = plant_sweep(num_epochs=4)
    folder = store.run(entries[0]["run_id"])
    epochs = read_table(folder.path / "epochs.parquet")
    rows = run_metrics(folder.manifest(), epochs)
    values = {(key, step): value for key, value, step in rows}
    assert len(values) == len(rows)
    for epoch in range(4):
        assert values["path/gamma_mean", epoch] == epochs["gamma_mean"][epoch]
        assert values["path/gamma_min", epoch] == epochs["gamma_min"][epoch]
        assert values["null/gamma_closed_mean", epoch] == epochs["null_gamma_closed_mean"][epoch]
    assert values["reference/validation_loss", 2] == epochs["validation_loss"][2]
    assert values["final/last_train_loss", 3] == 0.1 + 0.2
    assert values["seconds/replay", 3] == 1.5
    assert len({key for key, _ in values}) < 60


def test_an_undefined_or_infinite_value_is_not_sent() -> None:
    manifest = {"metrics": {"test_loss": None, "last_train_loss": math.inf}, "seconds": {}}
    epochs = pd.DataFrame({"epoch": [0, 1, 2], "gamma_mean": [math.nan, 0.5, -math.inf]})
    assert run_metrics(manifest, epochs) == [("path/gamma_mean", 0.5, 1)]


def test_a_run_that_diverged_at_once_has_no_metrics() -> None:
    empty = pd.DataFrame({"epoch": pd.Series([], dtype="int64")})
    assert run_metrics({"metrics": {}, "seconds": {}}, empty) == []


def test_live_values_equal_those_sent_at_the_end(plant_sweep: Any) -> None:
    store, entries = plant_sweep()
    folder = store.run(entries[0]["run_id"])
    epochs = read_table(folder.path / "epochs.parquet")
    live = reference_metrics(epochs.to_dict("records"))
    assert len(live) == 4 * 4  # the fifth epoch was not evaluated
    assert set(live) <= set(run_metrics(folder.manifest(), epochs))


def test_epochs_past_a_runs_own_budget_are_not_its() -> None:
    shared = [{"epoch": e, "step": 10 * (e + 1), "train_loss": float(e)} for e in range(5)]
    rows = reference_metrics(shared, num_steps=30)
    assert rows == [("reference/train_loss", float(e), e) for e in range(3)]


def test_a_run_with_every_probe_on_has_fewer_than_60_metrics(
    tiny: Any, store: Store, finish: Any
) -> None:
    probes = [small_probe(name) for name in PROBES]
    data = {"name": "digits", "train_examples": 96, "validation_examples": 96}
    model = {"name": "cnn", "channels": [4], "hidden": [8], "batch_norm": True}
    config = tiny(data=data, model=model, batch_size=24, probes=probes)
    finish(store, trajectory_id="t", r=config)
    folder = store.run("r")
    manifest = folder.manifest()
    assert manifest is not None
    epochs = read_table(folder.path / "epochs.parquet")
    for column in step_columns():
        epochs[f"{column.name}_mean"] = 0.5  # some are of other optimizers than this run's
    # as many evaluations as the task with the most has
    for metric in max((task.metrics for task in _tasks(Task)), key=len):
        for split in ("train", "validation"):
            epochs[f"{split}_{metric}"] = 0.5
            manifest["metrics"] |= {f"{how}_{split}_{metric}": 0.5 for how in ("last", "best")}
        manifest["metrics"][f"test_{metric}"] = 0.5
    keys = {key for key, _, _ in run_metrics(manifest, epochs)}
    assert len(keys) < 60, sorted(keys)
    assert all("/" in key for key in keys)
    assert {"path/gamma_max", "null/gamma_mean", "correlation/mean_correlation_mean",
            "straightness/straightness_mean", "final/zigzag_share"} <= keys  # fmt: skip


def _tasks(kind: type[Task]) -> list[type[Task]]:
    return [task for sub in kind.__subclasses__() for task in (sub, *_tasks(sub))
            if "metrics" in vars(task)]  # fmt: skip


def test_medians_and_unknown_columns_stay_in_the_table() -> None:
    columns = ["run_id", "epoch", "gamma_median", "gamma_mean", "inner_product_mean", "train_loss"]
    assert epoch_keys(columns) == {
        "gamma_mean": "path/gamma_mean",
        "train_loss": "reference/train_loss",
    }


def test_params_hold_the_whole_config() -> None:
    config = RunConfig.parse(
        {
            "batch_size": 64,
            "learning_rate": {"base": 0.01, "rule": "sqrt", "reference_batch_size": 16},
        }
    )
    params = run_params(config, {"optimizer": "momentum", "note": "x" * 2000})
    assert params["batch_size"] == "64"
    assert params["optimizer"] == params["optimizer.name"] == "momentum"
    assert params["optimizer.momentum"] == "0.9"
    assert params["model.hidden"] == "[128, 128]"
    assert params["learning_rate.base"] == "0.01"
    assert params["learning_rate_at_batch_size"] == "0.02"
    assert params["budget.epochs"] == "40"
    assert "budget.steps" not in params
    assert "path" in params["probes"]
    assert max(map(len, params.values())) == VALUE_LENGTH
    assert len(params) < 100


def test_a_name_says_what_varies() -> None:
    config = RunConfig.parse({"batch_size": 64})
    assert run_name(config, {"batch_size": 64}) == "b64 momentum seed0 40ep"
    steps = RunConfig.parse({"budget": {"steps": 1000}})
    axes = {"budget.steps": 1000, "model.depth": 34}
    assert run_name(steps, axes) == "b64 momentum seed0 1000st model.depth=34"


def test_tags_of_a_run_without_replay_claim_nothing_of_it() -> None:
    manifest = {
        "status": "diverged",
        "replay_exact": None,
        "regime": None,
        "diverged_at_step": 17,
    }
    assert outcome_tags(manifest) == {
        "status": "diverged",
        "optpath.status": "diverged",
        "diverged_at_step": "17",
    }


def test_a_user_can_filter_by_what_was_varied() -> None:
    config = RunConfig.parse({"batch_size": 64, "budget": {"steps": 1000}})
    entry = {"run_id": "r", "trajectory_id": "t", "ablations": ["a", "b"]}
    tags = run_tags(entry, config, "planted")
    plain = {key: value for key, value in tags.items() if not key.startswith("optpath.")}
    assert plain == {"status": "running", "batch_size": "64", "optimizer": "momentum", "seed": "0",
                     "budget": "1000 steps", "model": "mlp", "data": "digits",
                     "ablations": "a, b"}  # fmt: skip


def test_a_column_that_another_task_evaluates_is_sent_too(tmp_path: Path) -> None:
    write_table(tmp_path / "e.parquet", pd.DataFrame({"epoch": [0], "validation_iou": [0.5]}))
    rows = run_metrics({"metrics": {}, "seconds": {}}, read_table(tmp_path / "e.parquet"))
    assert rows == [("reference/validation_iou", 0.5, 0)]
