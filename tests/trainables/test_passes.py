"""Both passes on tiny real trainings: exact replays, what tables hold, divergence."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from geometry import path
from geometry.columns import COMMON_COLUMNS, NULL_COLUMNS
from geometry.probes.registry import PROBES
from tests.trainables.finished import Finish, Tiny, columns, epochs, manifest, steps
from trainables.config import RunConfig
from trainables.passes import is_settled
from trainables.reference import CHECKPOINT
from trainables.store import Store, read_table, read_tensors
from trainables.tables import step_columns


def test_the_replay_is_exact_and_the_run_is_sealed(
    stateful: RunConfig, store: Store, finish: Finish
) -> None:
    progress = finish(store, a=stateful)
    sealed = manifest(store.run("a"))
    assert (sealed["status"], sealed["replay_exact"]) == ("done", True)
    store.run("a").check_files()
    store.trajectory("t").check_files()
    table = steps(store)
    assert table["step"].tolist() == list(range(9))
    assert table["epoch"].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    defined = [
        "distance",
        "gradient_norm",
        "gamma",
        "rsi",
        "error_bound",
        "local_lr",
        "update_norm",
    ]
    assert table[defined].notna().all().all()
    assert table["gamma"].abs().max() <= 1 + 1e-7
    assert [p.phase for p in progress] == ["reference"] * 3 + ["replay"] * 3
    assert [p.step for p in progress] == [3, 6, 9] * 2
    assert progress[-1].finished == ("a",)


@pytest.mark.parametrize("memory_format", ["contiguous", "channels_last"])
def test_the_replay_of_a_resnet_is_exact(
    tiny: Tiny, store: Store, finish: Finish, memory_format: str
) -> None:
    model = {"name": "resnet18", "width": 0.0625}
    config = tiny(model=model, memory_format=memory_format, budget={"steps": 4}, batch_size=16)
    finish(store, a=config)
    assert manifest(store.run("a"))["replay_exact"] is True


def test_the_replay_is_exact_on_two_threads(tiny: Tiny, store: Store, finish: Finish) -> None:
    config = tiny(model={"name": "mlp", "hidden": [300, 300]}, budget={"epochs": 1})
    finish(store, num_threads=2, a=config)
    sealed = manifest(store.run("a"))
    assert sealed["replay_exact"] is True
    assert sealed["environment"]["num_threads"] == 2


def test_the_update_identity_holds_from_row_to_row(
    stateful: RunConfig, store: Store, finish: Finish
) -> None:
    finish(store, a=stateful)
    table = columns(steps(store))
    following = torch.cat([table["distance"][1:], torch.zeros(1)])  # w_T is w*
    residual = path.update_identity(
        table["distance"], following, table["update_norm"], table["update_inner_product"]
    )
    assert residual.abs().max() < 1e-5  # for weights in float32


def test_plain_sgd_ends_as_the_closed_form_says(tiny: Tiny, store: Store, finish: Finish) -> None:
    # The last update is -eta G, and it ends at w*.
    finish(store, a=tiny(optimizer="sgd"))
    table = steps(store)
    last = table.iloc[-1]
    assert last["gamma"] == pytest.approx(1, abs=1e-6)
    assert last["rsi"] == pytest.approx(1 / 0.05, rel=1e-4)
    assert last["error_bound"] == pytest.approx(1 / 0.05, rel=1e-4)
    assert last["local_lr"] == pytest.approx(0.05, rel=1e-4)
    assert last["null_gamma"] == pytest.approx(1, abs=1e-12)
    ratio = table["update_norm"] / (0.05 * table["gradient_norm"])
    assert ratio.to_numpy() == pytest.approx(1, rel=1e-4)
    predicted = path.one_step_distance_squared(
        *(
            columns(table)[c]
            for c in ("learning_rate", "inner_product", "gradient_norm", "distance")
        )
    )
    assert predicted[:-1].sqrt().numpy() == pytest.approx(
        table["distance"].to_numpy()[1:], rel=1e-5
    )


def test_momentum_ends_below_one(tiny: Tiny, store: Store, finish: Finish) -> None:
    finish(store, a=tiny(budget={"epochs": 20}))
    last = steps(store).iloc[-1]
    # D = eta v with v = G + beta v_before: the null has norm^2 1 + beta^2 / (1 - beta^2) for equal
    # gradient norms, which here are equal only roughly
    assert last["null_gamma"] == pytest.approx(math.sqrt(1 - 0.9**2), rel=0.3)
    assert last["null_gamma"] < 0.7
    assert last["null_gamma_closed"] == 1
    assert 1 - last["gamma"] > 1e-3


def test_momentum_ends_at_eta_times_its_buffer(tiny: Tiny, store: Store, finish: Finish) -> None:
    finish(store, a=tiny())
    last = steps(store).iloc[-1]
    checkpoint, _ = read_tensors(store.trajectory("t").path / CHECKPOINT)
    velocity = checkpoint["state.optimizer.momentum_buffer"].double().norm()
    assert last["distance"] == pytest.approx(0.05 * float(velocity), rel=1e-5)
    assert last["distance"] == pytest.approx(last["update_norm"], rel=1e-9)


def test_losses_and_distances_are_those_of_the_training(
    tiny: Tiny, store: Store, finish: Finish, trajectory: Callable[..., Any]
) -> None:
    config = tiny()
    finish(store, a=config)
    built = trajectory(config)
    weights, losses = [], []
    for step in range(9):
        weights.append(built.flat.weights.double())
        losses.append(built.task.loss(built.model, step).item())
        built.advance(step + 1)
    table = steps(store)
    assert table["loss"].tolist() == losses
    distances = [float((w - built.flat.weights.double()).norm()) for w in weights]
    assert table["distance"].to_numpy() == pytest.approx(distances, rel=1e-6)
    reference, metadata = read_tensors(store.trajectory("t").path / "references/9.safetensors")
    assert torch.equal(reference["weights"], built.flat.weights)
    assert json.loads(metadata["layout"])[0]["name"] == built.flat.layout.labels[0]


def test_the_tables_have_the_documented_columns_in_order(
    tiny: Tiny, store: Store, finish: Finish
) -> None:
    probes = ["path", "update", "weight_decay", "preconditioner", "layers", "groups"]
    finish(store, a=tiny(probes=probes))
    documented = [column.name for column in step_columns()]
    run_id, step, epoch, *measured = steps(store)
    assert (run_id, step, epoch) == ("run_id", "step", "epoch")
    assert measured == [name for name in documented if name in measured]
    asked = [PROBES[name] for name in probes if PROBES[name].table == "steps"]
    assert {column.name for probe in asked for column in probe.columns} <= set(measured)
    assert {column.name for column in (*COMMON_COLUMNS, *NULL_COLUMNS)} <= set(measured)
    for name, num_labels in (("layers", 6), ("groups", 2)):
        table = read_table(store.run("a").path / f"{name}.parquet")
        assert list(table)[:4] == ["run_id", "step", "epoch", "label"]
        assert len(table) == 9 * num_labels
        squares = table.assign(square=table["distance"] ** 2).groupby("step")["square"].sum()
        assert squares.to_numpy() == pytest.approx(steps(store)["distance"].to_numpy() ** 2)
    assert manifest(store.run("a"))["files"].keys() == {
        "config.yaml",
        "epochs.parquet",
        "groups.parquet",
        "layers.parquet",
        "steps.parquet",
    }


def test_metrics_and_regime_come_from_the_reference_pass(
    tiny: Tiny, store: Store, finish: Finish
) -> None:
    finish(store, a=tiny(budget={"epochs": 30}, evaluate_every_epochs=7))
    sealed, table = manifest(store.run("a")), epochs(store)
    evaluated = table["validation_accuracy"].notna()
    assert table["epoch"][evaluated].tolist() == [6, 13, 20, 27, 29]
    metrics = sealed["metrics"]
    assert metrics["last_train_loss"] == table["train_loss"].iloc[-1]
    assert metrics["best_train_loss"] == table["train_loss"].min()
    assert metrics["best_validation_accuracy"] == table["validation_accuracy"].max()
    assert sealed["regime"] == "interpolating"
    assert "test_loss" not in metrics  # digits has no test split: missing stays missing


def test_a_run_that_needs_no_reference_has_no_replay(
    tiny: Tiny, store: Store, finish: Finish
) -> None:
    progress = finish(store, a=tiny(probes=["preconditioner"]))
    assert {p.phase for p in progress} == {"reference"}
    assert manifest(store.run("a"))["replay_exact"] is None
    table = steps(store)
    assert "gamma" not in table
    assert (table["preconditioned_inner"] == table["preconditioned_norm"] ** 2).mean() > 0.3
    assert table["preconditioned_inner"].to_numpy() == pytest.approx(
        table["preconditioned_norm"].to_numpy() ** 2
    )


def test_a_training_that_diverges_is_recorded_with_its_step(
    tiny: Tiny, store: Store, finish: Finish
) -> None:
    config = tiny(optimizer="sgd", learning_rate=1e18, budget={"epochs": 40})
    progress = finish(store, a=config)
    sealed = manifest(store.run("a"))
    assert (sealed["status"], sealed["replay_exact"]) == ("diverged", None)
    assert 1 <= sealed["diverged_at_step"] < 30
    assert not (store.run("a").path / "steps.parquet").exists()
    assert sealed["files"].keys() == {"config.yaml", "epochs.parquet"}
    assert progress[-1].finished == ("a",)
    assert is_settled(store, "a"), "a diverged run is not tried again"
    assert finish(store, a=config) == []
    store.trajectory("t").check_files()


@pytest.mark.parametrize("order", [("short", "long"), ("long", "short"), ("both",)])
def test_a_budget_that_ends_before_the_divergence_is_done(
    tiny: Tiny, store: Store, finish: Finish, order: tuple[str, ...]
) -> None:
    options = {"optimizer": "sgd", "learning_rate": 1e18}
    short, long = (tiny(budget={"steps": n}, **options) for n in (1, 120))
    jobs = {"short": {"short": short}, "long": {"long": long}}
    for name in order:
        finish(store, **jobs.get(name, {"short": short, "long": long}))
    assert manifest(store.run("long"))["status"] == "diverged"
    assert manifest(store.run("short"))["status"] == "done"
    assert len(steps(store, "short")) == 1
