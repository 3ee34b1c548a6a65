"""WU and GAWU: rates by hand, planted change points, and a state that survives everything."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.trainables.trainings import training
from trainables.config import RunConfig
from trainables.errors import UserError
from trainables.job import Job, Place, Progress, RunJob
from trainables.noise import minibatch_correlations, warnings_of
from trainables.passes import work
from trainables.registry import build
from trainables.schedules.contract import Pace
from trainables.schedules.warmup import GAWU, WU
from trainables.store import Store, read_table
from trainables.trajectory import Trajectory
from trainables.verify import verify_run

Tiny = Callable[..., RunConfig]
CPU = torch.device("cpu")
TWENTY = training(20, 4, 0.001)


def gradients(correlations: Sequence[float]) -> list[Tensor]:
    """g_0, g_1, ... whose successive cosines are these; for a NaN the later one is zero.

    Shape: [256] each. A cosine of 0 is exact, and lengths differ, which a cosine does not see.
    """
    axes = torch.eye(256, dtype=torch.float64)
    directions = [axes[0]]
    for number, correlation in enumerate(correlations, start=1):
        along = 1.0 if math.isnan(correlation) else correlation
        directions.append(along * directions[-1] + math.sqrt(1 - along**2) * axes[number])
    lengths = [
        1.0,
        *(0.0 if math.isnan(c) else 10.0 ** (i % 5 - 2) for i, c in enumerate(correlations)),
    ]
    return [length * direction for length, direction in zip(lengths, directions, strict=True)]


def change_step(schedule: GAWU, correlations: Sequence[float], num_steps: int = 1000) -> int | None:
    """The step at which the pace that sees these c_1, c_2, ... finds its change point."""
    pace = schedule.start(training(num_steps, 10))
    for step, gradient in enumerate(gradients(correlations)):
        pace.observe(step, gradient)
    found: int | None = pace.report()["schedule_change_step"]
    return found


def test_the_recursion_is_the_table_worked_out_by_hand() -> None:
    """eta_k = exp(0.1 k) eta_{k-1}, eta_0 = .001, t = 12; then half a cosine to K = 20."""
    pace = WU(change_point=12).start(TWENTY)
    by_hand = {0: 0.001, 1: 0.001 * 1.105171, 2: 0.001 * 1.105171 * 1.221403}
    by_hand |= {5: 0.00448169, 10: 0.244692, 11: 0.735095, 12: 2.440602}
    by_hand |= {14: 2.440602 * (1 + math.sqrt(0.5)) / 2, 16: 2.440602 / 2}
    for step, rate in by_hand.items():
        assert 0.001 * pace.factor(step) == pytest.approx(rate, rel=2e-6)
    for before, step in pairwise(range(13)):
        ratio = pace.factor(step) / pace.factor(before)
        assert ratio == pytest.approx(math.exp(0.1 * step), rel=1e-12)


def test_the_plain_exponential_and_the_cap() -> None:
    plain = WU(change_point=12, growth="plain").start(TWENTY)
    assert [0.001 * plain.factor(k) for k in (0, 1, 12)] == pytest.approx(
        [0.001, 0.00110517, 0.00332012]
    )
    capped = WU(change_point=12, max_learning_rate=0.2).start(TWENTY)
    assert 0.001 * capped.factor(9) == pytest.approx(0.0900171)
    assert 0.001 * capped.factor(10) == 0.001 * capped.factor(12) == pytest.approx(0.2)
    assert 0.001 * capped.factor(16) == pytest.approx(0.1)  # the decay starts from the cap


def test_an_endless_warm_up_stays_a_number() -> None:
    assert math.isfinite(WU(change_point=1000).start(training(2000, 1)).factor(900))


def test_in_epochs_the_warm_up_climbs_once_an_epoch_and_the_decay_every_step() -> None:
    pace = WU(change_point=2, unit="epoch").start(TWENTY)  # t = step 8
    climbing = [1, math.exp(0.1), math.exp(0.3)]
    factors = [factor for factor in climbing[:2] for _ in range(4)] + climbing[2:]
    assert [pace.factor(step) for step in range(9)] == pytest.approx(factors)
    assert pace.factor(14) == pytest.approx(math.exp(0.3) / 2)


def test_gawu_takes_wus_rates_of_the_change_point_that_it_finds() -> None:
    pace = GAWU(window=3, latest_change_point=15).start(TWENTY)
    fixed = WU(change_point=6).start(TWENTY)
    # c_1..c_6; m_2 = .5, m_3 = .5, m_4 = .5, m_5 = 0, m_6 = -.5
    for step, gradient in enumerate(gradients([0.5, 0.5, 0.5, 0.5, -0.5, -0.5, 0.5])):
        assert pace.factor(step) == fixed.factor(step)
        pace.observe(step, gradient)
    assert [pace.factor(k) for k in range(20)] == [fixed.factor(k) for k in range(20)]
    assert pace.report() == {
        "schedule_change_step": 6,
        "schedule_change_reason": "correlation below zero",
        "schedule_peak_learning_rate": pytest.approx(0.001 * math.exp(2.1)),
    }


UNDEFINED = math.nan


@pytest.mark.parametrize(
    ("correlations", "found"),
    [
        pytest.param([0.5] * 6 + [-0.9] * 4, 8, id="two .5 are outweighed by two -.9"),
        pytest.param([-0.5] * 20, None, id="negative from the start"),
        pytest.param([-0.5] * 4 + [0.9] * 4 + [-0.8] * 4, 11, id="only once it has been positive"),
        pytest.param([0.5] * 4 + [0.0] * 6 + [-0.1] * 2, 11, id="zeros keep the latch"),
        pytest.param([0.5] * 4 + [UNDEFINED] + [0.0] * 6 + [-0.1], 12, id="so do undefined ones"),
        pytest.param([-0.5] * 3 + [0.9], None, id="a first positive value is no drop"),
    ],
)
def test_the_planted_change_point_is_found(correlations: list[float], found: int | None) -> None:
    assert change_step(GAWU(), correlations) == found


def test_a_window_needs_all_its_correlations() -> None:
    assert change_step(GAWU(window=2), [0.5, -0.5]) == 2
    assert change_step(GAWU(window=3), [0.5, -0.9, -0.9]) is None
    assert change_step(GAWU(window=3), [0.5, 0.5, -0.9]) == 3


def test_it_falls_back_where_the_mean_never_drops() -> None:
    pace = GAWU().start(TWENTY)  # a tenth of 20 steps
    for step in range(3):
        pace.observe(step, torch.ones(256))
    assert pace.report()["schedule_change_step"] == 2
    assert pace.report()["schedule_change_reason"] == "fallback"
    late = GAWU(latest_change_point=3, unit="epoch").start(TWENTY)
    for step in range(12):
        late.observe(step, torch.ones(256))
    assert late.report() == {
        "schedule_change_step": None,
        "schedule_change_reason": None,
        "schedule_peak_learning_rate": None,
    }
    assert WU(change_point=20).start(TWENTY).report() == late.report()
    late.observe(12, torch.ones(256))
    assert late.report()["schedule_change_step"] == 12


def test_options_out_of_range_are_one_line() -> None:
    with pytest.raises(UserError, match=r"schedule\.window: .*greater than or equal to 2, got 1"):
        build(GAWU, {"window": 1}, "schedule")


@pytest.mark.parametrize("stop", range(9))
def test_a_pace_that_was_saved_goes_on_as_if_it_had_not(stop: int) -> None:
    def seen(pace: Pace, start: int, end: int) -> list[float]:
        rates = []
        for step in range(start, end):
            rates.append(pace.factor(step))
            pace.observe(step, planted[step])
        return rates

    planted = gradients([0.5, 0.5, 0.5, 0.5, -0.5, -0.5, 0.5, 0.5])
    schedule = GAWU(window=3, latest_change_point=15)
    whole, first, second = (schedule.start(TWENTY) for _ in range(3))
    expected = seen(whole, 0, 9)
    rates = seen(first, 0, stop)
    second.load({name: value.clone() for name, value in first.state().items()})
    assert rates + seen(second, stop, 9) == expected
    assert second.report() == whole.report()


ADAPTED: dict[str, Any] = {
    "schedule": {"name": "gawu", "window": 3, "latest_change_point": 30},
    "learning_rate": 0.02,
    "optimizer": "sgd",
    "budget": {"epochs": 10},
}
"""Thirty steps; the change point lies between steps 7 and 20."""


@pytest.mark.parametrize(
    "batch", [{}, {"batch_size": "full", "chunk": 40, "budget": {"steps": 30}}]
)
def test_killed_in_the_warm_up_it_resumes_bit_for_bit(
    tiny: Tiny, tmp_path: Any, finish: Callable[..., list[Progress]], batch: dict[str, Any]
) -> None:
    config = tiny(**{**ADAPTED, **batch})
    whole, stopped = Store(tmp_path / "whole"), Store(tmp_path / "stopped")
    finish(whole, a=config)
    manifest = whole.run("a").manifest()
    assert manifest is not None
    change = manifest["schedule"]["schedule_change_step"]
    assert manifest["schedule"]["schedule_change_reason"] == "correlation below zero"
    assert 7 <= change <= 20
    assert manifest["replay_exact"] is True

    job = Job("t", (RunJob("a", config),))
    for phase in ("reference", "replay"):
        working = work(job, Place(stopped, tmp_path, CPU, 1, checkpoint_seconds=0))
        for progress in working:
            if progress.phase == phase and progress.step >= 6:
                assert progress.step < change
                break
        working.close()
    finish(stopped, a=config)
    for name in ("steps.parquet", "epochs.parquet"):
        ours, theirs = (store.run("a").path / name for store in (stopped, whole))
        assert ours.read_bytes() == theirs.read_bytes()
    assert stopped.run("a").manifest()["schedule"] == manifest["schedule"]  # type: ignore[index]
    verify_run(stopped, "a", data_root=tmp_path, device=CPU)


def test_the_steps_table_has_the_rates_that_were_used(
    tiny: Tiny,
    store: Store,
    trajectory: Callable[[RunConfig], Trajectory],
    finish: Callable[..., list[Progress]],
) -> None:
    config = tiny(**ADAPTED)
    finish(store, a=config)
    built, used = trajectory(config), []
    while built.step < 30:
        built.advance(built.step + 1)
        used.append(built.optimizer.param_groups[0]["lr"])
    assert read_table(store.run("a").path / "steps.parquet")["learning_rate"].tolist() == used


def test_a_batch_too_small_for_its_noise_is_warned_of_with_both_numbers(
    tiny: Tiny, trajectory: Callable[[RunConfig], Trajectory]
) -> None:
    pace = GAWU(window=5).start(TWENTY)
    # mean .1, standard deviation .1 sqrt(5/4): noise of a mean of 4 is .11
    warning = pace.warning([0.0, 0.2, 0.0, 0.2, 0.1, 0.1])
    assert warning is None
    assert pace.warning([0.1, 0.3, -0.1, 0.3, -0.1, 0.1]) == (
        "schedule gawu: minibatch gradients at w_0 correlate by 0.1, not above the noise of their "
        "mean over 4 steps, 0.18: the change point is left to chance; give a larger batch_size"
    )
    config = tiny(**ADAPTED)
    built = trajectory(config.model_copy(update={"batch_size": 1}))
    before = built.fingerprint(), built.flat.gradients.clone()
    assert "schedule_warning" in warnings_of(built)
    assert built.fingerprint() == before[0]
    assert torch.equal(built.flat.gradients, before[1])
    assert warnings_of(trajectory(config.model_copy(update={"batch_size": 48}))) == {}
    assert warnings_of(trajectory(tiny())) == {}


def test_minibatch_correlations_are_those_of_gradients_at_the_same_weights(
    tiny: Tiny, trajectory: Callable[[RunConfig], Trajectory]
) -> None:
    one, other = (minibatch_correlations(trajectory(tiny()), number) for number in (3, 4))
    assert len(one) == 2
    assert other[:2] == one
    assert all(-1 <= value <= 1 for value in other)
