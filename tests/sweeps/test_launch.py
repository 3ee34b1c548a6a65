"""Real Ray, real MLflow, the real command line: sweeps run, go on, extend, fail, are stopped."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from sweeps.plan_store import read_plan
from sweeps.verification import verify_sweep
from trainables.config import RunConfig
from trainables.job import Job, Place, RunJob
from trainables.passes import work
from trainables.store import Store, read_table

pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy:DeprecationWarning"  # mlflow 3.17 on SQLAlchemy 2.1
)

QUICKSTART = ("run", "quickstart", "batch_size=64,256")
LONG = ("run", "quickstart", "ablations=equal-epochs", "batch_size=16", "seeds=0")
"""One run of 93 steps an epoch; with 30 epochs it takes long enough to be interrupted."""


@pytest.fixture(scope="module")
def first(command_line: Any) -> subprocess.CompletedProcess[str]:
    """The quickstart over two batch sizes and two seeds: 8 runs on 4 trajectories."""
    result: subprocess.CompletedProcess[str] = command_line(*QUICKSTART, "seeds=0,1")
    return result


@pytest.fixture(scope="module")
def store(command_line: Any, first: Any) -> Store:
    return Store(command_line.storage)


def runs_of(store: Store, sweep: str = "quickstart") -> list[dict[str, Any]]:
    runs: list[dict[str, Any]] = read_plan(store, sweep)["runs"]
    return runs


def seals(store: Store) -> dict[str, bytes]:
    """Every file of every run, whatever it says."""
    files = sorted(store.root.glob("runs/*/*"))
    return {str(path.relative_to(store.root)): path.read_bytes() for path in files}


def done_here(entries: Sequence[dict[str, Any]], folder: Path) -> Store:
    """The same runs in a store of their own, without Ray, one trajectory after another."""
    here = Store(folder)
    place = Place(here, folder / "data", torch.device("cpu"), num_threads=1)
    groups: dict[str, list[RunJob]] = {}
    for entry in entries:
        job = RunJob(entry["run_id"], RunConfig.parse(entry["config"]))
        groups.setdefault(entry["trajectory_id"], []).append(job)
    for trajectory_id, jobs in groups.items():
        for _ in work(Job(trajectory_id, tuple(jobs)), place):
            pass
    return here


def assert_same_tables(store: Store, other: Store, entries: Sequence[dict[str, Any]]) -> None:
    for entry in entries:
        for name in ("steps.parquet", "epochs.parquet"):
            ours = (store.run(entry["run_id"]).path / name).read_bytes()
            assert ours == (other.run(entry["run_id"]).path / name).read_bytes(), entry["axes"]


# From the command to the report


def test_one_command_ends_with_a_verdict_and_a_report(first: Any, store: Store) -> None:
    assert first.returncode == 0, first.stdout + first.stderr
    assert first.stderr == ""
    lines = first.stdout.splitlines()
    assert "quickstart: 8 runs  8 done" in lines
    report = store.sweep("quickstart").path / "report.html"
    assert f"report: {report}" in lines
    assert "null" in first.stdout
    assert "optpath ui" in lines[-1]
    assert all(store.run(run["run_id"]).manifest()["replay_exact"] for run in runs_of(store))


def test_the_report_is_one_file_and_the_figures_are_files(store: Store) -> None:
    folder = store.sweep("quickstart").path
    html = (folder / "report.html").read_text()
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?:https?:|//)""", html)
    assert {".png", ".svg"} <= {path.suffix for path in (folder / "figures").iterdir()}
    assert json.loads((folder / "summary.json").read_text())


def test_every_run_is_in_mlflow_as_it_is_in_the_store(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store.root}/mlflow.db")
    found = mlflow.search_runs(
        experiment_names=["optpath"], filter_string="tags.`optpath.kind` = 'run'"
    ).set_index("tags.optpath.run_id")
    entries = runs_of(store)
    assert sorted(found.index) == sorted(entry["run_id"] for entry in entries)
    assert set(found["status"]) == {"FINISHED"}
    assert set(found["tags.optpath.sweep"]) == {"quickstart"}
    assert set(found["tags.optpath.replay_exact"].str.lower()) == {"true"}
    assert found["tags.mlflow.parentRunId"].nunique() == 1
    client = mlflow.MlflowClient()
    for entry in entries:
        row = found.loc[entry["run_id"]]
        assert row["tags.optpath.trajectory_id"] == entry["trajectory_id"]
        assert int(row["params.batch_size"]) == entry["config"].get("batch_size", 64)
        epochs = read_table(store.run(entry["run_id"]).path / "epochs.parquet")
        history = client.get_metric_history(row["run_id"], "path/gamma_mean")
        assert [point.value for point in history] == epochs["gamma_mean"].dropna().tolist()
        artifacts = {file.path for file in client.list_artifacts(row["run_id"])}
        assert {"config.yaml", "steps.parquet", "epochs.parquet", "manifest.json"} <= artifacts


def test_the_sweeps_own_run_says_the_verdict_and_has_the_report(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store.root}/mlflow.db")
    found = mlflow.search_runs(
        experiment_names=["optpath"], filter_string="tags.`optpath.kind` = 'sweep'"
    )
    (parent,) = found.to_dict("records")
    assert parent["status"] == "FINISHED"
    assert "gamma" in parent["tags.mlflow.note.content"]
    client = mlflow.MlflowClient()
    artifacts = {file.path for file in client.list_artifacts(parent["run_id"])}
    assert {"report.html", "plan.json", "spec.yaml", "figures"} <= artifacts


def test_the_same_command_again_reuses_every_run(command_line: Any, store: Store) -> None:
    before = seals(store)
    again = command_line(*QUICKSTART, "seeds=0,1")
    assert again.returncode == 0, again.stderr
    assert "quickstart: 8 runs  8 reused" in again.stdout.splitlines()
    assert seals(store) == before


@pytest.mark.slow
def test_a_larger_grid_extends_and_a_reused_actor_gives_the_same_bits(
    command_line: Any, store: Store, tmp_path: Path
) -> None:
    before = seals(store)
    longer = command_line(*QUICKSTART, "seeds=0,1,2", "--max-concurrent", "1")
    assert longer.returncode == 0, longer.stdout + longer.stderr
    assert "quickstart: 12 runs  4 done  8 reused" in longer.stdout.splitlines()
    after = seals(store)
    assert {name: after[name] for name in before} == before
    # two trajectories, one actor: the second was done where the first had been
    new = [entry for entry in runs_of(store) if entry["axes"]["seed"] == 2]
    assert len({entry["trajectory_id"] for entry in new}) == 2
    assert_same_tables(store, done_here(new, tmp_path), new)


def test_verify_passes_until_a_byte_is_flipped(command_line: Any, store: Store) -> None:
    console = Console()
    num_runs = len(runs_of(store))
    with console.capture() as words:
        assert verify_sweep(store, "quickstart", store.root, console) == 0
    assert f"{num_runs} of {num_runs} finished runs verified, 0 failed" in words.get()
    path = store.run(runs_of(store)[0]["run_id"]).path / "steps.parquet"
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    try:
        bad = command_line("verify", "quickstart")
    finally:
        path.write_bytes(content)
    assert bad.returncode == 1
    assert f"{path}: content differs" in bad.stdout
    assert f"{num_runs - 1} of {num_runs} finished runs verified, 1 failed" in bad.stdout


# Runs that do not end well


def test_a_run_that_diverges_is_a_result_and_stops_no_other(fresh_command_line: Any) -> None:
    options = ("run", "quickstart", "ablations=equal-steps", "budget.steps=40", "seeds=0")
    grid = ("batch_size=256", "learning_rate.base=0.01,1.0e+6")
    result = fresh_command_line(*options, *grid)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "quickstart: 2 runs  1 done  1 failed" in result.stdout.splitlines()
    step = int(re.search(r"training diverged at step (\d+)", result.stdout)[1])
    assert 0 <= step < 40
    store = Store(fresh_command_line.storage)
    states = {run["axes"]["learning_rate.base"]: run["run_id"] for run in runs_of(store)}
    manifest = store.run(states[1e6]).manifest()
    assert (manifest["status"], manifest["diverged_at_step"]) == ("diverged", step)
    assert store.run(states[0.01]).manifest()["status"] == "done"
    assert not (store.run(states[1e6]).path / "steps.parquet").exists()
    expected = fresh_command_line(*options, *grid, "expects_divergence=true")
    assert expected.returncode == 0, expected.stdout + expected.stderr
    assert "quickstart: 2 runs  2 reused" in expected.stdout.splitlines()
    assert f"training diverged at step {step}, as expected" in expected.stdout


@pytest.mark.slow
def test_a_sweep_of_which_every_run_diverges_is_reported_too(fresh_command_line: Any) -> None:
    grid = ("budget.steps=40", "seeds=0", "batch_size=256", "learning_rate.base=1.0e+6")
    result = fresh_command_line("run", "quickstart", "ablations=equal-steps", *grid)
    assert result.returncode == 1, result.stdout + result.stderr
    assert result.stderr == ""
    assert "quickstart: 1 run  1 failed" in result.stdout.splitlines()
    assert (fresh_command_line.storage / "sweeps/quickstart/report.html").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("kills", [1, 2])
def test_a_worker_that_is_killed_is_tried_once_more(
    fresh_command_line: Any, until: Any, kills: int
) -> None:
    store = Store(fresh_command_line.storage)
    process = fresh_command_line.start(*LONG, "budget.epochs=200")
    for _ in range(kills):
        until(reaches(store, 1))
        for pid in workers(fresh_command_line):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for path in store.root.glob("trajectories/*/progress.json"):
            path.unlink()
    output, complaint = process.communicate(timeout=600)
    assert complaint == ""
    assert process.returncode == (0 if kills == 1 else 1), output
    ending = "1 done" if kills == 1 else "1 failed"
    assert f"quickstart: 1 run  {ending}" in output.splitlines()
    assert ("the worker was killed" in output) == (kills == 2)


def workers(command_line: Any) -> list[int]:
    """The process ids of the actors that work on trajectories."""
    lines = (line.split() for line in command_line.processes())
    return [int(pid) for pid, *words in lines if words and "Trainable" in words[0]]


# Stopped, killed, gone on


def reaches(store: Store, epoch: int) -> Callable[[], bool]:
    """True once some trajectory's reference pass is that far, or further."""

    def is_there() -> bool:
        for path in store.root.glob("trajectories/*/progress.json"):
            progress = json.loads(path.read_bytes())
            if progress["phase"] == "replay" or progress["epoch"] >= epoch:
                return True
        return False

    return is_there


def mlflow_states(store: Store) -> set[str]:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{store.root}/mlflow.db")
    experiment = client.get_experiment_by_name("optpath")
    return {run.info.status for run in client.search_runs([experiment.experiment_id])}


def stop(process: subprocess.Popen[str], number: signal.Signals) -> str:
    """Ctrl-C reaches the whole foreground group, SIGTERM the process that was named."""
    (os.kill if number == signal.SIGTERM else os.killpg)(process.pid, number)
    return process.communicate(timeout=120)[1]


def assert_it_ends_with_the_bits_of_a_quiet_run(
    command_line: Any, command: Sequence[str], folder: Path
) -> None:
    last = command_line(*command)
    assert last.returncode == 0, last.stdout + last.stderr
    store = Store(command_line.storage)
    entries = runs_of(store)
    assert_same_tables(store, done_here(entries, folder), entries)


def test_stopped_it_says_how_to_go_on_leaves_nothing_running_and_goes_on(
    fresh_command_line: Any, until: Any, tmp_path: Path
) -> None:
    command = (*LONG, "budget.epochs=30")
    store = Store(fresh_command_line.storage)
    for number, epoch in ((signal.SIGINT, 1), (signal.SIGTERM, 2)):
        for path in store.root.glob("trajectories/*/progress.json"):
            path.unlink()
        process = fresh_command_line.start(*command)
        until(reaches(store, epoch))
        complaint = stop(process, number)
        assert process.returncode == 130, complaint
        assert complaint.splitlines() == [
            "stopped; what is done is kept. To go on: optpath " + " ".join(command)
        ]
        assert fresh_command_line.processes() == []
        assert "RUNNING" not in mlflow_states(store)
    assert_it_ends_with_the_bits_of_a_quiet_run(fresh_command_line, command, tmp_path / "here")


@pytest.mark.slow
def test_killed_with_its_whole_group_it_goes_on_to_the_same_bits(
    fresh_command_line: Any, until: Any, tmp_path: Path
) -> None:
    command = (*LONG, "budget.epochs=30")
    process = fresh_command_line.start(*command)
    until(reaches(Store(fresh_command_line.storage), random.Random(2).randrange(30)))
    stop(process, signal.SIGKILL)
    assert_it_ends_with_the_bits_of_a_quiet_run(fresh_command_line, command, tmp_path / "here")
    until(lambda: not fresh_command_line.processes())


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("seconds", random.Random(1).choices(range(80), k=4))
def test_stopped_while_it_starts_it_leaves_nothing_running(
    fresh_command_line: Any, until: Any, number: signal.Signals, seconds: int
) -> None:
    process = fresh_command_line.start(*LONG)
    until((fresh_command_line.storage / "sweeps/quickstart/plan.json").exists)
    time.sleep(seconds / 10)
    complaint = stop(process, number)
    assert process.returncode == 130, complaint
    assert complaint.startswith("stopped;")
    assert len(complaint.splitlines()) == 1
    assert fresh_command_line.processes() == []


@pytest.mark.slow
def test_a_running_cluster_is_joined_and_left_running(fresh_command_line: Any, until: Any) -> None:
    ray = [sys.executable, "-m", "ray.scripts.scripts"]
    start = [*ray, "start", "--head", "--port=0", "--num-cpus=2", "--include-dashboard=false"]
    fresh_command_line.options["env"]["RAY_AUTH_MODE"] = "disabled"  # it is on the loopback address
    options = fresh_command_line.options | {"stdout": subprocess.PIPE, "text": True}
    try:
        started = subprocess.run([*start, "--node-ip-address=127.0.0.1"], check=True, **options)
        address = re.search(r"--address='([^']+)'", started.stdout)[1]
        asked = (*QUICKSTART, "budget.epochs=2", "ablations=equal-epochs", "--address", address)
        result = fresh_command_line(*asked, "seeds=0")
        assert result.returncode == 0, result.stdout + result.stderr
        assert "quickstart: 2 runs  2 done" in result.stdout.splitlines()
        refused = fresh_command_line(*asked, "seeds=1", "--cpus-per-run", "3")
        assert refused.returncode == 2
        assert "--cpus-per-run: 3 asked, no node of Ray has more than 2" in refused.stderr
        assert any("raylet" in line for line in fresh_command_line.processes())
    finally:
        for line in fresh_command_line.processes():
            os.kill(int(line.split()[0]), signal.SIGKILL)
    until(lambda: not fresh_command_line.processes())
    nobody = fresh_command_line(*asked, "seeds=1")
    assert nobody.returncode == 2
    assert f"--address {address}: no Ray cluster answers" in nobody.stderr
