"""A run that takes the locally optimal steps of another: closed forms, planted curves, resume."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sweeps.identity import identities, run_id
from tests.trainables.conftest import do_followed
from tests.trainables.trainings import training
from trainables.config import RunConfig
from trainables.curves import stored_curve
from trainables.errors import UserError
from trainables.job import Job, Place, Progress, RunJob
from trainables.passes import work
from trainables.reference import load_record
from trainables.registry import build
from trainables.schedules.oracle import Oracle, trailing_mean
from trainables.search import search_trial
from trainables.store import Store, StoreDamaged, read_table, write_table
from trainables.verify import verify_run

Tiny = Callable[..., RunConfig]
Finish = Callable[..., list[Progress]]
CPU = torch.device("cpu")
NAN = math.nan


def rates(curve: tuple[float, ...], **options: Any) -> list[float]:
    """eta_t along a planted curve."""
    pace = Oracle(**options).start(training(len(curve), 2, 0.1, curve))
    return [0.1 * pace.factor(step) for step in range(len(curve))]


# -- Planted curves ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "curve", "expected"),
    [
        ({}, (0.5, 0.25, 1.0), [0.5, 0.25, 1.0]),
        ({"scale": 0.5}, (0.5, 0.25, 1.0), [0.25, 0.125, 0.5]),
        ({"max_learning_rate": 0.4}, (0.5, 0.25, 1.0), [0.4, 0.25, 0.4]),
        ({}, (0.5, -3.0, 1.0), [0.5, 0.0, 1.0]),  # w* lies behind: no step
        ({}, (NAN, NAN, 0.5, NAN, 1.0, NAN), [0.5, 0.5, 0.5, 0.5, 1.0, 1.0]),
        ({}, (0.5, math.inf, 1.0), [0.5, 0.5, 1.0]),
        ({"smooth_steps": 2}, (1.0, 3.0, 5.0, -9.0), [1.0, 2.0, 4.0, 0.0]),
        ({"smooth_steps": 9}, (1.0, 3.0, 5.0, 7.0), [1.0, 2.0, 3.0, 4.0]),
        ({"smooth_steps": 3, "scale": 2.0}, (1.0, -2.0, 4.0), [2.0, 0.0, 2.0]),
    ],
)
def test_the_rates_are_those_worked_out_by_hand(
    options: dict[str, Any], curve: tuple[float, ...], expected: list[float]
) -> None:
    assert rates(curve, **options) == pytest.approx(expected, rel=1e-14, abs=0)


def test_the_mean_is_numpys() -> None:
    values = torch.randn(50, dtype=torch.float64)
    for window in (2, 7, 50, 60):
        naive = [values[max(0, t - window + 1) : t + 1].mean().item() for t in range(50)]
        assert trailing_mean(values, window).tolist() == pytest.approx(naive, abs=1e-12)


def test_it_says_whom_it_followed_and_how_often_it_stood_still() -> None:
    planted = training(4, 2, 0.1, (1.0, -1.0, -1.0, 1.0))
    assert planted.curve is not None
    assert Oracle().start(planted).report() == {
        "schedule_follows": "planted",
        "schedule_curve": planted.curve.digest(),
        "schedule_share_of_zeros": 0.5,
    }


# -- A bowl, where everything is known --------------------------------------------------------


def bowl(**options: Any) -> RunConfig:
    """Plain gradient descent on 1/2 lambda |w|^2 with lambda = 0.5, 12 steps of 0.4."""
    values: dict[str, Any] = {
        "task": "synthetic",
        "data": {"name": "quadratic", "dimension": 3, "eigenvalues": [0.5] * 3},
        "model": {"name": "vector", "start": [1.0, -2.0, 3.0]},
        "optimizer": "sgd",
        "batch_size": 25,
        "learning_rate": 0.4,
        "budget": {"epochs": 3},
    }
    return RunConfig.parse({**values, **options})


def test_on_a_bowl_both_runs_are_the_closed_form(store: Store, finish: Finish) -> None:
    """l_t = (1 - r^(T-t)) / lambda, r = 1 - eta lambda; then w_t = r^(sum_{s<t} T - s) w_0.

    The first run has w_t = r^t w_0 and w* = r^T w_0; the second shrinks by 1 - lambda l_t.
    """
    config = bowl(schedule="oracle")
    followed = config.followed()
    assert followed == bowl()
    finish(store, oracle=config)
    ratio, t = 1 - 0.4 * 0.5, np.arange(12)
    local_lr = stored_curve(store, run_id(followed)).local_lr.numpy()
    assert local_lr == pytest.approx((1 - ratio ** (12 - t)) / 0.5, rel=1e-5)
    steps = read_table(store.run("oracle").path / "steps.parquet")
    assert steps["learning_rate"].to_numpy() == pytest.approx(local_lr, rel=1e-14)
    loss = 0.5 * 0.5 * 14 * ratio ** (2 * np.concatenate([[0], (12 - t).cumsum()[:-1]]))
    above = loss > 1e-9
    assert above.sum() >= 4
    assert steps["loss"].to_numpy()[above] == pytest.approx(loss[above], rel=1e-3)


def test_the_first_steps_of_the_second_run_are_those_of_the_first(
    store: Store, finish: Finish
) -> None:
    """Same start, same minibatch: only the length of the step differs."""
    finish(store, oracle=bowl(schedule={"name": "oracle", "scale": 0.3}))
    first, second = (
        read_table(store.run(name).path / "steps.parquet").iloc[0]
        for name in (run_id(bowl()), "oracle")
    )
    assert first["loss"] == second["loss"]
    assert second["learning_rate"] == pytest.approx(0.3 * first["local_lr"], rel=1e-14)


TO_THE_FOLLOWED = ["path", {"name": "references", "best_validation": False, "ema": [],
                            "followed": True}]  # fmt: skip


def test_both_runs_are_measured_against_the_end_of_the_first(store: Store, finish: Finish) -> None:
    """On a bowl of one curvature the first oracle step ends at w* = r^T w_0 itself."""
    config = bowl(schedule="oracle", probes=TO_THE_FOLLOWED)
    followed = config.followed()
    assert followed is not None
    finish(store, oracle=config)
    own = store.run(run_id(followed))
    first, second = (
        read_table(folder.path / "references.parquet") for folder in (own, store.run("oracle"))
    )
    assert set(first["label"]) == set(second["label"]) == {"followed"}
    # the first follows nothing: its own w*
    steps = read_table(own.path / "steps.parquet")
    assert first["distance"].tolist() == steps["distance"].tolist()
    ratio, t = 1 - 0.4 * 0.5, np.arange(12)
    exponents = np.concatenate([[0], (12 - t).cumsum()[:-1]])
    expected = np.abs(ratio**exponents - ratio**12) * math.sqrt(14)
    assert second["distance"].to_numpy() == pytest.approx(expected, abs=1e-5)
    summaries = [(folder.manifest() or {})["metrics"] for folder in (own, store.run("oracle"))]
    assert [metrics["followed_nearest_step"] for metrics in summaries] == [11, 1]
    assert summaries[0]["followed_nearest"] == pytest.approx(
        (ratio**11 - ratio**12) / (1 - ratio**12), rel=1e-5
    )
    assert 0 <= summaries[1]["followed_nearest"] < 1e-6


def test_a_followed_reference_is_verified(store: Store, finish: Finish, tmp_path: Path) -> None:
    finish(store, oracle=bowl(schedule="oracle", probes=TO_THE_FOLLOWED))
    verify_run(store, "oracle", data_root=tmp_path, device=CPU)


# -- Identity ---------------------------------------------------------------------------------


def test_another_curve_is_another_run(tiny: Tiny) -> None:
    """What decides the curve is in the identity: the whole run that is followed, and the rule."""
    oracle = {"name": "oracle"}
    configs = [
        tiny(schedule=oracle),
        tiny(schedule=oracle, seed=1),
        tiny(schedule=oracle, learning_rate=0.06),
        tiny(schedule=oracle, budget={"epochs": 4}),
        tiny(schedule={**oracle, "of": "linear_decay"}),
        tiny(schedule={**oracle, "of": {"name": "milestones", "epochs": [1]}}),
        tiny(schedule={**oracle, "scale": 0.5}),
        tiny(schedule={**oracle, "smooth_steps": 2}),
        tiny(schedule={**oracle, "max_learning_rate": 1.0}),
    ]
    for number in (0, 1):  # of runs, of trajectories
        assert len({identities(config)[number] for config in configs}) == len(configs)
    same = tiny(schedule={**oracle, "of": {"name": "constant"}, "scale": 1})
    assert identities(same) == identities(configs[0])
    assert RunConfig.parse(configs[5].plain()) == configs[5]


def test_the_followed_run_is_the_same_but_for_the_schedule(tiny: Tiny) -> None:
    probes = ["path", "update", "layers"]
    config = tiny(schedule={"name": "oracle", "of": "linear_decay"}, probes=probes)
    assert config.followed() == tiny(schedule="linear_decay", probes=probes)
    assert tiny().followed() is None


# -- Passes -----------------------------------------------------------------------------------

ORACLE: dict[str, Any] = {"schedule": {"name": "oracle", "smooth_steps": 2}, "probes": ["path"]}


def followed_job(config: RunConfig, place: Place) -> Job:
    """The job of a run whose followed run is done."""
    return Job("t", (RunJob("a", config),), follows=do_followed(config, place))


def files(store: Store) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in store.run("a").path.glob("*.*")}


def test_stopped_anywhere_it_ends_the_same(tiny: Tiny, store: Store, tmp_path: Path) -> None:
    config, place = tiny(**ORACLE), Place(store, tmp_path, CPU, 1)
    assert len(list(work(followed_job(config, place), place))) == 6
    verify_run(store, "a", data_root=tmp_path, device=CPU)
    for stop in (1, 2, 4):
        again = Place(Store(tmp_path / f"stopped-{stop}"), tmp_path, CPU, 1, checkpoint_seconds=0)
        job = followed_job(config, again)
        working = work(job, again)
        for _ in range(stop):
            next(working)
        working.close()
        assert len(list(work(job, again))) <= 6 - stop
        assert files(again.store) == files(store)


def other_curve(store: Store, name: str) -> None:
    """Replace a run's measured local learning rates and seal it anew."""
    folder = store.run(name)
    manifest = dict(folder.manifest() or {})
    steps = read_table(folder.path / "steps.parquet")
    write_table(folder.path / "steps.parquet", steps.assign(local_lr=steps["local_lr"] / 2))
    content = {k: v for k, v in manifest.items() if k not in ("files", "store_version")}
    folder.write_manifest(content, list(manifest["files"]))


def test_a_run_whose_curve_changed_is_done_anew_and_says_so(
    tiny: Tiny, store: Store, tmp_path: Path
) -> None:
    config, place = tiny(**ORACLE), Place(store, tmp_path, CPU, 1, checkpoint_seconds=0)
    job = followed_job(config, place)
    working = work(job, place)
    next(working)
    working.close()
    assert job.follows is not None
    other_curve(store, job.follows)
    assert len(list(work(job, place))) == 6, "from the start"
    record = load_record(store.trajectory("t"))
    assert record is not None
    assert record.redone_because == f"run {job.follows}, which it follows, was done anew"
    verify_run(store, "a", data_root=tmp_path, device=CPU)
    other_curve(store, job.follows)
    match = f"run {job.follows}, whose local learning rates it follows, was done anew since; type"
    with pytest.raises(UserError, match=match):
        verify_run(store, "a", data_root=tmp_path, device=CPU)


# -- Bad input --------------------------------------------------------------------------------


def test_a_run_that_is_not_there_cannot_be_followed(
    tiny: Tiny, store: Store, tmp_path: Path
) -> None:
    job = Job("t", (RunJob("a", tiny(**ORACLE)),), follows="0123456789abcdef")
    match = "run 0123456789abcdef, whose local learning rates are to be followed, is not done in"
    with pytest.raises(UserError, match=match):
        list(work(job, Place(store, tmp_path, CPU, 1)))


def test_a_run_that_diverged_cannot_be_followed(tiny: Tiny, store: Store, tmp_path: Path) -> None:
    config, place = tiny(**ORACLE, learning_rate=1e30), Place(store, tmp_path, CPU, 1)
    match = r"diverged at step \d+ and has none; give a smaller learning_rate"
    with pytest.raises(UserError, match=match):
        list(work(followed_job(config, place), place))


def test_an_altered_curve_is_not_followed(tiny: Tiny, store: Store, tmp_path: Path) -> None:
    place = Place(store, tmp_path, CPU, 1)
    job = followed_job(tiny(**ORACLE), place)
    assert job.follows is not None
    path = store.run(job.follows).path / "steps.parquet"
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(StoreDamaged, match=r"steps\.parquet: content differs"):
        list(work(job, place))


def test_a_training_without_a_store_has_nothing_to_follow(tiny: Tiny, tmp_path: Path) -> None:
    match = "schedule oracle follows a finished run of a sweep, and there is none here; give an"
    with pytest.raises(UserError, match=match):
        next(search_trial(tiny(**ORACLE), tmp_path, CPU, 1))


def test_a_curve_without_a_value_or_of_another_length_is_refused() -> None:
    with pytest.raises(UserError, match="local learning rate of run planted is undefined at every"):
        rates((NAN, NAN))
    with pytest.raises(UserError, match="run planted has 3 steps, this one 4; give both the same"):
        Oracle().start(training(4, 2, 0.1, (1.0, 1.0, 1.0)))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"probes": []}, "schedule oracle follows a run that measures its local_lr; add the probe"),
        (
            {"probes": [{"name": "references", "ema": [], "best_validation": False, "seeds": [3]}]},
            "reference seed 3 is w. of the same run with another seed, which would have to follow",
        ),
    ],
)
def test_what_does_not_fit_an_oracle_is_refused(
    tiny: Tiny, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        tiny(schedule="oracle", **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"of": "oracle"}, "of: oracle follows a run itself; give a schedule such as constant"),
        ({"of": "constnat"}, "unknown schedule 'constnat'; did you mean constant"),
        ({"scale": 0}, r"schedule\.scale: input should be greater than 0, got 0"),
        ({"smooth_steps": 0}, r"schedule\.smooth_steps: input should be greater than or equal"),
        ({"max_learning_rate": -1}, r"schedule\.max_learning_rate: input should be greater"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        build(Oracle, options, "schedule")
