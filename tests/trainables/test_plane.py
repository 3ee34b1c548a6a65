"""The plane of two weights: coordinates of the path, level sets, and the figure drawn from them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis import load_sweep
from analysis.cells import ablations_of
from analysis.figures.contract import save_figure
from analysis.figures.level_sets import LEVEL_SETS
from sweeps.catalogue import load_spec
from sweeps.plan import make_plan
from sweeps.plan_store import write_plan
from trainables.config import RunConfig
from trainables.errors import UserError
from trainables.job import Progress
from trainables.store import Store, read_table

Finish = Callable[..., list[Progress]]


def bowl(*probes: Any, **options: Any) -> RunConfig:
    """Gradient descent on w_0^2 + 2 w_1^2 + 8 w_2^2 from (1, -2, 3)."""
    return RunConfig.parse(
        {
            "task": "synthetic",
            "data": {"name": "quadratic", "dimension": 3, "eigenvalues": [2.0, 4.0, 16.0]},
            "model": {"name": "vector", "start": [1.0, -2.0, 3.0]},
            "optimizer": "sgd",
            "batch_size": 50,
            "learning_rate": 0.1,
            "budget": {"steps": 4},
            "probes": ["path", *probes],
            **options,
        }
    )


def test_coordinates_are_those_of_the_weights_before_each_step(
    store: Store, finish: Finish
) -> None:
    finish(store, a=bowl({"name": "coordinates", "first": 2, "second": 0}))
    steps = read_table(store.run("a").path / "steps.parquet")
    factors = np.arange(4)
    assert steps["first_weight"].to_numpy() == pytest.approx(3 * (1 - 1.6) ** factors, rel=1e-5)
    assert steps["second_weight"].to_numpy() == pytest.approx(0.8**factors, rel=1e-5)


def test_level_sets_are_the_loss_with_the_other_weights_at_the_end_of_the_run(
    store: Store, finish: Finish
) -> None:
    finish(store, a=bowl({"name": "level_sets", "low": -1, "high": 1, "points": 3}))
    table = read_table(store.run("a").path / "level_sets.parquet")
    assert table["step"].tolist() == [0] * 9
    last = 3 * (1 - 1.6) ** 4
    for label, level in zip(table["label"], table["level"], strict=True):
        x, y = map(float, label.split())
        assert level == pytest.approx(x**2 + 2 * y**2 + 8 * last**2, rel=1e-5)
    assert table["label"].iloc[:4].tolist() == ["-1 -1", "-1 0", "-1 1", "0 -1"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "coordinates", "first": 1}, r"two weights from 0 on, not \(1, 1\)"),
        ({"name": "level_sets", "low": 2, "high": 2}, "low, high: 2.* is not below 2"),
        ({"name": "level_sets", "points": 1}, "points: at least 2, not 1"),
    ],
)
def test_a_plane_that_is_none_is_a_user_error(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        bowl(options)


SWEEP = """\
title: Bowl
question: Where does the path go?
base:
  task: synthetic
  data: {name: quadratic, dimension: 3, eigenvalues: [2.0, 4.0, 16.0]}
  model: {name: vector, start: [1.0, -2.0, 3.0]}
  optimizer: sgd
  batch_size: 50
  budget: {steps: 4}
  probes: [path, coordinates, level_sets]
grid:
  learning_rate: [0.1, 0.05]
"""


def test_the_figure_draws_levels_and_path_of_each_run(
    store: Store, finish: Finish, tmp_path: Path
) -> None:
    (tmp_path / "bowl.yaml").write_text(SWEEP)
    plan = make_plan(load_spec(str(tmp_path / "bowl.yaml")), tmp_path)
    write_plan(store, plan)
    for run in plan.runs:
        finish(store, trajectory_id=run.trajectory_id, **{run.run_id: run.config})
    sweep = load_sweep("bowl", store.root)
    table = LEVEL_SETS.table(sweep, ablations_of(sweep))
    assert table["run_id"].nunique() == 2
    assert (table["part"] == "level").sum() == 2 * 41 * 41
    path = table[(table["part"] == "path") & (table["run_id"] == plan.runs[0].run_id)]
    assert path["x"].to_numpy() == pytest.approx(0.8 ** np.arange(4), rel=1e-5)
    saved = save_figure(LEVEL_SETS, sweep, ablations_of(sweep), tmp_path)
    assert saved is not None
    assert saved.png.read_bytes().startswith(b"\x89PNG")
