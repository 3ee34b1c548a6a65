"""Planted exponents, and the word that each must get."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis import load_sweep
from analysis.cells import ablations_of
from analysis.claims.judging import judge
from analysis.trends import trend_table
from analysis.verdicts import Verdict, Word
from trainables.store import read_sealed, write_sealed

Plant = Callable[..., list[Any]]
Write = Callable[..., Any]


def verdicts(storage: Path) -> list[Verdict]:
    """Those on the claims about the batch size."""
    sweep = load_sweep("planted", storage)
    found = judge(sweep, ablations_of(sweep))
    return [verdict for verdict in found if verdict.id in ("C12", "C13")]


def words(storage: Path) -> list[Word]:
    return [verdict.word for verdict in verdicts(storage)]


def test_half_with_a_null_of_half_is_explained_by_the_null(
    storage: Path, write: Write, plant: Plant
) -> None:
    write(
        storage,
        plant("equal-epochs", 0.5, 0.5, spread=0.01)
        + plant("equal-steps", 0.0, 0.0, spread=0.01, steps=120),
    )
    assert words(storage) == [Word.EXPLAINED, Word.EXPLAINED]


def test_equal_epochs_alone_can_never_be_beyond_the_null(
    storage: Path, write: Write, plant: Plant
) -> None:
    write(storage, plant("equal-epochs", 0.5, 0.5, spread=0.01))
    found = verdicts(storage)
    assert "equal-epochs: holds for gamma, and for the null model" in found[0].why
    assert [verdict.word for verdict in found] == [Word.EXPLAINED, Word.EXPLAINED]
    assert "nothing can be beyond the null" in found[0].why


def test_half_at_equal_steps_is_beyond_the_null(storage: Path, write: Write, plant: Plant) -> None:
    write(
        storage,
        plant("equal-epochs", 1.0, 0.5, spread=0.01)
        + plant("equal-steps", 0.5, 0.0, spread=0.01, steps=120),
    )
    assert words(storage) == [Word.BEYOND, Word.BEYOND]


def test_half_at_equal_steps_where_the_null_has_it_too_is_explained(
    storage: Path, write: Write, plant: Plant
) -> None:
    write(storage, plant("equal-steps", 0.5, 0.5, spread=0.01, steps=120))
    assert words(storage) == [Word.EXPLAINED, Word.EXPLAINED]


def test_flat_is_refuted(storage: Path, write: Write, plant: Plant) -> None:
    write(storage, plant("equal-epochs", 0.0, 0.5, spread=0.01))
    assert words(storage) == [Word.REFUTED, Word.REFUTED]


def test_wide_is_inconclusive(storage: Path, write: Write, plant: Plant) -> None:
    write(storage, plant("equal-epochs", 0.5, 0.5, spread=0.3))
    assert words(storage) == [Word.INCONCLUSIVE, Word.INCONCLUSIVE]


def test_one_seed_is_inconclusive_and_says_why(storage: Path, write: Write, plant: Plant) -> None:
    write(storage, plant("equal-epochs", 0.5, 0.5, seeds=(0,)))
    found = verdicts(storage)
    assert {verdict.word for verdict in found} == {Word.INCONCLUSIVE}
    assert "interval undefined with one seed" in found[0].evidence


def test_growth_that_is_not_monotone_is_not_settled(
    storage: Path, write: Write, plant: Plant
) -> None:
    runs = plant("equal-epochs", 0.5, 0.5, spread=0.01)
    for run in runs:
        if run.axes["batch_size"] == 64:
            # Twice as high early, nothing late: the run's mean is kept, the order is not.
            half = run.num_steps // 2
            run.gamma[:half] *= 1.9
            run.gamma[half:] *= 0.1
    write(storage, runs)
    assert verdicts(storage)[0].word is Word.INCONCLUSIVE


def test_an_exponent_close_to_but_not_at_half_refutes_the_square_root_only(
    storage: Path, write: Write, plant: Plant
) -> None:
    write(storage, plant("equal-epochs", 0.7, 0.5, spread=0.01))
    assert words(storage) == [Word.EXPLAINED, Word.REFUTED]


def test_data_that_grow_where_neither_null_nor_twin_explains_it_stay_open(
    storage: Path, write: Write, plant: Plant
) -> None:
    write(storage, plant("equal-epochs", 0.5, 0.0, spread=0.01))
    assert words(storage) == [Word.INCONCLUSIVE, Word.INCONCLUSIVE]


def test_exponents_of_null_and_ratio_add_up(storage: Path, write: Write, plant: Plant) -> None:
    write(storage, plant("equal-epochs", 0.6, 0.52, spread=0.02, walk=True))
    sweep = load_sweep("planted", storage)
    law = trend_table(ablations_of(sweep)).set_index("measure")["exponent"]
    assert law["gamma"] == pytest.approx(law["null_gamma"] + law["gamma_over_null"], abs=1e-12)


def test_closed_null_of_the_fit_is_one_half_at_equal_epochs(
    storage: Path, write: Write, plant: Plant
) -> None:
    write(storage, plant("equal-epochs", 0.6, 0.5, batches=(15, 30, 60), epochs=40))
    sweep = load_sweep("planted", storage)
    law = trend_table(ablations_of(sweep)).set_index("measure")["exponent"]
    assert law["null_gamma_closed"] == pytest.approx(0.5, abs=0.01)


def test_undefined_steps_are_left_out_and_counted(
    storage: Path, write: Write, plant: Plant
) -> None:
    runs = plant("equal-epochs", 0.5, 0.5, spread=0.01)
    for run in runs:
        run.gamma[3] = np.nan
    write(storage, runs)
    sweep = load_sweep("planted", storage)
    (ablation,) = ablations_of(sweep)
    assert ablation.cells["num_undefined"].tolist() == [1] * len(runs)
    assert "gamma undefined at 12 kept steps, left out of the means" in ablation.notes
    assert words(storage) == [Word.EXPLAINED, Word.EXPLAINED]


def test_one_batch_size_gives_no_exponent(storage: Path, write: Write, plant: Plant) -> None:
    write(storage, plant("equal-epochs", 0.5, 0.5, batches=(64,)))
    found = verdicts(storage)
    assert {verdict.word for verdict in found} == {Word.INCONCLUSIVE}
    assert "gamma ~ b^undefined" in found[0].evidence


def test_no_finished_run_gives_no_verdict(storage: Path, write: Write, plant: Plant) -> None:
    runs = plant("equal-epochs", 0.5, 0.5)
    for run in runs:
        run.status = "not started"
    write(storage, runs)
    assert verdicts(storage) == []


def test_crossed_axes_are_judged_group_by_group(storage: Path, write: Write, plant: Plant) -> None:
    runs = plant("equal-epochs", 0.5, 0.5, spread=0.01) + plant("equal-epochs", 0.0, 0.5)
    for index, run in enumerate(runs):
        run.axes["optimizer"] = "momentum" if index < len(runs) // 2 else "adam"
    write(storage, runs, axes=("batch_size", "optimizer", "seed"))
    by_scope = {(v.scope, v.claim): v.word for v in verdicts(storage)}
    claim = "gamma increases with the batch size"
    assert by_scope["optimizer momentum", claim] is Word.EXPLAINED
    assert by_scope["optimizer adam", claim] is Word.REFUTED


def test_an_axis_that_goes_with_the_batch_size_makes_no_group(
    storage: Path, write: Write, plant: Plant
) -> None:
    runs = plant("equal-epochs", 0.5, 0.5, spread=0.01)
    for run in runs:
        run.axes["learning_rate.base"] = run.axes["batch_size"] / 1000
    write(storage, runs, axes=("batch_size", "learning_rate.base", "seed"))
    assert [(v.scope, v.word) for v in verdicts(storage)] == [("", Word.EXPLAINED)] * 2


def test_an_ablation_s_own_exclusion_wins_over_the_sweep_s(
    storage: Path, write: Write, plant: Plant
) -> None:
    store = write(
        storage,
        plant("equal-epochs", 0.5, 0.5) + plant("equal-steps", 0.0, 0.0, steps=60),
        analysis={"exclude": {"last_epochs": 2}},
    )
    path = store.sweep("planted").path / "plan.json"
    plan = read_sealed(path)
    assert plan is not None
    plan["ablations"]["equal-steps"]["analysis"] = {"exclude": {"last_steps": 5}}
    write_sealed(path, plan)
    found = [a.exclusion.describe() for a in ablations_of(load_sweep("planted", storage))]
    assert found == [
        "left out of every run: the last 2 epochs (set in the spec)",
        "left out of every run: the last 5 steps (set in the spec)",
    ]
