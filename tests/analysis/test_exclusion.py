"""What is left out, and that it is said."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.exclusion import Exclusion, default_exclusion, exclusion_for
from analysis.lengths import Length
from trainables.store import UserError


def runs_table(*lengths: tuple[int, int]) -> pd.DataFrame:
    names = [f"r{index}" for index in range(len(lengths))]
    table = pd.DataFrame(lengths, columns=["num_steps", "steps_per_epoch"])
    return table.assign(run_id=names).astype({"num_steps": "Int64", "steps_per_epoch": "Int64"})


def steps_of(run_id: str, num_steps: int, steps_per_epoch: int) -> pd.DataFrame:
    step = np.arange(num_steps)
    distance = np.linspace(4.0, 0.04, num_steps)
    columns = {"step": step, "epoch": step // steps_per_epoch, "distance": distance}
    return pd.DataFrame({"run_id": run_id, **columns})


@pytest.mark.parametrize(
    ("exclusion", "kept"),
    [
        (Exclusion(), 100),
        (Exclusion(last_epochs=1), 90),
        (Exclusion(last_epochs=3), 70),
        (Exclusion(last_fraction=0.25), 75),
        (Exclusion(last_steps=7), 93),
        (Exclusion(last_epochs=1, last_steps=40), 60),
        (Exclusion(last_epochs=99), 0),
    ],
)
def test_number_of_kept_steps(exclusion: Exclusion, kept: int) -> None:
    assert exclusion.num_kept(Length(100, 10)) == kept


def test_an_epoch_cut_short_by_the_budget_counts_as_the_last_one() -> None:
    assert Exclusion(last_epochs=1).num_kept(Length(95, 10)) == 90


def test_kept_rows_follow_each_run_s_own_length() -> None:
    steps = pd.concat([steps_of("r0", 20, 5), steps_of("r1", 12, 4)], ignore_index=True)
    kept = steps[Exclusion(last_epochs=1).kept(steps, runs_table((20, 5), (12, 4)))]
    assert kept.groupby("run_id")["step"].max().to_dict() == {"r0": 14, "r1": 7}


def test_distance_floor_is_relative_to_the_initial_distance() -> None:
    steps = steps_of("r0", 100, 10)
    kept = steps[Exclusion(distance_floor=0.5).kept(steps, runs_table((100, 10)))]
    assert kept["distance"].min() >= 2.0
    assert len(kept) == int((steps["distance"] >= 2.0).sum())


def test_equal_steps_lose_the_same_last_steps() -> None:
    found = default_exclusion(runs_table((1000, 93), (1000, 5)))
    assert found.last_steps == 93
    assert found.last_epochs == 0
    assert "last 93 steps" in found.describe()
    assert "same in every cell" in found.describe()


def test_equal_epochs_lose_the_last_epoch() -> None:
    found = default_exclusion(runs_table((930, 93), (50, 5)))
    assert (found.last_epochs, found.last_steps) == (1, 0)
    assert found.describe() == "left out of every run: the last epoch (P1 section 4)"


def test_short_equal_step_runs_lose_a_quarter_at_most() -> None:
    assert default_exclusion(runs_table((100, 93), (100, 5))).last_steps == 25


def test_runs_of_one_epoch_lose_a_fraction() -> None:
    assert default_exclusion(runs_table((10, 10), (20, 20))).last_fraction == 0.1


def test_the_spec_s_exclusion_wins_and_says_so() -> None:
    found = exclusion_for(runs_table((100, 10)), {"exclude": {"last_fraction": 0.2}})
    assert found.describe() == "left out of every run: the last 0.2 of its steps (set in the spec)"


def test_a_spec_that_excludes_nothing_is_obeyed() -> None:
    found = exclusion_for(runs_table((100, 10)), {"exclude": {}})
    assert found.describe() == "no step is left out (set in the spec)"


def test_no_exclusion_is_said_as_well() -> None:
    assert Exclusion().describe() == "no step is left out"


def test_unknown_key_lists_the_known() -> None:
    with pytest.raises(UserError, match=r"unknown key 'last_epoch'; known: last_epochs, last_frac"):
        exclusion_for(runs_table((100, 10)), {"exclude": {"last_epoch": 1}})


@pytest.mark.parametrize("name", ["last_fraction", "distance_floor"])
def test_a_share_of_one_would_leave_nothing(name: str) -> None:
    with pytest.raises(UserError, match=rf"exclude\.{name}: a share below 1, got 1"):
        Exclusion(**{name: 1})


def test_negative_values_are_refused() -> None:
    with pytest.raises(UserError, match=r"exclude\.last_steps: must not be negative, got -1"):
        Exclusion(last_steps=-1)


def test_of_imagenet_155_of_180_epochs_are_kept_and_that_share_of_other_budgets() -> None:
    found = default_exclusion(runs_table((180 * 5004, 5004)), imagenet=True)
    assert found.num_kept(Length(180 * 5004, 5004)) == 155 * 5004
    assert found.num_kept(Length(36 * 5004, 5004)) == 31 * 5004
    assert "25 of 180 epochs, P1 appendix C" in found.describe()


GROWN = Length(2 * 31 + 2 * 15 + 2 * 7, 31, ((2, 2), (4, 4)))
"""The growing-batch preset at its smoke scale."""


def test_the_last_epoch_of_growing_batches_is_its_own_steps_not_the_first_epoch_s() -> None:
    assert Exclusion(last_epochs=1).num_kept(GROWN) == 106 - 7
    assert Exclusion(last_epochs=3).num_kept(GROWN) == 2 * 31 + 15


def test_equal_steps_of_batches_that_grow_and_stay_lose_the_same_last_steps() -> None:
    runs = runs_table((106, 31), (106, 31)).assign(growth=[(), ((2, 2), (4, 4))])
    found = default_exclusion(runs)
    assert (found.last_steps, found.last_epochs) == (26, 0)
