"""Batches that grow over the epochs: closed forms, every example once an epoch, bitwise replay."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from geometry import null
from sweeps.identity import identities
from trainables.config import RunConfig
from trainables.errors import UserError
from trainables.job import Job, Place, Progress, RunJob
from trainables.length import Calendar
from trainables.passes import work
from trainables.store import Store, read_table
from trainables.trajectory import Trajectory
from trainables.verify import verify_run

Tiny = Callable[..., RunConfig]
Build = Callable[..., Trajectory]
Finish = Callable[..., list[Progress]]
CPU = torch.device("cpu")

GROWTH: dict[str, Any] = {"batch_size": 8, "batch_growth": {"epochs": [1, 3], "factor": 2}}
"""Of 96 examples: epochs of 12, 6, 6, 3, 3, ... steps of 8, 16, 16, 32, 32, ... examples."""
STEPS = [12, 6, 6, 3, 3]
EXAMPLES = [8, 16, 16, 32, 32]
FIVE: dict[str, Any] = {**GROWTH, "budget": {"epochs": 5}}


# -- The calendar -----------------------------------------------------------------------------


@pytest.mark.parametrize("phases", [((0, 7),), ((0, 5), (2, 3), (3, 1)), ((0, 4), (1, 2))])
def test_a_calendar_is_the_list_of_its_epochs_lengths(phases: tuple[tuple[int, int], ...]) -> None:
    calendar = Calendar(phases)
    lengths = [[s for first, s in phases if first <= epoch][-1] for epoch in range(9)]
    places = [(epoch, i) for epoch, length in enumerate(lengths) for i in range(length)]
    assert [calendar.place(step) for step in range(len(places))] == places
    assert [calendar.start(epoch) for epoch in range(9)] == [
        sum(lengths[:epoch]) for epoch in range(9)
    ]
    found = calendar.epochs_of(np.arange(len(places)))
    assert found.tolist() == [epoch for epoch, _ in places]
    assert found.dtype == np.int64


def test_epochs_that_are_all_as_long_are_a_division() -> None:
    steps = np.array([0, 1, 155, 156, 10**9])
    assert Calendar.constant(156).epochs_of(steps).tolist() == (steps // 156).tolist()
    assert Calendar.constant(156).place(10**9) == divmod(10**9, 156)


# -- Steps and minibatches --------------------------------------------------------------------


def test_batch_sizes_steps_and_budget_are_the_closed_form(tiny: Tiny) -> None:
    config = tiny(**FIVE)
    calendar = config.calendar(96)
    assert [config.examples_per_step(96, epoch) for epoch in range(5)] == EXAMPLES
    assert [config.steps_per_epoch(96, epoch) for epoch in range(5)] == STEPS
    assert config.budget.num_steps(calendar) == sum(96 // (8 * 2**k) for k in (0, 1, 1, 2, 2))
    assert tiny(**GROWTH, budget={"steps": 50}).budget.num_steps(calendar) == 50


def test_every_example_is_seen_exactly_once_an_epoch(tiny: Tiny, trajectory: Build) -> None:
    task: Any = trajectory(tiny(**FIVE)).task
    everything = Counter(image.numpy().tobytes() for image in task.normalise(task._padded))
    for epoch in range(6):
        steps = range(task.calendar.start(epoch), task.calendar.start(epoch + 1))
        batches = [task.minibatch(step)[0] for step in steps]
        assert {len(batch) for batch in batches} == {([*EXAMPLES, 32])[epoch]}
        assert Counter(image.numpy().tobytes() for b in batches for image in b) == everything


def test_the_order_within_an_epoch_does_not_depend_on_the_batch_size(
    tiny: Tiny, trajectory: Build
) -> None:
    """The counter is the epoch: larger minibatches are the smaller ones, joined."""
    grown: Any = trajectory(tiny(**FIVE)).task
    plain: Any = trajectory(tiny(batch_size=8)).task
    first = grown.minibatch(grown.calendar.start(1))[1]
    assert torch.equal(first, torch.cat([plain.minibatch(step)[1] for step in (12, 13)]))


def test_the_learning_rate_follows_its_rule_and_the_schedule_its_epochs(
    tiny: Tiny, trajectory: Build
) -> None:
    rate = {"base": 0.1, "rule": "sqrt", "reference_batch_size": 8}
    schedule = {"name": "milestones", "epochs": [3], "decay": 0.5}
    built = trajectory(tiny(**FIVE, learning_rate=rate, schedule=schedule))
    rates = [built.learning_rate(built.task.calendar.start(epoch)) for epoch in range(5)]
    assert rates == pytest.approx([0.1, 0.1 * math.sqrt(2), 0.1 * math.sqrt(2), 0.1, 0.1])


def test_nothing_in_a_run_without_growth_is_another(tiny: Tiny) -> None:
    none = tiny(batch_growth={"factor": 1, "epochs": [3, 5]})
    assert none == tiny() == tiny(batch_growth={})
    assert identities(none) == identities(tiny())
    assert "batch_growth" not in none.plain()
    for own, other in zip(identities(tiny(**FIVE)), identities(tiny()), strict=True):
        assert own != other


# -- Passes -----------------------------------------------------------------------------------


def test_a_run_says_how_many_examples_each_step_saw(
    tiny: Tiny, store: Store, finish: Finish, tmp_path: Path
) -> None:
    finish(store, a=tiny(**FIVE))
    manifest = store.run("a").manifest()
    assert manifest is not None
    assert (manifest["num_steps"], manifest["replay_exact"]) == (30, True)
    steps = read_table(store.run("a").path / "steps.parquet")
    epochs = [epoch for epoch, count in enumerate(STEPS) for _ in range(count)]
    assert steps["epoch"].tolist() == epochs
    assert steps["examples"].tolist() == [EXAMPLES[epoch] for epoch in epochs]
    closed = null.closed_form_gamma(30)
    assert steps["null_gamma_closed"].to_numpy() == pytest.approx(closed.numpy())
    table = read_table(store.run("a").path / "epochs.parquet")
    assert table["num_steps"].tolist() == STEPS
    assert table["validation_loss"].notna().all()
    verify_run(store, "a", data_root=tmp_path, device=CPU)


def test_the_null_model_knows_the_steps_as_they_were(
    tiny: Tiny, store: Store, finish: Finish
) -> None:
    """It asks for no batch size: learning rates and gradient norms of the steps say all."""
    rate = {"base": 0.05, "rule": "linear", "reference_batch_size": 8}
    finish(store, a=tiny(**FIVE, learning_rate=rate, optimizer="sgd"))
    steps = read_table(store.run("a").path / "steps.parquet")
    eta, norm = (steps[name].to_numpy() for name in ("learning_rate", "gradient_norm"))
    assert eta[0] * 4 == pytest.approx(eta[-1])
    to_come = np.sqrt(np.cumsum((eta * norm)[::-1] ** 2)[::-1])
    assert steps["null_gamma"].to_numpy() == pytest.approx(eta * norm / to_come)


def test_shorter_budgets_are_prefixes(tiny: Tiny, store: Store, finish: Finish) -> None:
    shorter = tiny(**GROWTH, budget={"epochs": 2})
    assert identities(shorter)[1] == identities(tiny(**FIVE))[1]
    progress = finish(store, a=tiny(**FIVE), b=shorter)
    assert [(p.phase, p.step) for p in progress] == list(
        itertools.product(("reference", "replay"), itertools.accumulate(STEPS))
    )
    assert len(read_table(store.run("b").path / "steps.parquet")) == 18


def files(store: Store) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in store.run("a").path.glob("*.*")}


def test_stopped_anywhere_it_ends_the_same(tiny: Tiny, store: Store, tmp_path: Path) -> None:
    config = tiny(**FIVE, optimizer="adam", learning_rate=0.01)
    job = Job("t", (RunJob("a", config),))
    list(work(job, Place(store, tmp_path, CPU, 1)))
    for stop in range(1, 10, 2):
        again = Store(tmp_path / f"stopped-{stop}")
        place = Place(again, tmp_path, CPU, 1, checkpoint_seconds=0)
        working = work(job, place)
        for _ in range(stop):
            next(working)
        working.close()
        assert len(list(work(job, place))) <= 10 - stop, "it went on where it stood"
        assert files(again) == files(store), f"stopped after {stop} epochs of both passes"


# -- Bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_growth": {"epochs": [2]}}, "batch_growth: give both, epochs such as"),
        ({"batch_growth": {"factor": 2}}, "batch_growth: give both, epochs such as"),
        ({"batch_growth": {"epochs": [3, 2], "factor": 2}}, "epochs must ascend from 1 on, not"),
        ({"batch_growth": {"epochs": [0], "factor": 2}}, r"ascend from 1 on, not \[0\]"),
        ({"batch_growth": {"epochs": [1], "factor": 0}}, "greater than or equal to 1, got 0"),
        ({**GROWTH, "batch_size": "full"}, "needs minibatches, and batch_size: full has none"),
        ({**GROWTH, "schedule": "gawu"}, "schedule gawu compares gradients of one batch size"),
        ({**GROWTH, "probes": ["probe_batches"]}, "probe_batches draws batches of one size, and"),
        ({**GROWTH, "probes": ["full_batch"]}, "probe full_batch is measured every epoch, and"),
    ],
)
def test_growth_that_cannot_be_is_refused(tiny: Tiny, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        tiny(**options)


def test_a_full_gradient_every_few_steps_goes_with_growth(
    tiny: Tiny, store: Store, finish: Finish
) -> None:
    finish(store, a=tiny(**FIVE, probes=["path", {"name": "full_batch", "every": 7}]))
    table = read_table(store.run("a").path / "full_batch.parquet")
    assert table["step"].tolist() == [0, 7, 14, 21, 28]
    assert table["epoch"].tolist() == [0, 0, 1, 2, 4]


def test_batches_that_outgrow_the_data_are_refused(tiny: Tiny) -> None:
    config = tiny(batch_size=8, batch_growth={"epochs": [1, 2], "factor": 4})
    match = "batch_growth: 128 from epoch 2 on is larger than the 96 training examples of digits"
    with pytest.raises(UserError, match=match):
        config.calendar(96)
