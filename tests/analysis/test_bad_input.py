"""What a sweep may lack: one line each, and a report wherever there is anything to say."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis import ablations_of, figure, load_sweep, trend_table, verdicts, write_report
from trainables import store as store_module
from trainables.store import StoreTooNew, UserError

Plant = Callable[..., list[Any]]
Write = Callable[..., Any]


@pytest.fixture
def runs(plant: Plant) -> list[Any]:
    return plant("equal-epochs", 0.5, 0.5, batches=(64, 128), spread=0.01, epochs=4)


def page(storage: Path, out: Path) -> str:
    return write_report(load_sweep("planted", storage), out).html.read_text()


def test_a_sweep_without_a_run_has_a_report_that_says_so(
    storage: Path, write: Write, tmp_path: Path
) -> None:
    write(storage, [])
    sweep = load_sweep("planted", storage)
    assert sweep.runs.empty
    assert trend_table(ablations_of(sweep)).empty
    assert "0 of 0 planned runs count" in page(storage, tmp_path)


def test_runs_still_going_are_named_and_the_others_judged(
    storage: Path, write: Write, runs: list[Any], interrupt: Callable[..., None], tmp_path: Path
) -> None:
    runs[5].status = "not started"
    store = write(storage, runs)
    interrupt(store, "r005", step=40)
    text = page(storage, tmp_path)
    assert "unfinished: reference at step 40 of 100" in text
    assert "1 planned runs missing: batch size 128 unfinished" in text
    assert "5 of 6 planned runs count" in text


def test_an_axis_with_one_value_has_no_trend_and_says_so(
    storage: Path, write: Write, plant: Plant, tmp_path: Path
) -> None:
    write(storage, plant("equal-epochs", 0.5, 0.5, batches=(64,), epochs=4))
    text = page(storage, tmp_path)
    assert "batch size has one value (64), so no trend along it" in text
    assert trend_table(ablations_of(load_sweep("planted", storage))).empty


def test_all_seeds_of_a_level_diverged(
    storage: Path, write: Write, runs: list[Any], tmp_path: Path
) -> None:
    for run in runs:
        if run.axes["batch_size"] == 128:
            run.status, run.replay_exact = "diverged", None
    write(storage, runs)
    text = page(storage, tmp_path)
    assert "batch size 128: none of its 3 runs counts (diverged)" in text
    assert "3 of 6 planned runs can be used" in text


def test_every_run_diverged(storage: Path, write: Write, runs: list[Any], tmp_path: Path) -> None:
    for run in runs:
        run.status, run.replay_exact = "diverged", None
    write(storage, runs)
    text = page(storage, tmp_path)
    assert "0 of 6 planned runs count" in text
    assert text.count("diverged at step 7 (NaN or Inf); not in any trend") >= 6


def newer(monkeypatch: pytest.MonkeyPatch, write: Write, storage: Path, runs: list[Any]) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(store_module, "STORE_VERSION", store_module.STORE_VERSION + 1)
        write(storage, runs)


def test_a_store_of_a_newer_version_is_one_line(
    storage: Path, write: Write, runs: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    newer(monkeypatch, write, storage, runs)
    message = r"^.*plan\.json: written by a newer optpath; upgrade optpath to read it$"
    with pytest.raises(StoreTooNew, match=message):
        load_sweep("planted", storage)


def test_a_run_of_a_newer_version_is_named_and_the_others_judged(
    storage: Path, write: Write, runs: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer(monkeypatch, write, tmp_path / "newer", runs)
    write(storage, runs)
    (tmp_path / "newer" / "runs" / "r002").rename(tmp_path / "r002")
    (storage / "runs" / "r002").rename(tmp_path / "old")
    (tmp_path / "r002").rename(storage / "runs" / "r002")
    sweep = load_sweep("planted", storage)
    assert sweep.runs["status"].tolist().count("unreadable") == 1
    assert sweep.problems[0].endswith("written by a newer optpath; upgrade optpath to read it")
    assert len(sweep.usable) == 5
    assert "written by a newer optpath" in page(storage, tmp_path / "report")


def test_an_unknown_figure_lists_those_there_are(
    storage: Path, write: Write, runs: list[Any]
) -> None:
    write(storage, runs)
    with pytest.raises(UserError, match=r"^no figure 'gama'; there are: gamma\b"):
        figure(load_sweep("planted", storage), "gama")


def test_a_figure_that_has_nothing_to_show_says_so(
    storage: Path, write: Write, runs: list[Any]
) -> None:
    for run in runs:
        run.status = "not started"
    write(storage, runs)
    with pytest.raises(
        UserError, match=r"^planted: no finished run has what figure 'gamma' shows$"
    ):
        figure(load_sweep("planted", storage), "gamma")


def test_verdicts_are_a_table_even_where_there_are_none(
    storage: Path, write: Write, runs: list[Any]
) -> None:
    for run in runs:
        run.status = "not started"
    write(storage, runs)
    found = verdicts(load_sweep("planted", storage))
    assert found.empty
    assert found.columns.tolist()[:5] == ["id", "claim", "source", "scope", "verdict"]


def test_a_table_that_a_manifest_names_and_is_gone_is_an_error(
    storage: Path, write: Write, runs: list[Any]
) -> None:
    store = write(storage, runs)
    (store.run("r001").path / "epochs.parquet").unlink()
    with pytest.raises(UserError, match=r"run r001: no epochs\.parquet, though its manifest names"):
        _ = load_sweep("planted", storage).epochs


# What columns mean


def test_every_column_of_every_table_is_documented_with_its_unit(
    storage: Path, write: Write, runs: list[Any]
) -> None:
    write(storage, runs)
    sweep = load_sweep("planted", storage)
    documented = sweep.columns.set_index(["table", "column"])
    tables = {"runs": sweep.runs, "epochs": sweep.epochs, "steps": sweep.steps()}
    expected = [(table, name) for table, frame in tables.items() for name in frame.columns]
    assert documented.index.tolist() == expected
    assert (documented["meaning"] != "").all()
    assert documented.loc[("steps", "rsi"), "unit"] == "loss/weight^2"
    assert documented.loc[("epochs", "rsi_num_negative"), "unit"] == "steps"
    meaning = documented.loc[("epochs", "gamma_mean"), "meaning"]
    assert meaning == "cos(G_t, w_t - w*): mean over the epoch's defined steps"
    assert documented.loc[("runs", "num_steps"), "meaning"] == "steps of the whole run, T"
    assert documented.loc[("epochs", "num_steps"), "meaning"] != "steps of the whole run, T"


def test_tables_are_typed_even_where_runs_are_missing(
    storage: Path, write: Write, runs: list[Any]
) -> None:
    runs[0].status = "not started"
    write(storage, runs)
    types = load_sweep("planted", storage).runs.dtypes
    assert types["num_steps"] == pd.Int64Dtype()
    assert types["replay_exact"] == pd.BooleanDtype()
    assert types["batch_size"] == "int64"
    assert types["last_validation_accuracy"] == "float64"


def test_an_axis_that_some_runs_do_not_set_reads_as_words(
    storage: Path, write: Write, planted_run: type[Any], tmp_path: Path
) -> None:
    settings = [("sgd", {"optimizer.momentum": 0.9}), ("adam", {})]
    runs = [
        planted_run(
            axes={"optimizer.name": name, **options, "learning_rate.base": rate, "seed": seed},
            ablations=["optimizers"],
            num_steps=40,
            steps_per_epoch=10,
            gamma=np.full(40, 0.04 * (1 + seed / 100)),
            null=np.full(40, 0.02),
            metrics={"last_validation_accuracy": 0.5 + rate},
        )
        for name, options in settings
        for rate in (0.1, 0.2)
        for seed in (0, 1)
    ]
    runs[5].status = "failed"
    axes = ("optimizer.name", "optimizer.momentum", "learning_rate.base", "seed")
    write(storage, runs, axes=axes)
    written = write_report(load_sweep("planted", storage), tmp_path)
    text = written.markdown.read_text()
    assert not re.search(r"\b(nan|NaN|None)\b", text)
    assert not re.search(r"\b(nan|NaN)\b", written.summary.read_text())
    assert "optimizers: highest last validation accuracy, mean over the seeds." in text
    assert "| adam | not set | 0.2 | 0.7 |" in text
    assert "optimizer adam, learning rate 0.2" in text


def test_a_level_that_is_not_set_and_lost_is_named(
    storage: Path, write: Write, plant: Plant, tmp_path: Path
) -> None:
    runs = plant("stems", 0.1, 0.0, batches=(64, 128))
    for run in runs:
        lost = run.axes["batch_size"] == 128
        run.axes = {**({} if lost else {"model.stem": "cifar"}), "seed": run.axes["seed"]}
        run.status = "not started" if lost else "done"
    write(storage, runs, axes=("model.stem", "seed"))
    assert "model stem not set: none of its 3 runs counts (not started)" in page(storage, tmp_path)
