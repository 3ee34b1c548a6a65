"""Tidy tables from a store and from MLflow alone; what is missing is named."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis import export_table, load_sweep
from trainables.store import StoreDamaged, UserError

Plant = Callable[..., list[Any]]
Write = Callable[..., Any]


@pytest.fixture
def small(plant: Plant) -> list[Any]:
    return plant("equal-epochs", 0.5, 0.5, batches=(64, 128), seeds=(0, 1), epochs=3)


def test_tables_have_one_row_per_run_epoch_and_step(
    storage: Path, write: Write, small: list[Any]
) -> None:
    write(storage, small)
    sweep = load_sweep("planted", storage)
    assert len(sweep.runs) == 4
    assert len(sweep.epochs) == 4 * 3
    assert len(sweep.steps()) == sum(run.num_steps for run in small)
    assert sweep.runs["batch_size"].tolist() == [64, 128, 64, 128]
    assert sweep.runs["replay_exact"].all()
    assert sweep.problems == []


def test_steps_are_read_for_the_asked_columns_only(
    storage: Path, write: Write, small: list[Any]
) -> None:
    write(storage, small)
    steps = load_sweep("planted", storage).steps(["gamma", "no_such_column"])
    assert steps.columns.tolist() == ["run_id", "step", "epoch", "gamma"]


def test_every_run_that_does_not_count_is_named(
    storage: Path, write: Write, small: list[Any], interrupt: Callable[..., None]
) -> None:
    small[0].status = "diverged"
    small[1].replay_exact = False
    small[2].status = small[3].status = "not started"
    store = write(storage, small)
    interrupt(store, "r002", step=40)
    interrupt(store, "r003", step=41, error="RuntimeError: out of memory\nsecond line")
    sweep = load_sweep("planted", storage)
    assert sweep.usable.empty
    assert sweep.steps().empty
    assert sweep.runs["status"].tolist() == ["diverged", "done", "unfinished", "failed"]
    assert [text.partition("): ")[2] for text in sweep.problems] == [
        "diverged at step 7 (NaN or Inf); not in any trend",
        "its replay did not end at w*; its values are not used",
        "unfinished: reference at step 40 of 100",
        "failed: RuntimeError: out of memory",
    ]
    assert "batch_size=64, seed=1" in sweep.problems[2]


def test_a_retry_after_a_failure_counts_as_unfinished(
    storage: Path, write: Write, small: list[Any], interrupt: Callable[..., None]
) -> None:
    small[0].status = "not started"
    store = write(storage, small)
    interrupt(store, "r000", step=3, error="boom")
    path = store.trajectory("t-r000").path / "progress.json"
    path.write_text(path.read_text().replace("10.0", "12.0"))
    assert load_sweep("planted", storage).runs["status"].iloc[0] == "unfinished"


def test_unknown_numbers_are_missing_not_zero(
    storage: Path, write: Write, small: list[Any]
) -> None:
    small[0].status = "not started"
    small[1].metrics = {}
    runs = write(storage, small) and load_sweep("planted", storage).runs
    assert runs.loc[0, "num_steps"] is pd.NA
    assert pd.isna(runs.loc[1, "last_validation_accuracy"])


def test_fields_that_vary_outside_the_axes_have_columns_too(
    storage: Path, write: Write, small: list[Any]
) -> None:
    small[0].config = {"batch_size": 64, "budget": {"steps": 9}, "model": {"widths": [4, 2]}}
    write(storage, small)
    runs = load_sweep("planted", storage).runs
    assert runs["budget.steps"].tolist()[0] == 9
    assert runs["model.widths"].tolist()[0] == "4-2"


def test_unknown_sweep_lists_those_that_are_there(
    storage: Path, write: Write, small: list[Any]
) -> None:
    write(storage, small)
    with pytest.raises(UserError, match=r"no sweep 'plante'; there are: planted"):
        load_sweep("plante", storage)


def test_an_empty_storage_says_how_to_begin(storage: Path) -> None:
    with pytest.raises(UserError, match=r"no sweep there yet; start with  optpath run quickstart"):
        load_sweep("planted", storage)


def test_two_places_are_refused(storage: Path) -> None:
    with pytest.raises(UserError, match="give storage or tracking_uri, not both"):
        load_sweep("planted", storage, "sqlite:///x.db")


def test_a_damaged_table_is_named(storage: Path, write: Write, small: list[Any]) -> None:
    store = write(storage, small)
    path = store.run("r001").path / "steps.parquet"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(StoreDamaged, match=r"r001/steps\.parquet: not readable"):
        load_sweep("planted", storage).steps()


def test_storage_comes_from_the_environment(
    storage: Path, write: Write, small: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(storage, small)
    monkeypatch.setenv("OPTPATH_STORAGE", str(storage))
    assert len(load_sweep("planted").runs) == 4


def log_to_mlflow(storage: Path, name: str, uri: str) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.create_experiment("optpath")
    tags = {"optpath.sweep": name, "optpath.kind": "sweep"}
    parent = client.create_run(experiment, tags=tags).info.run_id
    for file in ("plan.json", "spec.yaml"):
        client.log_artifact(parent, str(storage / "sweeps" / name / file))
    for folder in sorted((storage / "runs").iterdir()):
        tags = {"optpath.sweep": name, "optpath.kind": "run", "optpath.run_id": folder.name}
        child = client.create_run(experiment, tags={**tags, "mlflow.parentRunId": parent})
        client.log_artifacts(child.info.run_id, str(folder))


@pytest.mark.filterwarnings("ignore")  # third-party deprecations inside mlflow and its database
def test_mlflow_alone_gives_the_same_tables(
    storage: Path,
    write: Write,
    small: list[Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small[0].status = "diverged"
    small[3].status = "not started"
    monkeypatch.chdir(tmp_path)  # where MLflow puts artifacts of a database without a server
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    write(storage, small)
    log_to_mlflow(storage, "planted", uri)
    local = load_sweep("planted", storage)
    steps, epochs = local.steps(), local.epochs
    shutil.rmtree(storage)
    remote = load_sweep("planted", tracking_uri=uri)
    pd.testing.assert_frame_equal(remote.runs, local.runs)
    pd.testing.assert_frame_equal(remote.epochs, epochs)
    pd.testing.assert_frame_equal(remote.steps(), steps)
    assert remote.spec == local.spec
    assert "not started, or not synced to this server" in remote.problems[1]
    with pytest.raises(UserError, match=r"no sweep 'other'; there are: planted"):
        load_sweep("other", tracking_uri=uri)


@pytest.mark.filterwarnings("ignore")  # third-party deprecations inside mlflow
def test_a_dead_server_is_one_line_and_soon() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(UserError, match=rf"^{uri}: the MLflow server does not answer \(.*\)$"):
        load_sweep("planted", tracking_uri=uri)


def test_an_absent_database_is_not_created(tmp_path: Path) -> None:
    path = tmp_path / "typo.db"
    with pytest.raises(UserError, match=r"typo\.db: no such database; give the URI"):
        load_sweep("planted", tracking_uri=f"sqlite:///{path}")
    assert not path.exists()


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize("table", ["steps", "epochs", "runs"])
def test_tables_are_exported_whole(
    ending: str, table: str, storage: Path, write: Write, small: list[Any], tmp_path: Path
) -> None:
    small[0].status = "diverged"
    write(storage, small)
    sweep = load_sweep("planted", storage)
    path = tmp_path / "deeper" / f"table.{ending}"
    export_table(sweep, table, path)
    found = pd.read_csv(path) if ending == "csv" else pd.read_parquet(path)
    whole = sweep.steps() if table == "steps" else getattr(sweep, table)
    assert found.columns.tolist() == whole.columns.tolist()
    assert len(found) == len(whole)


def test_export_refuses_other_tables_and_endings(
    storage: Path, write: Write, small: list[Any], tmp_path: Path
) -> None:
    write(storage, small)
    sweep = load_sweep("planted", storage)
    with pytest.raises(UserError, match="no table 'step'; there are: steps, epochs, runs"):
        export_table(sweep, "step", tmp_path / "x.csv")
    with pytest.raises(UserError, match=r"x\.txt: write a name that ends in \.parquet or \.csv"):
        export_table(sweep, "steps", tmp_path / "x.txt")
