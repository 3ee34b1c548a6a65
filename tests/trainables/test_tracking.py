"""That what is tracked gets there: a real SQLite store, asked as a user would ask it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from tests.trainables.tracked import Planted, histories, stored, until, uploaded
from trainables.store import read_table
from trainables.tracker import Preparation, Tracker
from trainables.tracking import Connection, locate, prepare, read_target
from trainables.tracking_content import finished, opening, reference_metrics
from trainables.tracking_report import log_report, page_addresses
from trainables.tracking_uri import resolve_tracking_uri

pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy:DeprecationWarning"  # mlflow 3.17 on SQLAlchemy 2.1
)


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
    live = until(lambda: with_metrics(connection.children(target)))
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
    target = uploaded(store, entries)
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
    target = uploaded(store, entries)
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
    assert uploaded(store, entries[:1]) == target
    (run,) = connection.children(target).values()
    assert run.info.run_id != stale.info.run_id
    assert histories(target, run) == stored(store, entries[0])


def test_a_second_upload_sends_nothing(planted: Planted) -> None:
    store, entries = planted
    target = uploaded(store, entries[:1])
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
    target = uploaded(store, entries)
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


def with_metrics(children: dict[str, Any]) -> dict[str, Any]:
    return {run_id: run for run_id, run in children.items() if run.data.metrics}
