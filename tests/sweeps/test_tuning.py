"""The tuning stage: the space, the study, and the whole command on real Ray, SQLite and MLflow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from sweeps.catalogue import load_spec
from sweeps.places import Places
from sweeps.study import add_trial, best_trial, finished_trials, open_study
from sweeps.tuning_log import log_trials
from sweeps.tuning_spec import Tuning
from trainables.config import RunConfig
from trainables.errors import UserError
from trainables.search import TrialDiverged, TrialProgress, search_trial
from trainables.store import Store
from trainables.trajectory import Trajectory

pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy:DeprecationWarning"  # mlflow 3.17 on SQLAlchemy 2.1
)

GRID = Tuning(sampler="grid", space={"learning_rate.base": [0.1, 0.01], "model.hidden": [[4], [8]]})

SWEEP: dict[str, Any] = {
    "name": "small",
    "base": {
        "data": {"name": "digits", "train_examples": 96, "validation_examples": 20},
        "model": {"name": "mlp", "hidden": [8]},
        "batch_size": 32,
        "budget": {"epochs": 3},
    },
    "grid": {"batch_size": [16, 32]},
}


def written(folder: Path, tuning: dict[str, Any]) -> Path:
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump({**SWEEP, "tuning": tuning}))
    return path


@pytest.mark.parametrize(
    ("tuning", "message"),
    [
        ({"space": {}}, r"tuning\.space: empty"),
        ({"space": {"learning_rte": [1]}}, r"unknown key 'learning_rte'"),
        ({"space": {"seed": []}}, r"tuning\.space\.seed: an empty list"),
        ({"space": {"learning_rate.base": 3}}, r"tuning\.space\.learning_rate\.base: a list"),
        ({"space": {"learning_rate.base": {"low": 1, "high": 1}}}, r"low 1 must be below high 1"),
        (
            {"space": {"learning_rate.base": {"low": 0, "high": 1, "log": True}}},
            r"a logarithmic range starts above 0",
        ),
        ({"sampler": "grid"}, r"a grid needs a list of levels, not a range"),
        ({"trials": 0}, r"greater than or equal to 1"),
        ({"smapler": "grid"}, r"unknown key 'smapler'; did you mean sampler"),
    ],
)
def test_a_tuning_that_makes_no_sense_is_one_line(
    tmp_path: Path, tuning: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load_spec(str(written(tmp_path, tuning)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("base", "tuning", "metric", "mode"),
    [
        ({}, {}, "validation_accuracy", "max"),
        ({}, {"metric": "validation_loss"}, "validation_loss", "min"),
        ({}, {"metric": "validation_loss", "mode": "max"}, "validation_loss", "max"),
        (
            {"task": "language_modelling", "data": "wikitext2", "model": "transformer"},
            {},
            "validation_perplexity",
            "min",
        ),
        (
            {"task": "synthetic", "data": "quadratic", "model": "vector"},
            {},
            "validation_loss",
            "min",
        ),
    ],
)
def test_a_search_is_judged_as_its_task_says(
    tmp_path: Path, base: dict[str, Any], tuning: dict[str, Any], metric: str, mode: str
) -> None:
    path = tmp_path / "judged.yaml"
    path.write_text(yaml.safe_dump({"name": "judged", "base": base, "tuning": tuning}))
    found = load_spec(str(path)).tuning
    assert (found.metric, found.mode) == (metric, mode)


def test_a_trial_trains_as_the_reference_pass_does(tmp_path: Path) -> None:
    config = RunConfig.parse(SWEEP["base"])
    device = torch.device("cpu")
    seen = list(search_trial(config, tmp_path, device, 1))
    task = config.task.bind(config, tmp_path, device)
    trajectory = Trajectory(config, task, device)
    trajectory.advance(9)
    assert [(p.epoch, p.done) for p in seen] == [(0, False), (1, False), (2, True)]
    assert seen[-1].evaluation["validation_loss"] == trajectory.evaluate("validation")["loss"]
    assert not list(tmp_path.iterdir())


def test_a_trial_that_diverges_says_so_and_has_no_value(tmp_path: Path) -> None:
    device = torch.device("cpu")
    config = RunConfig.parse({**SWEEP["base"], "learning_rate": 1e30})
    with pytest.raises(TrialDiverged, match="diverged at step"):
        list[TrialProgress](search_trial(config, tmp_path, device, 1))


def test_the_study_keeps_its_trials_and_refuses_another_question(tmp_path: Path) -> None:
    study = open_study(tmp_path / "s", GRID)
    add_trial(
        study, GRID, {"learning_rate.base": "0.1", "model.hidden": "[4]"}, [0.3, 0.5], ok=True
    )
    add_trial(study, GRID, {"learning_rate.base": "0.01", "model.hidden": "[4]"}, [0.4], ok=True)
    add_trial(study, GRID, {"learning_rate.base": "0.1", "model.hidden": "[8]"}, [0.9], ok=False)
    study.ask()  # a command that is stopped now leaves this one open
    trials = finished_trials(open_study(tmp_path / "s", GRID))
    assert [(t.number, t.value, t.history) for t in trials] == [
        (0, 0.5, (0.3, 0.5)),
        (1, 0.4, (0.4,)),
        (2, None, (0.9,)),
    ]
    assert trials[0].values == {"learning_rate.base": 0.1, "model.hidden": [4]}
    least = GRID.model_copy(update={"mode": "min"})
    assert [best_trial(trials, t).number for t in (GRID, least)] == [0, 1]  # type: ignore[union-attr]
    assert best_trial(trials[2:], GRID) is None
    with pytest.raises(UserError, match=r"tuning\.db: tuned for another metric, mode or space"):
        open_study(tmp_path / "s", least)


def test_trials_are_runs_under_a_tuning_parent(tmp_path: Path) -> None:
    import mlflow

    study = open_study(tmp_path / "s", GRID)
    values = {"learning_rate.base": "0.1", "model.hidden": "[4]"}
    add_trial(study, GRID, values, [0.25, 0.5], ok=True)
    add_trial(study, GRID, {**values, "model.hidden": "[8]"}, [], ok=False)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    here = Places(Store(tmp_path), tmp_path, uri)
    for _ in range(2):  # a second time changes nothing
        log_trials("s", finished_trials(study), GRID, here)
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("optpath")
    assert experiment is not None
    runs = {r.data.tags["optpath.kind"]: r for r in client.search_runs([experiment.experiment_id])}
    found = client.search_runs([experiment.experiment_id], "tags.`optpath.kind` = 'trial'")
    by_number = {run.data.tags["optpath.trial"]: run for run in found}
    assert len(found) == 2
    assert by_number["0"].data.params == {"learning_rate.base": "0.1", "model.hidden": "[4]"}
    history = client.get_metric_history(by_number["0"].info.run_id, "validation_accuracy")
    assert [point.value for point in history] == [0.25, 0.5]
    assert by_number["1"].info.status == "FAILED"
    parent = runs["tuning"].info.run_id
    assert {run.data.tags["mlflow.parentRunId"] for run in found} == {parent}


def tuned(command_line: Any, path: Path) -> Path:
    """Tune, and once more, which finds nothing left to try; the file of the best."""
    first = command_line("tune", str(path))
    assert first.returncode == 0, first.stdout + first.stderr
    assert first.stdout.count("after 3 evaluations") == 4
    again = command_line("tune", str(path))
    assert again.returncode == 0, again.stdout + again.stderr
    assert "after" not in again.stdout, "the study was complete"
    assert "best of 4 trials: validation_accuracy" in again.stdout
    return Store(command_line.storage).root / "tuning" / "small" / "best.yaml"


RATES = [0.05, 1.0e-6]


def test_a_search_resumes_and_its_best_is_what_the_sweep_runs(
    command_line: Any, tmp_path: Path
) -> None:
    space = {"learning_rate.base": RATES, "model.hidden": [[8], [4]]}
    path = written(tmp_path, {"trials": 4, "prune": False, "space": space})
    best = tuned(command_line, path)
    learning_rate = yaml.safe_load(best.read_text())["base"]["learning_rate"]
    shown = load_spec(str(path), over=best)
    assert RunConfig.parse(shown.base).learning_rate.base == learning_rate["base"]


@pytest.mark.slow
def test_a_grid_tries_every_point_once(command_line: Any, tmp_path: Path) -> None:
    space = {"learning_rate.base": RATES, "model.hidden": [[8], [4]]}
    path = written(tmp_path, {"sampler": "grid", "space": space, "prune": False})
    best = tuned(command_line, path)
    assert yaml.safe_load(best.read_text())["base"]["learning_rate"] == {"base": 0.05}
