"""A sweep from the metrics of an MLflow server whose artifacts are gone, in a real database."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis import Sweep, ablations_of, load_sweep, trend_table, write_report
from analysis.history import column_of, epochs_of
from geometry.columns import step_columns
from trainables.errors import UserError
from trainables.store import Store
from trainables.tracking import Connection, locate, plan_files
from trainables.tracking_content import epoch_keys, finished

pytestmark = pytest.mark.filterwarnings("ignore")  # third-party deprecations inside mlflow

Write = Callable[..., Store]
SENT = ["run_id", "epoch", "num_steps", "loss_mean", "gamma_mean", "gamma_min", "gamma_max",
        "null_gamma_mean", "null_gamma_closed_mean", "distance_mean", "train_loss",
        "validation_accuracy"]  # fmt: skip


@pytest.fixture
def served(storage: Path, write: Write, plant: Callable[..., list[Any]], tmp_path: Path) -> str:
    """The URI of a database with a sweep in it: six finished runs, a diverged one, a missed w*."""
    runs = plant("equal-steps", 0.5, 0.0, batches=(16, 32, 64), seeds=(0, 1), steps=115)
    diverged = replace(runs[0], axes={"batch_size": 16, "seed": 3}, status="diverged")
    missed = replace(runs[0], axes={"batch_size": 16, "seed": 4}, status="replay_diverged")
    store = write(storage, [*runs, diverged, replace(missed, replay_exact=False)])
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    target, connection = locate(uri, store, "planted"), Connection(uri)
    connection.put(target.parent_run_id, plan_files(store, "planted"))
    for entry in load_sweep("planted", storage).plan["runs"]:
        content = finished(entry, "planted", store)
        assert content is not None
        assert connection.upload(target, content)
    return uri


def children_s_files(tmp_path: Path) -> list[Path]:
    return [path.parent for path in tmp_path.glob("mlartifacts/**/manifest.json")]


def test_runs_and_epochs_come_from_the_metrics_where_the_files_are_gone(
    served: str, storage: Path, tmp_path: Path
) -> None:
    local = load_sweep("planted", storage)
    runs, epochs, trends = local.runs, local.epochs, trend_table(ablations_of(local))
    for folder in (storage, *children_s_files(tmp_path)):
        shutil.rmtree(folder)
    remote = load_sweep("planted", tracking_uri=served)
    pd.testing.assert_frame_equal(remote.runs, runs)
    of_done = epochs["run_id"].isin(remote.usable["run_id"])
    pd.testing.assert_frame_equal(
        remote.epochs[SENT][of_done], epochs[SENT][of_done], check_dtype=False
    )
    assert remote.steps().empty
    assert remote.environment == {"data_digest": "d1"}
    assert remote.problems[0].endswith(
        "its files are not on this server: epochs from its metrics, and no steps"
    )
    (ablation,) = ablations_of(remote)
    assert ablation.cells["num_undefined"].isna().all()
    found = trend_table([ablation]).set_index("measure")["exponent"]
    expected = trends.set_index("measure")["exponent"]
    assert found["gamma"] == pytest.approx(0.5, abs=1e-6)
    assert found["gamma_over_null"] == pytest.approx(expected["gamma_over_null"], abs=1e-6)
    what_a_server_never_had_is_missing(remote)
    report = write_report(remote, tmp_path / "report")
    assert "its files are not on this server" in report.html.read_text()
    shutil.rmtree(tmp_path / "mlartifacts")
    with pytest.raises(UserError, match=r"no plan\.json there .*type  optpath sync planted$"):
        load_sweep("planted", tracking_uri=served)


def what_a_server_never_had_is_missing(remote: Sweep) -> None:
    assert "gamma_num_negative" not in remote.epochs.columns
    diverged = remote.epochs[remote.epochs["run_id"] == "r006"]
    assert diverged["num_steps"].isna().all()
    assert len(diverged)
    assert "r007" not in set(remote.epochs["run_id"])


def test_every_metric_of_an_epoch_leads_back_to_its_column() -> None:
    columns = [
        f"{column.name}_{how}" for column in step_columns() for how in ("mean", "min", "max")
    ]
    columns += ["train_loss", "validation_accuracy", "validation_mean_iou"]
    keys = epoch_keys(columns)
    assert {column_of(key): key for key in keys.values()} == keys
    assert column_of("final/last_train_loss") is None
    assert column_of("seconds/replay") is None


def test_epochs_of_growing_batches_have_their_own_numbers_of_steps() -> None:
    config = {"batch_growth": {"epochs": [2, 4], "factor": 2}}
    manifest = {"run_id": "r", "status": "done", "num_steps": 106, "steps_per_epoch": 31}
    table = epochs_of({**manifest, "config": config}, {})
    assert table["num_steps"].tolist() == [31, 31, 15, 15, 7, 7]
