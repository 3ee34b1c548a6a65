"""Tracking: what is sent, where to, and that sending it never stops or slows the sender."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import socket
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from geometry.columns import step_columns
from geometry.probes.registry import PROBES
from tests.trainables.small_probes import small_probe
from trainables.config import RunConfig
from trainables.errors import UserError
from trainables.store import Store, read_table, write_table
from trainables.tasks.contract import Task
from trainables.tracker import (
    FIRST_PAUSE_SECONDS,
    LAST_PAUSE_SECONDS,
    Preparation,
    Tracker,
    pause_after,
)
from trainables.tracking import (
    Connection,
    TrackingTarget,
    locate,
    prepare,
    read_target,
)
from trainables.tracking_content import (
    VALUE_LENGTH,
    epoch_keys,
    finished,
    opening,
    outcome_tags,
    reference_metrics,
    run_metrics,
    run_name,
    run_params,
    run_tags,
)
from trainables.tracking_report import log_report, page_addresses
from trainables.tracking_server import TrackingUnavailable
from trainables.tracking_uri import resolve_tracking_uri, without_password

pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy:DeprecationWarning"  # mlflow 3.17 on SQLAlchemy 2.1
)

Planted = tuple[Store, list[dict[str, Any]]]

ENQUEUE_SECONDS = 0.05
"""Longest that handing something to the tracker may take."""


@pytest.fixture(autouse=True)
def no_server_of_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


# Where to


def test_the_default_is_a_database_in_the_storage(tmp_path: Path) -> None:
    assert resolve_tracking_uri(None, tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"


def test_the_environment_is_asked_before_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracker:5000/")
    assert resolve_tracking_uri(None, tmp_path) == "http://tracker:5000"
    assert resolve_tracking_uri("https://given", tmp_path) == "https://given"


def test_a_relative_database_becomes_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve_tracking_uri("sqlite:///a/b.db", "x") == f"sqlite:///{tmp_path}/a/b.db"
    assert resolve_tracking_uri(f"sqlite:///{tmp_path}/c.db", "x") == f"sqlite:///{tmp_path}/c.db"
    assert resolve_tracking_uri(None, "store") == f"sqlite:///{tmp_path}/store/mlflow.db"


@pytest.mark.parametrize(
    ("uri", "finding"),
    [
        ("file:./mlruns", r"no longer writes file stores; use a database, such as sqlite:///"),
        ("./mlruns", r"no longer writes file stores"),
        ("sqlite:///:memory:", r"names no database file .* use sqlite:///PATH/mlflow\.db"),
        ("sqlite:mlflow.db", r"names no database file"),
        ("htp://tracker:5000", r"unknown scheme 'htp'; use http://HOST:PORT"),
        ("localhost:5000", r"unknown scheme 'localhost'; use http://HOST:PORT"),
        ("http://", r"malformed; write http://HOST:PORT"),
        ("http://tracker:port", r"malformed; write http://HOST:PORT"),
        ("http://tracker:5000/a b", r"malformed"),
    ],
)
def test_a_malformed_uri_is_refused_in_one_line(uri: str, finding: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=finding) as caught:
        resolve_tracking_uri(uri, tmp_path)
    assert "\n" not in str(caught.value)
    assert uri in str(caught.value)


def test_a_folder_is_no_database(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is a folder; use sqlite:///.*/mlflow\.db"):
        resolve_tracking_uri(f"sqlite:///{tmp_path}", tmp_path)


def test_passwords_are_not_repeated() -> None:
    text = without_password("at http://user:secret@tracker:5000/x")
    assert text == "at http://***@tracker:5000/x"


# What


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


def test_pauses_double_up_to_a_limit() -> None:
    pauses = [pause_after(n) for n in range(1, 40)]
    assert pauses[:3] == [FIRST_PAUSE_SECONDS, 2 * FIRST_PAUSE_SECONDS, 4 * FIRST_PAUSE_SECONDS]
    assert pauses[-1] == LAST_PAUSE_SECONDS


# That it gets there: a real SQLite store


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's schema and nothing in it: its migrations take seconds."""
    path = tmp_path_factory.mktemp("schema") / "mlflow.db"
    Connection(f"sqlite:///{path}")
    return path


@pytest.fixture
def planted(plant_sweep: Any, empty_database: Path) -> Planted:
    store, entries = plant_sweep()
    shutil.copy(empty_database, store.root / "mlflow.db")
    return store, entries


def histories(target: TrackingTarget, run: Any) -> set[tuple[str, float, int]]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(target.uri)
    rows = [
        (m.key, m.value, m.step)
        for key in run.data.metrics
        for m in client.get_metric_history(run.info.run_id, key)
    ]
    assert len(set(rows)) == len(rows)
    return set(rows)


def stored(store: Store, entry: dict[str, Any]) -> set[tuple[str, float, int]]:
    content = finished(entry, "planted", store)
    assert content is not None
    return set(content.metrics())


def test_tracker_logs_live_and_at_the_end(plant_sweep: Any, tmp_path: Path) -> None:
    store, entries = plant_sweep(root=tmp_path / "a folder")
    first, second = entries
    table = read_table(store.run(first["run_id"]).path / "epochs.parquet")
    epochs = table.assign(step=10 * (table["epoch"] + 1)).to_dict("records")
    tracker = Tracker("planted", store)
    tracker.epochs(first["run_id"], epochs[:2])  # before anything is prepared
    preparation = Preparation(resolve_tracking_uri(None, store.root), store, "planted")
    preparation.start()
    target = preparation.target(timeout=60)
    assert target is not None
    assert read_target(store, "planted") == target
    connection = Connection(target.uri)
    live = _until(lambda: _with_metrics(connection.children(target)))
    assert histories(target, live[first["run_id"]]) == set(reference_metrics(epochs[:2]))
    tracker.epochs(first["run_id"], epochs[1:])  # the second epoch a second time
    tracker.finish(first["run_id"])
    tracker.finish(second["run_id"])
    assert tracker.close(timeout=60)
    children = connection.children(target)
    for entry in entries:
        assert histories(target, children[entry["run_id"]]) == stored(store, entry)
        assert children[entry["run_id"]].info.status == "FINISHED"
    assert children[first["run_id"]].info.run_id == live[first["run_id"]].info.run_id


def test_runs_are_found_by_what_a_user_knows_of_them(
    planted: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    store, entries = planted
    target = _uploaded(store, entries)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", target.uri)
    found = mlflow.search_runs(
        experiment_names=["optpath"],
        filter_string="tags.status = 'done' and tags.batch_size = '32' and params.seed = '1'",
    )
    parent = mlflow.search_runs(
        experiment_names=["optpath"], filter_string="tags.`optpath.kind` = 'sweep'"
    )
    files = {file.path for file in mlflow.artifacts.list_artifacts(run_id=found["run_id"][0])}
    assert found["tags.optpath.run_id"].tolist() == [entries[1]["run_id"]]
    assert found["tags.mlflow.parentRunId"].tolist() == parent["run_id"].tolist()
    assert parent["tags.mlflow.note.content"].tolist() == ["Planted\n\nIs it there?"]
    assert found["metrics.final/last_train_loss"].tolist() == [0.1 + 0.2]
    assert files == {"config.yaml", "epochs.parquet", "manifest.json", "steps.parquet"}
    assert (store.root / "mlartifacts").is_dir()


def test_the_data_set_is_an_input_of_its_runs(planted: Planted) -> None:
    from mlflow.tracking import MlflowClient

    store, entries = planted
    target = _uploaded(store, entries)
    client = MlflowClient(target.uri)
    found = client.search_runs([target.experiment_id], "dataset.name = 'digits'")
    assert {run.data.tags["optpath.run_id"] for run in found} == {e["run_id"] for e in entries}
    (used,) = found[0].inputs.dataset_inputs
    assert used.dataset.digest == "65e5b4619795efb40c1082f4c350c049e4ad"
    assert json.loads(used.dataset.profile)["licence"] == "CC BY 4.0"
    assert [(tag.key, tag.value) for tag in used.tags] == [("mlflow.data.context", "training")]


def test_what_another_attempt_left_is_replaced(planted: Planted) -> None:
    store, entries = planted
    target = prepare(resolve_tracking_uri(None, store.root), store, "planted")
    connection = Connection(target.uri)
    stale = connection.child(target, opening(entries[0], "planted"))
    connection.log(stale, [("reference/train_loss", 123.0, 0)])
    assert _uploaded(store, entries[:1]) == target
    (run,) = connection.children(target).values()
    assert run.info.run_id != stale.info.run_id
    assert histories(target, run) == stored(store, entries[0])


def test_a_second_upload_sends_nothing(planted: Planted) -> None:
    store, entries = planted
    target = _uploaded(store, entries[:1])
    content = finished(entries[0], "planted", store)
    assert content is not None
    assert not Connection(target.uri).upload(target, content)


def test_twins_of_a_delayed_request_become_one(planted: Planted) -> None:
    from mlflow.tracking import MlflowClient

    store, entries = planted
    target = prepare(resolve_tracking_uri(None, store.root), store, "planted")
    connection = Connection(target.uri)
    content = opening(entries[0], "planted")
    older = connection.create_child(target, content)
    connection.create_child(target, content)
    assert connection.child(target, content).info.run_id == older.info.run_id
    client = MlflowClient(target.uri)
    found = client.search_runs([target.experiment_id], "tags.`optpath.kind` = 'run'")
    assert [run.info.run_id for run in found] == [older.info.run_id]


def test_report_lies_on_the_parent_run(planted: Planted) -> None:
    from mlflow.tracking import MlflowClient

    store, _ = planted
    folder = store.sweep("planted").path
    (folder / "figures").mkdir()
    (folder / "figures" / "gamma.png").write_bytes(b"drawn")
    (folder / "tables").mkdir()
    (folder / "tables" / "runs.csv").write_text("run_id")
    (folder / "report.html").write_text("<p>supported beyond the null</p>")
    (folder / "report.md").write_text("supported beyond the null")
    target = locate(resolve_tracking_uri(None, store.root), store, "planted")
    log_report(target, folder, "**supported beyond the null**", {"verdict_C12": "refuted"})
    client = MlflowClient(target.uri)
    names = {file.path for file in client.list_artifacts(target.parent_run_id)}
    assert names == {
        "figures", "plan.json", "report.html", "report.md", "spec.yaml", "tables"
    }  # fmt: skip
    (found,) = client.search_runs([target.experiment_id], "tags.verdict_C12 = 'refuted'")
    assert found.info.run_id == target.parent_run_id
    figures = [file.path for file in client.list_artifacts(target.parent_run_id, "figures")]
    assert figures == ["figures/gamma.png"]
    note = client.get_run(target.parent_run_id).data.tags["mlflow.note.content"]
    assert note == "**supported beyond the null**"


def test_a_later_report_replaces_an_earlier_one(planted: Planted) -> None:
    from mlflow.tracking import MlflowClient

    store, _ = planted
    folder = store.sweep("planted").path
    figures = folder / "figures"
    figures.mkdir()
    (figures / "gamma.png").write_bytes(b"drawn")
    (figures / "layers.png").write_bytes(b"drawn")
    target = locate(resolve_tracking_uri(None, store.root), store, "planted")
    log_report(target, folder, "first", {"verdict_C12": "refuted", "verdict_C13": "refuted"})
    (figures / "gamma.png").write_bytes(b"drawn again")
    (figures / "layers.png").unlink()
    log_report(target, folder, "second", {"verdict_C12": "inconclusive"})
    client = MlflowClient(target.uri)
    left = client.list_artifacts(target.parent_run_id, "figures")
    assert [file.path for file in left] == ["figures/gamma.png"]
    local = client.download_artifacts(target.parent_run_id, "figures/gamma.png")
    assert Path(local).read_bytes() == b"drawn again"
    tags = client.get_run(target.parent_run_id).data.tags
    assert {k: v for k, v in tags.items() if "verdict" in k} == {"verdict_C12": "inconclusive"}
    assert tags["mlflow.note.content"] == "second"


def test_only_a_server_has_addresses(planted: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    store, entries = planted
    target = _uploaded(store, entries)
    assert page_addresses(target) == {}
    children = Connection(target.uri).children(target)
    monkeypatch.setattr(Connection, "__init__", lambda self, *_: None)
    monkeypatch.setattr(Connection, "children", lambda *_: children)
    served = dataclasses.replace(target, uri="http://me:secret@tracker:5000")
    assert page_addresses(served) == {
        run_id: f"http://tracker:5000/#/experiments/{target.experiment_id}/runs/{run.info.run_id}"
        "?workflowType=machine_learning"
        for run_id, run in children.items()
    }


# That it never stops or slows the sender


def test_an_absent_server_is_one_line(plant_sweep: Any) -> None:
    store, _ = plant_sweep()
    uri = f"http://127.0.0.1:{_free_port()}"
    began = time.monotonic()
    with pytest.raises(TrackingUnavailable, match=f"MLflow at {uri} cannot be used: ") as caught:
        locate(uri, store, "planted")
    assert time.monotonic() - began < 10  # mlflow's own retries would take four minutes
    assert "\n" not in str(caught.value)
    with pytest.raises(TrackingUnavailable, match="cannot be used"):
        Connection(uri).check()


def test_without_a_server_nothing_waits_and_nothing_is_claimed(plant_sweep: Any) -> None:
    store, entries = plant_sweep()
    tracker = Tracker("planted", store)
    preparation = Preparation(f"http://127.0.0.1:{_free_port()}", store, "planted")
    preparation.start()
    began = time.monotonic()
    for epoch in range(200):
        tracker.epochs(entries[0]["run_id"], [{"epoch": epoch, "step": 1, "train_loss": 1.0}])
    tracker.finish(entries[0]["run_id"])
    assert time.monotonic() - began < ENQUEUE_SECONDS
    _until(lambda: preparation.problem)
    assert preparation.target() is None
    _until(lambda: tracker.problem)
    began = time.monotonic()
    assert not tracker.close(timeout=30)
    assert time.monotonic() - began < 5
    preparation.stop(timeout=30)
    assert read_target(store, "planted") is None


def test_an_earlier_launchs_target_is_not_used(planted: Planted) -> None:
    store, _ = planted
    prepare(resolve_tracking_uri(None, store.root), store, "planted")
    assert read_target(store, "planted") is not None
    preparation = Preparation(f"http://127.0.0.1:{_free_port()}", store, "planted")
    assert read_target(store, "planted") is None
    preparation.stop(timeout=30)


def test_a_damaged_run_stays_unsent_and_the_others_go_on(planted: Planted) -> None:
    store, entries = planted
    target = prepare(resolve_tracking_uri(None, store.root), store, "planted")
    manifest = store.run(entries[0]["run_id"]).manifest_path
    manifest.write_text(manifest.read_text().replace("interpolating", "other"))
    tracker = Tracker("planted", store)
    tracker.finish(entries[0]["run_id"])
    tracker.finish(entries[1]["run_id"])
    children = _until(lambda: Connection(target.uri).children(target))
    assert not tracker.close(timeout=30)
    assert "altered" in str(tracker.problem)
    assert list(children) == [entries[1]["run_id"]]


def test_a_disabled_tracker_does_nothing(plant_sweep: Any) -> None:
    store, entries = plant_sweep()
    tracker = Tracker("planted", store, enabled=False)
    tracker.epochs(entries[0]["run_id"], [{"epoch": 0, "step": 1, "train_loss": 1.0}])
    tracker.finish(entries[0]["run_id"])
    assert tracker.close(timeout=0)
    assert not (store.root / "mlflow.db").exists()


def test_a_column_that_another_task_evaluates_is_sent_too(tmp_path: Path) -> None:
    write_table(tmp_path / "e.parquet", pd.DataFrame({"epoch": [0], "validation_iou": [0.5]}))
    rows = run_metrics({"metrics": {}, "seconds": {}}, read_table(tmp_path / "e.parquet"))
    assert rows == [("reference/validation_iou", 0.5, 0)]


def _uploaded(store: Store, entries: list[dict[str, Any]]) -> TrackingTarget:
    target = locate(resolve_tracking_uri(None, store.root), store, "planted")
    for entry in entries:
        content = finished(entry, "planted", store)
        assert content is not None
        assert Connection(target.uri).upload(target, content)
    return target


def _with_metrics(children: dict[str, Any]) -> dict[str, Any]:
    return {run_id: run for run_id, run in children.items() if run.data.metrics}


def _until(found: Any, patience_seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + patience_seconds
    while not (value := found()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return value


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
