"""What a schedule did, and what is wrong with it, reaches the runs table and the person."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from analysis import load_sweep
from sweeps.catalogue import load_spec
from sweeps.plan import make_plan
from sweeps.plan_store import write_plan
from sweeps.runner import schedule_warnings
from trainables.job import Job, Place, RunJob
from trainables.passes import work
from trainables.store import Store

SWEEP = {
    "name": "mine",
    "base": {
        "data": {"name": "digits", "train_examples": 96, "validation_examples": 20},
        "model": {"name": "mlp", "hidden": [8]},
        "budget": {"steps": 6},
        "schedule": {"name": "gawu", "latest_change_point": 2},
    },
    "grid": {"batch_size": [1, 48, "full"]},
}


def test_the_change_point_its_reason_and_a_warning_stand_in_the_runs_table(
    tmp_path: Path,
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(SWEEP))
    plan, store = make_plan(load_spec(str(file), []), tmp_path), Store(tmp_path / "store")
    write_plan(store, plan)
    for run in plan.runs:
        job = Job(run.trajectory_id, (RunJob(run.run_id, run.config),))
        list(work(job, Place(store, tmp_path, torch.device("cpu"), torch.get_num_threads())))
    (warning,) = schedule_warnings(plan, store)
    assert warning.startswith(f"warning: run {plan.runs[0].run_id}: schedule gawu: minibatch gradi")

    runs = load_sweep("mine", store.root).runs
    assert runs["batch_size"].tolist() == [1, 48, 96]
    assert runs["schedule_change_step"].tolist() == [2, 2, 2]
    assert runs["schedule_change_reason"].tolist() == ["fallback"] * 3
    assert runs["schedule_peak_learning_rate"].tolist() == pytest.approx(
        [0.01 * 2.718281828**0.3] * 3
    )
    assert runs["schedule_warning"].notna().tolist() == [True, False, False]
