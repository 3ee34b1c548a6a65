"""Correlation, patterns and the bridge of real runs: whole, resumed, verified, refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from torch import Tensor

from geometry import patterns
from geometry.correlation import mean_correlation, off_diagonal_means
from geometry.probes.correlation import WHOLE_RUN_COLUMNS
from sweeps.catalogue import load_spec
from sweeps.plan import make_plan
from tests.geometry.test_correlation import by_lag
from trainables.config import RunConfig
from trainables.errors import UserError
from trainables.job import Job, Place, Progress, RunJob
from trainables.passes import work
from trainables.store import Store, read_table
from trainables.trajectory import Trajectory
from trainables.verify import verify_run

Tiny = Callable[..., RunConfig]
Build = Callable[[RunConfig], Trajectory]
Finish = Callable[..., list[Progress]]
CPU = torch.device("cpu")

WINDOW = 3
PROBES: list[Any] = [
    {"name": "correlation", "window": WINDOW},
    {"name": "layer_correlation", "window": 2},
    {"name": "sign_shift", "window": WINDOW},
]
FULL: dict[str, Any] = {
    "batch_size": "full",
    "chunk": 64,
    "optimizer": "sgd",
    "budget": {"steps": 40},
    "learning_rate": 0.5,
    "probes": PROBES,
}


class Kept:
    """Keeps every gradient of a trajectory."""

    needs_update = False

    def __init__(self) -> None:
        self.gradients: list[Tensor] = []

    def before_update(self, view: Any, loss: Tensor) -> None:
        self.gradients.append(view.gradient.double())

    def after_update(self, view: Any) -> None:
        """Nothing."""


def lagged(table: pd.DataFrame, column: str) -> Tensor:
    num_labels = table["label"].nunique()
    return torch.tensor(table[column].to_numpy()).view(-1, num_labels)


def test_the_tables_are_the_correlations_of_the_trajectorys_gradients(
    tiny: Tiny, trajectory: Build, store: Store, finish: Finish
) -> None:
    config = tiny(**FULL)
    kept = Kept()
    trajectory(config).advance(40, [kept])
    phases = {progress.phase for progress in finish(store, a=config)}
    assert phases == {"reference"}  # no w* is needed, so there is one pass
    path = store.run("a").path
    found = lagged(read_table(path / "correlation.parquet"), "correlation")
    expected = by_lag(torch.stack(kept.gradients), WINDOW)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6, equal_nan=True)
    steps = read_table(path / "steps.parquet")
    means = mean_correlation(expected[:, 1], WINDOW).numpy()
    np.testing.assert_allclose(steps["mean_correlation"], means, atol=1e-6)
    np.testing.assert_array_equal(
        steps["mean_correlation_causal"][WINDOW - 1 :], steps["mean_correlation"][: 1 - WINDOW]
    )
    labels = patterns.labels(patterns.indicators(off_diagonal_means(expected, WINDOW)))
    for name in patterns.PATTERNS:
        assert steps[f"is_{name}"][:38].tolist() == [float(label == name) for label in labels[:38]]
    assert {column.name for column in WHOLE_RUN_COLUMNS} <= set(steps)
    layers = read_table(path / "layer_correlation.parquet")
    assert layers["label"].nunique() == 6 * 2
    shifts = lagged(read_table(path / "sign_shift.parquet"), "sign_shift")
    assert ((shifts >= 0) & (shifts <= 100) | shifts.isnan()).all()


def test_dominance_and_lipschitz_constants_are_those_of_the_gradients_and_weights(
    tiny: Tiny, trajectory: Build, store: Store, finish: Finish
) -> None:
    config, kept, weights = tiny(**FULL), Kept(), []
    built = trajectory(config)
    for step in range(40):
        weights.append(built.flat.weights.double())
        built.advance(step + 1, [kept])
    finish(store, a=config)
    steps = read_table(store.run("a").path / "steps.parquet")
    gradients = torch.stack(kept.gradients)
    moved, turned = torch.stack(weights).diff(dim=0).norm(dim=1), gradients.diff(dim=0).norm(dim=1)
    np.testing.assert_allclose(steps["gradient_lipschitz"][:-1], turned / moved, rtol=1e-3)
    loss = torch.tensor(steps["loss"].to_numpy())
    dominance = (loss - loss.min()) / gradients.square().sum(1)
    np.testing.assert_allclose(steps["gradient_dominance"], dominance, rtol=1e-6)


def test_what_the_patterns_earned_stands_in_the_manifest(
    tiny: Tiny, store: Store, finish: Finish
) -> None:
    finish(store, a=tiny(**FULL))
    steps = read_table(store.run("a").path / "steps.parquet")
    manifest = store.run("a").manifest()
    assert manifest is not None
    metrics = manifest["metrics"]
    loss, mean = (torch.tensor(steps[name].to_numpy()) for name in ("loss", "mean_correlation"))
    assert metrics["zigzag_share_of_decrease"] == patterns.zigzag_share(loss, mean)
    for name in patterns.PATTERNS:
        assert metrics[f"{name}_share"] == pytest.approx(steps[f"is_{name}"].mean())
    assert sum(metrics[f"{name}_share"] for name in patterns.PATTERNS) == pytest.approx(1)


def test_a_mean_alone_a_cadence_and_other_optimizers_leave_out_what_they_cannot_give(
    tiny: Tiny, store: Store, finish: Finish
) -> None:
    alone = [{"name": "correlation", "window": WINDOW, "mean_only": True}]
    seldom = [{"name": "correlation", "window": WINDOW, "every": 2}]
    finish(store, trajectory_id="sgd", alone=tiny(optimizer="sgd", probes=alone))
    finish(store, trajectory_id="adam", adam=tiny(optimizer="adam", probes=PROBES))
    finish(store, trajectory_id="mom", seldom=tiny(probes=seldom))
    tables = {
        name: read_table(store.run(name).path / "steps.parquet")
        for name in ("alone", "adam", "seldom")
    }
    assert "entry_variation" not in tables["alone"]
    assert "gradient_lipschitz" in tables["alone"]
    assert "entry_variation" in tables["adam"]
    assert "gradient_lipschitz" not in tables["adam"]  # the length of its steps is not measured
    assert tables["seldom"]["mean_correlation"].notna().tolist() == [
        step % 2 == 0 and step <= 4 for step in range(9)
    ]
    for run_id in tables:
        verify_run(store, run_id, data_root=store.root, device=CPU)


# -- The bridge -------------------------------------------------------------------------------

BRIDGED = {
    "sgd": {"optimizer": "sgd"},
    "momentum, decay, schedule": {
        "optimizer": {"name": "momentum", "weight_decay": 0.01},
        "schedule": {"name": "milestones", "epochs": [1], "weight_decay": True},
    },
    "nesterov, decay": {"optimizer": {"name": "nesterov", "weight_decay": 0.01}},
}


@pytest.mark.parametrize("name", BRIDGED)
def test_the_bridge_leaves_nothing_over_where_all_lags_fit(
    name: str, tiny: Tiny, store: Store, finish: Finish
) -> None:
    probes = {
        "exact": ["bridge", {"name": "correlation", "window": 2, "all_lags_below_mib": 1}],
        "short": ["bridge", {"name": "correlation", "window": 2}],
    }
    runs = {key: tiny(**BRIDGED[name], probes=chosen) for key, chosen in probes.items()}
    finish(store, **runs)
    tables = {run_id: read_table(store.run(run_id).path / "steps.parquet") for run_id in runs}
    exact, short = tables["exact"], tables["short"]
    terms = sum(exact[f"bridge_{part}"] for part in ("own", "correlation", "momentum", "decay"))
    expected = exact["local_lr"] / exact["learning_rate"] - 1
    np.testing.assert_allclose(terms, expected, rtol=1e-3, atol=1e-3)  # weights are float32
    assert exact["bridge_left_over"].abs().max() < 1e-3
    assert short["bridge_left_over"].abs().max() > 0.01
    beyond = (exact["bridge_correlation"] - short["bridge_correlation"]) / (1 + expected)
    np.testing.assert_allclose(short["bridge_left_over"], beyond, atol=2e-3)
    for run_id in runs:
        verify_run(store, run_id, data_root=store.root, device=CPU)


@pytest.mark.parametrize(
    "optimizer", ["adam", {"name": "sgd", "gradient_clip": 1.0}], ids=["adam", "clipping"]
)
def test_an_update_that_is_not_linear_has_no_bridge(
    optimizer: Any, tiny: Tiny, store: Store, finish: Finish
) -> None:
    finish(store, a=tiny(optimizer=optimizer, probes=["bridge"], budget={"steps": 6}))
    steps = read_table(store.run("a").path / "steps.parquet")
    assert {"weight_product", "buffer_product", "gamma"} <= set(steps)
    assert "bridge_correlation" not in steps


# -- Resume, verify, refuse -------------------------------------------------------------------


def test_stopped_and_resumed_with_rings_the_files_are_the_same(
    tiny: Tiny, tmp_path: Path, finish: Finish
) -> None:
    runs = {
        "direct": tiny(probes=PROBES),
        "replayed": tiny(probes=["bridge", {"name": "correlation", "keep_as": "bf16"}]),
    }
    whole = Store(tmp_path / "whole")
    num_yields = len(finish(whole, checkpoint_seconds=0, **runs))

    def files(store: Store) -> dict[str, bytes]:
        paths = [p for run_id in runs for p in store.run(run_id).path.glob("*.*")]
        return {str(p.relative_to(store.root)): p.read_bytes() for p in paths}

    job = Job("t", tuple(RunJob(run_id, config) for run_id, config in runs.items()))
    for stop in range(num_yields - 1):
        store = Store(tmp_path / f"stopped-{stop}")
        working = work(job, Place(store, tmp_path, CPU, 1, 0))
        for _ in range(stop + 1):
            next(working)
        working.close()
        finish(store, checkpoint_seconds=0, **runs)
        assert files(store) == files(whole), f"stopped at yield {stop}"


def test_a_window_longer_than_the_run_is_refused_before_anything_starts(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    spec = {"base": {"budget": {"steps": 4}, "probes": [{"name": "correlation", "window": 5}]}}
    path.write_text(yaml.safe_dump(spec))
    with pytest.raises(UserError) as found:
        make_plan(load_spec(str(path), []), tmp_path, num_train=lambda *_: 1000)
    assert "\n" not in str(found.value)
    assert str(found.value).endswith(
        "probe correlation: window: 5 steps are more than the run has (4); give at most 4"
    )
    with pytest.raises(UserError, match="probe correlation: window must be at least 2 steps"):
        RunConfig.parse({"probes": [{"name": "correlation", "window": 1}]})
    with pytest.raises(UserError, match="keep_on: input should be 'device' or 'host', got 'disk'"):
        RunConfig.parse({"probes": [{"name": "sign_shift", "keep_on": "disk"}]})
