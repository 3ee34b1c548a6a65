"""One run's steps, reduced: against plain pandas, against closed forms, and read once."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis import load_sweep
from analysis.cells import Ablation, ablations_of, parts_of
from analysis.exclusion import Exclusion
from analysis.lengths import Length
from analysis.reductions import (
    NUM_PARTS,
    NUM_SLICES,
    epoch_means,
    kept_means,
    reduce_run,
    shares,
)
from analysis.runs import AHEAD, read_ahead

Plant = Callable[..., list[Any]]
Write = Callable[..., Any]

NUM_STEPS, PER_EPOCH = 130, 13


def steps_table(power: float = 1.0, null_power: float = 1.0) -> pd.DataFrame:
    generator = np.random.default_rng(5)
    step = np.arange(NUM_STEPS)
    left = (NUM_STEPS - step).astype(float)
    table = pd.DataFrame(
        {
            "step": step,
            "gamma": generator.normal(0.1, 0.2, NUM_STEPS),
            "null_gamma": generator.uniform(0.1, 0.2, NUM_STEPS),
            "null_gamma_closed": left**-0.5,
            "distance": 3 * left ** (power / 2),
            "null_distance": 2 * left ** (null_power / 2),
        }
    )
    table.loc[[3, 40, 41], "gamma"] = np.nan
    table.loc[40, "null_gamma"] = np.nan
    return table


def reduced(steps: pd.DataFrame) -> Any:
    return reduce_run(steps, Exclusion(last_epochs=1), Length(NUM_STEPS, PER_EPOCH))


def test_means_are_those_of_pandas_over_the_kept_steps() -> None:
    steps = steps_table()
    kept = steps[steps["step"] < NUM_STEPS - PER_EPOCH]
    means = reduced(steps).means
    for name in ("gamma", "null_gamma", "null_gamma_closed"):
        assert means[name] == pytest.approx(kept[name].mean(), rel=1e-12)
    both = kept.dropna(subset=["gamma", "null_gamma"])
    ratio = both["gamma"].mean() / both["null_gamma"].mean()
    assert means["gamma_over_null"] == pytest.approx(ratio, rel=1e-12)
    stepwise = (kept["gamma"] / kept["null_gamma"]).mean()
    assert means["gamma_over_null_stepwise"] == pytest.approx(stepwise, rel=1e-12)
    assert means["num_undefined"] == 3
    assert means["num_negative"] == (kept["gamma"] < 0).sum()
    assert means["num_kept"] == NUM_STEPS - PER_EPOCH


def test_parts_and_slices_are_those_of_a_group_by() -> None:
    steps = steps_table()
    found = reduced(steps)
    kept = steps[steps["step"] < NUM_STEPS - PER_EPOCH]
    groups = kept.groupby(NUM_PARTS * kept["step"] // NUM_STEPS)
    np.testing.assert_allclose(found.parts["gamma_mean"], groups["gamma"].mean(), rtol=1e-12)
    np.testing.assert_array_equal(found.parts["gamma_low"], groups["gamma"].min())
    np.testing.assert_array_equal(found.parts["gamma_high"], groups["gamma"].max())
    np.testing.assert_array_equal(found.parts["x"], groups["step"].mean() + 0.5)
    slices = steps.groupby(NUM_SLICES * steps["step"] // NUM_STEPS)
    np.testing.assert_allclose(found.slices["null_gamma"], slices["null_gamma"].mean(), rtol=1e-12)


def test_a_run_whose_steps_are_all_left_out_has_no_mean() -> None:
    found = reduce_run(steps_table(), Exclusion(last_epochs=10), Length(NUM_STEPS, PER_EPOCH))
    assert found.means["num_kept"] == 0
    assert math.isnan(found.means["gamma"])
    assert math.isnan(found.means["straightness"])
    assert found.parts.empty


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_straightness_is_one_for_a_walk_and_two_for_a_straight_road(power: float) -> None:
    means = reduced(steps_table(power, null_power=1.0)).means
    assert means["straightness"] == pytest.approx(power, rel=1e-12)
    assert means["null_straightness"] == pytest.approx(1.0, rel=1e-12)
    assert means["straightness_over_null"] == pytest.approx(power - 1.0, abs=1e-12)


def test_without_its_null_a_run_has_a_straightness_all_the_same() -> None:
    means = reduced(steps_table().drop(columns="null_distance")).means
    assert means["straightness"] == pytest.approx(1.0, rel=1e-12)
    assert math.isnan(means["straightness_over_null"])


def test_epochs_alone_give_the_means_over_whole_kept_epochs() -> None:
    steps = steps_table()
    groups = steps.groupby(steps["step"] // PER_EPOCH)
    epochs = pd.DataFrame({"num_steps": groups.size()})
    for name in ("gamma", "null_gamma", "null_gamma_closed"):
        epochs[f"{name}_mean"] = groups[name].mean()
        epochs[f"{name}_num_undefined"] = groups[name].agg(lambda values: values.isna().sum())
    epochs["gamma_num_negative"] = groups["gamma"].agg(lambda values: (values < 0).sum())
    num_kept = NUM_STEPS - PER_EPOCH - 4  # the epoch that it cuts is not whole
    whole = {name: steps[name].to_numpy()[: NUM_STEPS - 2 * PER_EPOCH] for name in steps.columns}
    own, expected = epoch_means(epochs, num_kept), kept_means(whole)
    for name in ("gamma", "null_gamma", "num_kept", "num_undefined", "num_negative"):
        assert own[name] == pytest.approx(expected[name], rel=1e-12)


def only(storage: Path) -> Ablation:
    (ablation,) = ablations_of(load_sweep("planted", storage))
    return ablation


def test_a_second_look_reads_no_step_again(storage: Path, write: Write, plant: Plant) -> None:
    store = write(storage, plant("equal-epochs", 0.5, 0.5, batches=(64, 128), epochs=3))
    first = only(storage)
    for path in store.root.glob("runs/*/steps.parquet"):
        path.unlink()
    second = only(storage)
    pd.testing.assert_frame_equal(second.cells, first.cells)
    pd.testing.assert_frame_equal(second.parts, first.parts)
    epochs = load_sweep("planted", storage).epoch_columns(["gamma_mean"])
    assert epochs.columns.tolist() == ["run_id", "epoch", "num_steps", "gamma_mean"]


def test_what_was_kept_is_dropped_when_a_run_changes(
    storage: Path, write: Write, plant: Plant
) -> None:
    write(storage, plant("equal-epochs", 0.5, 0.5, batches=(64, 128), epochs=3))
    before = only(storage).cells["gamma"]
    shutil.rmtree(storage / "runs")
    write(storage, plant("equal-epochs", 0.7, 0.5, batches=(64, 128), epochs=3))
    assert (only(storage).cells["gamma"] > before).any()


def test_a_damaged_cache_is_made_anew(storage: Path, write: Write, plant: Plant) -> None:
    store = write(storage, plant("equal-epochs", 0.5, 0.5, batches=(64, 128), epochs=3))
    before = only(storage).cells
    (store.sweep("planted").path / "cache" / "means.parquet").write_bytes(b"PAR1")
    pd.testing.assert_frame_equal(only(storage).cells, before)


def test_runs_without_a_steps_table_count_by_their_epochs_and_are_named(
    storage: Path, write: Write, plant: Plant
) -> None:
    runs = plant("equal-epochs", 0.5, 0.5, batches=(64, 128), epochs=3)
    store = write(storage, runs)
    whole = only(storage).cells
    shutil.rmtree(store.sweep("planted").path / "cache")
    (store.run("r001").path / "steps.parquet").unlink()
    ablation = only(storage)
    np.testing.assert_allclose(ablation.cells["gamma"], whole["gamma"], rtol=1e-12)
    assert ablation.notes == (
        "no steps table of r001: means over whole kept epochs, no course along the run",
    )
    assert "r001" not in set(ablation.parts["run_id"])


def test_a_column_that_is_not_kept_in_parts_is_read(
    storage: Path, write: Write, plant: Plant
) -> None:
    write(storage, plant("equal-epochs", 0.5, 0.5, batches=(64, 128), epochs=3))
    sweep = load_sweep("planted", storage)
    (ablation,) = ablations_of(sweep)
    own = parts_of(sweep, ablation, ["gamma"])
    other = parts_of(sweep, ablation, ["loss", "gamma"])
    names = ["run_id", "part", "x", "gamma_mean", "gamma_low", "gamma_high"]
    pd.testing.assert_frame_equal(
        own[names].sort_values(["run_id", "part"], ignore_index=True),
        other[names].sort_values(["run_id", "part"], ignore_index=True),
    )
    assert other["loss_mean"].notna().all()


def test_the_predicted_distances_are_the_means_of_the_shares_over_the_kept_steps() -> None:
    steps = steps_table().assign(rsi=0.3, error_bound=2.0)
    kept = steps["step"].to_numpy() < NUM_STEPS - PER_EPOCH
    groups = NUM_PARTS * steps["step"][kept] // NUM_STEPS
    found = reduced(steps).parts
    for name, values in shares(steps, kept).items():
        expected = pd.Series(values[kept]).groupby(groups.to_numpy()).mean()
        np.testing.assert_allclose(found[f"{name}_mean"], expected, rtol=1e-12)


def test_reading_ahead_keeps_the_order_and_passes_errors_on() -> None:
    names = [str(number) for number in range(20)]
    assert list(read_ahead(int, names)) == [(name, int(name)) for name in names]
    ahead = read_ahead(int, ["1", "2", "x", "3"])
    assert [next(ahead), next(ahead)] == [("1", 1), ("2", 2)]
    with pytest.raises(ValueError, match="'x'"):
        next(ahead)


def test_reading_ahead_stays_a_few_tables_ahead() -> None:
    read: list[str] = []
    ahead = read_ahead(read.append, [str(number) for number in range(20)])
    next(ahead)
    ahead.close()
    assert len(read) <= AHEAD + 1
