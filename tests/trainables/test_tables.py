"""Tables: fixed columns, one row per step, aggregates against a naive reference."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from geometry.probes.registry import PROBES
from trainables.length import Calendar
from trainables.record import End, EpochRecord, ReferenceRecord
from trainables.tables import (
    epochs_table,
    labelled_table,
    reference_epochs_table,
    step_columns,
    steps_table,
)

NAN = math.nan
GAMMA = [0.5, NAN, -0.25, 0.75, 0.1, -0.1, 0.3]
DISTANCE = [4.0, 3.0, 2.5, 2.0, 1.0, 0.5, 0.25]
THREE = Calendar.constant(3)
"""Three steps to an epoch."""
NORM = [1.0, 0.0, 3.0, 4.0, 5.0, 6.0, 7.0]


def columns() -> dict[str, Tensor]:
    values = {
        "gamma": GAMMA,
        "loss": [float(n) for n in range(7)],
        "distance": DISTANCE,
        "gradient_norm": NORM,
        "inner_product": [2.0, 0.0, -1.0, 6.0, 0.5, -0.3, 0.525],
        "learning_rate": [0.1] * 7,
    }
    tensors = {name: torch.tensor(column, dtype=torch.float64) for name, column in values.items()}
    return {"step": torch.arange(7), **tensors}


@pytest.fixture
def steps() -> pd.DataFrame:
    """Seven steps of three to an epoch; one gamma is undefined."""
    return steps_table("r", columns(), THREE)


def test_steps_have_fixed_order_and_types(steps: pd.DataFrame) -> None:
    known = [column.name for column in step_columns() if column.name in columns()]
    assert list(steps) == ["run_id", "step", "epoch", *known]
    assert known[:3] == ["loss", "learning_rate", "distance"]
    assert steps["epoch"].tolist() == [0, 0, 0, 1, 1, 1, 2]
    assert str(steps["step"].dtype) == "int64"
    assert {str(steps[name].dtype) for name in known} == {"float64"}


STABLE = [
    "loss",
    "learning_rate",
    "distance",
    "gradient_norm",
    "inner_product",
    "rsi",
    "error_bound",
    "gamma",
    "local_lr",
    "null_gamma",
    "null_gamma_closed",
    "null_rsi",
    "null_error_bound",
    "null_local_lr",
    "null_distance",
    "update_norm",
    "update_inner_product",
    "decayed_gradient_norm",
    "decayed_inner_product",
    "preconditioned_inner",
    "preconditioned_norm",
    "weight_product",
    "buffer_product",
    "weight_decay",
    "used_distance",
    "used_rsi",
    "used_error_bound",
    "used_gamma",
    "mean_correlation",
    "mean_correlation_causal",
    "entry_variation",
    "is_smooth",
    "is_zigzag",
    "is_random",
    "is_mixed",
    "gradient_dominance",
    "gradient_lipschitz",
    "bridge_own",
    "bridge_correlation",
    "bridge_momentum",
    "bridge_decay",
    "bridge_left_over",
]
"""Users' notebooks read these names; the order is that of the file. Probes add theirs."""


def test_the_documented_columns_have_the_stable_names_in_order() -> None:
    documented = [column.name for column in step_columns()]
    assert len(set(documented)) == len(documented)
    assert [name for name in documented if name in STABLE] == STABLE


def test_every_column_is_documented_once() -> None:
    documented = step_columns()
    names = [column.name for column in documented]
    assert len(set(names)) == len(names)
    for column in documented:
        assert column.unit
        assert column.meaning
        for part in column.ratio or ():
            assert set(part) <= set(names)


def test_epoch_aggregates_are_those_of_the_defined_values(steps: pd.DataFrame) -> None:
    table = epochs_table("r", steps, [])
    assert table["num_steps"].tolist() == [3, 3, 1]
    for epoch in range(3):
        values = [v for v in GAMMA[3 * epoch : 3 * epoch + 3] if not math.isnan(v)]
        row = table.iloc[epoch]
        assert row["gamma_mean"] == pytest.approx(statistics.fmean(values))
        assert row["gamma_median"] == pytest.approx(statistics.median(values))
        assert row["gamma_std"] == pytest.approx(statistics.pstdev(values))
        assert (row["gamma_min"], row["gamma_max"]) == (min(values), max(values))
        assert row["gamma_num_negative"] == sum(v < 0 for v in values)
    assert table["gamma_num_undefined"].tolist() == [1, 0, 0]
    assert table["loss_num_undefined"].tolist() == [0, 0, 0]


def test_a_ratio_is_also_the_ratio_of_the_means(steps: pd.DataFrame) -> None:
    table = epochs_table("r", steps, [])
    for epoch in range(3):
        rows = slice(3 * epoch, 3 * epoch + 3)
        inner = statistics.fmean(columns()["inner_product"].tolist()[rows])
        products = [n * d for n, d in zip(NORM[rows], DISTANCE[rows], strict=True)]
        expected = inner / statistics.fmean(products)
        assert table["gamma_ratio_of_means"][epoch] == pytest.approx(expected)
    assert "distance_ratio_of_means" not in table


def test_an_epoch_without_a_defined_value_stays_undefined() -> None:
    broken = columns() | {"gamma": torch.full((7,), NAN, dtype=torch.float64)}
    table = epochs_table("r", steps_table("r", broken, THREE), [])
    for how in ("mean", "median", "std", "min", "max"):
        assert table[f"gamma_{how}"].isna().all(), how
    assert table["gamma_num_undefined"].tolist() == [3, 3, 1]


def record() -> ReferenceRecord:
    """Five epochs of three steps, every second one evaluated; budgets end after 7, 9, 15 steps."""
    rows = [
        EpochRecord(
            epoch=epoch,
            step=3 * epoch + 3,
            fingerprint=str(epoch),
            evaluation={"train_loss": float(epoch)} if epoch % 2 else {},
        )
        for epoch in range(5)
    ]
    ends = [
        End(
            step=step,
            file="f",
            fingerprint="x",
            evaluation={"train_loss": 90.0 + step, "test_loss": 1.0},
        )
        for step in (7, 9, 15)
    ]
    return ReferenceRecord(
        environment={},
        steps_per_epoch=3,
        data_digest="d",
        initial={"train_loss": 5.0},
        epochs=rows,
        ends=ends,
    )


@pytest.mark.parametrize(
    ("num_steps", "train_loss"),
    [
        (7, [NAN, 1.0, NAN]),  # ends inside epoch 2, which has no row of its own
        (9, [NAN, 1.0, 99.0]),  # its own end is evaluated
        (15, [NAN, 1.0, NAN, 3.0, 105.0]),  # another budget's end, after 9 steps, does not show
    ],
)
def test_evaluations_are_those_of_the_cadence_and_of_the_own_end(
    num_steps: int, train_loss: list[float]
) -> None:
    several = {"step": torch.arange(num_steps), "loss": torch.zeros(num_steps).double()}
    table = epochs_table("r", steps_table("r", several, THREE), record().rows_until(num_steps))
    np.testing.assert_array_equal(table["train_loss"], train_loss)
    assert "test_loss" not in table
    assert not {"step", "fingerprint"} & set(table)


def test_a_run_without_measurements_keeps_what_the_reference_pass_saw() -> None:
    table = reference_epochs_table("r", record().rows_until(6))
    assert list(table) == ["run_id", "train_loss", "epoch"]
    assert table["epoch"].tolist() == [0, 1]
    empty = reference_epochs_table("r", [])
    assert len(empty) == 0
    assert {"run_id", "epoch"} <= set(empty)


def test_labelled_tables_are_long_and_keep_the_documented_order() -> None:
    names = [column.name for column in PROBES["layers"].columns]
    values = {name: torch.randn(2, 3).double() for name in sorted(names)}
    table = labelled_table("r", {**values, "step": torch.tensor([4, 8])}, ("a", "b", "c"), THREE)
    assert list(table) == ["run_id", "step", "epoch", "label", *names]
    assert table["step"].tolist() == [4, 4, 4, 8, 8, 8]
    assert table["epoch"].tolist() == [1, 1, 1, 2, 2, 2]
    assert table["label"].tolist() == ["a", "b", "c"] * 2
    assert table["gamma"].tolist() == values["gamma"].flatten().tolist()
