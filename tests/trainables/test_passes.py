"""Both passes on tiny real trainings: exact replays, shared budgets, divergence, the lock."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from geometry import path
from geometry.columns import COMMON_COLUMNS, NULL_COLUMNS
from geometry.probes.registry import PROBES
from trainables import passes
from trainables.config import RunConfig
from trainables.errors import UserError
from trainables.job import Progress, drive
from trainables.models.contract import ModelConfig
from trainables.models.registry import MODELS
from trainables.passes import is_settled
from trainables.record import ReferenceRecord, ReplayDiverged
from trainables.reference import CHECKPOINT, load_record
from trainables.store import Folder, Store, StoreDamaged, read_table, read_tensors
from trainables.tables import step_columns

Tiny = Callable[..., RunConfig]
Finish = Callable[..., list[Progress]]


def steps(store: Store, run_id: str = "a") -> pd.DataFrame:
    return read_table(store.run(run_id).path / "steps.parquet")


def epochs(store: Store, run_id: str = "a") -> pd.DataFrame:
    return read_table(store.run(run_id).path / "epochs.parquet")


def manifest(folder: Folder) -> dict[str, Any]:
    values = folder.manifest()
    assert values is not None
    return values


def columns(table: pd.DataFrame) -> dict[str, Tensor]:
    return {name: torch.tensor(table[name].to_numpy()) for name in table if name != "run_id"}


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


# -- Shared budgets ---------------------------------------------------------------------------


BUDGETS: dict[str, dict[str, int]] = {
    "short": {"epochs": 3},
    "partial": {"steps": 7},
    "long": {"epochs": 5},
}


@pytest.fixture
def budgets(tiny: Tiny) -> dict[str, RunConfig]:
    """Runs of one trajectory: ending where no evaluation is due, inside an epoch, without w*."""
    configs = {name: tiny(budget=b, evaluate_every_epochs=2) for name, b in BUDGETS.items()}
    direct = tiny(budget={"steps": 4}, evaluate_every_epochs=2, probes=["preconditioner"])
    return {**configs, "direct": direct}


def run_files(store: Store, run_id: str) -> dict[str, bytes]:
    folder = store.run(run_id).path
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.parquet"))}


def sealed_values(store: Store, run_id: str) -> dict[str, Any]:
    return {k: v for k, v in manifest(store.run(run_id)).items() if k != "seconds"}


@pytest.fixture
def separate(
    budgets: dict[str, RunConfig], tmp_path: Path, finish: Finish
) -> dict[str, tuple[dict[str, bytes], dict[str, Any]]]:
    """Files and manifest of every run, each computed in a store of its own."""
    results = {}
    for name, config in budgets.items():
        alone = Store(tmp_path / f"alone-{name}")
        finish(alone, **{name: config})
        results[name] = run_files(alone, name), sealed_values(alone, name)
    return results


def assert_same_as_separate(
    store: Store, separate: dict[str, tuple[dict[str, bytes], dict[str, Any]]]
) -> None:
    for name, (files, sealed) in separate.items():
        assert run_files(store, name) == files, name
        assert sealed_values(store, name) == sealed, name
    store.trajectory("t").check_files()


def test_runs_that_share_a_trajectory_equal_separate_ones(
    budgets: dict[str, RunConfig],
    separate: dict[str, tuple[dict[str, bytes], dict[str, Any]]],
    store: Store,
    finish: Finish,
) -> None:
    progress = finish(store, **budgets)
    assert_same_as_separate(store, separate)
    assert max(p.step for p in progress if p.phase == "reference") == 15
    assert sum(p.phase == "replay" for p in progress) == 6, "one replay for all"


@pytest.mark.parametrize(
    "order",
    [
        ("short", "partial", "long", "direct"),
        ("long", "partial", "direct", "short"),
        ("direct", "long", "short", "partial"),
    ],
)
def test_a_trajectory_is_extended_in_any_order(
    budgets: dict[str, RunConfig],
    separate: dict[str, tuple[dict[str, bytes], dict[str, Any]]],
    store: Store,
    finish: Finish,
    order: tuple[str, ...],
) -> None:
    for name in order:
        finish(store, **{name: budgets[name]})
        store.trajectory("t").check_files()
    assert_same_as_separate(store, separate)
    record = load_record(store.trajectory("t"))
    assert record is not None
    assert [end.step for end in record.ends] == [4, 7, 9, 15]


def test_a_longer_budget_goes_on_where_the_shorter_ended(
    budgets: dict[str, RunConfig], store: Store, finish: Finish
) -> None:
    finish(store, short=budgets["short"])
    progress = finish(store, long=budgets["long"])
    assert [p.step for p in progress if p.phase == "reference"] == [12, 15]


def test_a_covered_small_budget_beside_a_new_middle_one_stays_within_its_own_steps(
    tiny: Tiny, store: Store, finish: Finish
) -> None:
    finish(store, tiny_end=tiny(budget={"steps": 2}), long=tiny(budget={"epochs": 3}))
    direct = tiny(budget={"steps": 2}, probes=["preconditioner"])
    finish(store, direct=direct, middle=tiny(budget={"steps": 7}))
    assert len(steps(store, "direct")) == 2
    assert len(steps(store, "middle")) == 7


def test_what_is_done_is_not_done_again(tiny: Tiny, store: Store, finish: Finish) -> None:
    finish(store, a=tiny())
    before = {p: p.stat().st_mtime_ns for p in store.root.rglob("*.*")}
    assert finish(store, a=tiny()) == []
    assert {p: p.stat().st_mtime_ns for p in store.root.rglob("*.*")} == before


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


# -- Divergence -------------------------------------------------------------------------------


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


class Unseeded(nn.Module):
    """Dropout that draws from a generator of its own, which nobody seeds."""

    generator = torch.Generator()

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden * (torch.rand(hidden.shape, generator=self.generator) < 0.9)


class UnseededConfig(ModelConfig):
    """A network that cannot be replayed."""

    name: ClassVar[str] = "unseeded"

    def build(self, input_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
        inputs = torch.Size(input_shape).numel()
        return nn.Sequential(nn.Flatten(), Unseeded(), nn.Linear(inputs, num_outputs))


def assert_marked(store: Store) -> None:
    sealed = manifest(store.run("a"))
    assert (sealed["status"], sealed["replay_exact"]) == ("replay_diverged", False)
    assert not list(store.run("a").path.glob("*.parquet")), "it must have no tables"
    assert not is_settled(store, "a"), "it must be tried again"


def test_randomness_that_is_not_counter_based_is_found_out(
    tiny: Tiny, store: Store, finish: Finish, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MODELS, "unseeded", UnseededConfig)
    with pytest.raises(ReplayDiverged, match="by the end of epoch 0"):
        finish(store, a=tiny(model="unseeded"))
    assert_marked(store)


@pytest.mark.parametrize("budget", [{"epochs": 3}, {"steps": 4}])
def test_a_nudged_replay_is_found_out_at_the_next_epoch_end_or_budget_end(
    tiny: Tiny,
    store: Store,
    finish: Finish,
    monkeypatch: pytest.MonkeyPatch,
    budget: dict[str, int],
) -> None:
    def nudged(trajectory: Any, *args: Any) -> Iterator[int]:
        for step in drive(trajectory, *args):
            yield step
            if step == 3:
                first = trajectory.flat.weights[:1]
                first.copy_(torch.nextafter(first, first + 1))

    with monkeypatch.context() as patch:
        patch.setattr(passes, "drive", nudged)
        with pytest.raises(ReplayDiverged, match="by the end of epoch 1") as caught:
            finish(store, a=tiny(budget=budget), b=tiny(budget={"steps": 3}))
    assert caught.value.epoch == 1
    assert_marked(store)
    assert manifest(store.run("b"))["status"] == "done", "it ended before the nudge"
    finish(store, a=tiny(budget=budget))
    assert manifest(store.run("a"))["status"] == "done"
    assert (store.run("a").path / "steps.parquet").is_file()


def reseal(folder: Folder, change: Callable[[dict[str, Any]], None]) -> None:
    values = manifest(folder)
    files = list(values.pop("files"))
    del values["store_version"]
    change(values)
    folder.write_manifest(values, files)


def test_another_recorded_fingerprint_is_found_out(
    tiny: Tiny, store: Store, finish: Finish
) -> None:
    finish(store, other=tiny())

    def change(values: dict[str, Any]) -> None:
        values["record"]["epochs"][1]["fingerprint"] = "0" * 64

    reseal(store.trajectory("t"), change)
    with pytest.raises(ReplayDiverged, match=r"epoch 1: weights .* had 000000000000"):
        finish(store, a=tiny(probes=["path"]))
    assert_marked(store)


def test_another_reference_is_found_out(tiny: Tiny, store: Store, finish: Finish) -> None:
    finish(store, other=tiny())
    file = store.trajectory("t").path / "references/9.safetensors"
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    with pytest.raises(StoreDamaged, match=r"9\.safetensors: damaged"):
        finish(store, a=tiny(probes=["path"]))


# -- The lock and the environment -------------------------------------------------------------


def test_a_locked_trajectory_is_left_alone(
    tiny: Tiny, store: Store, finish: Finish, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = store.trajectory("t")
    monkeypatch.setattr(Folder.lock.__wrapped__, "__defaults__", (0.05,))  # type: ignore[attr-defined]
    with folder.lock():
        with pytest.raises(UserError, match="in use by another process"):
            finish(store, a=tiny())
        assert not folder.manifest_path.exists()
    finish(store, a=tiny())


def change_environment(folder: Folder) -> None:
    def change(values: dict[str, Any]) -> None:
        values["record"]["environment"]["torch"] = "1.0"

    reseal(folder, change)
    (folder.path / CHECKPOINT).unlink()


def test_what_another_environment_computed_is_redone_and_says_so(
    tiny: Tiny, store: Store, finish: Finish
) -> None:
    finish(store, a=tiny())
    change_environment(store.trajectory("t"))
    progress = finish(store, b=tiny(probes=["path"]))
    assert [p.step for p in progress if p.phase == "reference"] == [3, 6, 9]
    record = load_record(store.trajectory("t"))
    assert isinstance(record, ReferenceRecord)
    assert record.redone_because is not None
    assert "'torch': '1.0'" in record.redone_because
    assert manifest(store.run("b"))["status"] == "done"


def test_another_content_of_the_data_is_another_reference_pass(
    tiny: Tiny, store: Store, finish: Finish
) -> None:
    finish(store, a=tiny())

    def change(values: dict[str, Any]) -> None:
        values["record"]["data_digest"] = "other"

    reseal(store.trajectory("t"), change)
    (store.trajectory("t").path / CHECKPOINT).unlink()
    finish(store, b=tiny(probes=["path"]))
    record = load_record(store.trajectory("t"))
    assert record is not None
    assert record.redone_because == "the data set's content changed"


def test_the_recorded_thread_count_is_kept(tiny: Tiny, store: Store, finish: Finish) -> None:
    finish(store, num_threads=1, a=tiny(budget={"epochs": 1}))
    finish(store, num_threads=2, b=tiny(budget={"epochs": 2}))
    assert torch.get_num_threads() == 1
    assert manifest(store.run("b"))["environment"]["num_threads"] == 1
