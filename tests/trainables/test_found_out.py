"""What a replay finds out: hidden randomness, a nudge, damage, other data or environment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from tests.trainables.finished import Finish, Tiny, manifest
from trainables import passes
from trainables.errors import UserError
from trainables.job import drive
from trainables.models.contract import ModelConfig
from trainables.models.registry import MODELS
from trainables.passes import is_settled
from trainables.record import ReferenceRecord, ReplayDiverged
from trainables.reference import CHECKPOINT, load_record
from trainables.store import Folder, Store, StoreDamaged


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


# The lock and the environment.


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


def test_where_installed_code_makes_other_data_the_reference_pass_is_redone(
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
    assert record.redone_because == "the installed code makes other data"


def test_the_recorded_thread_count_is_kept(tiny: Tiny, store: Store, finish: Finish) -> None:
    finish(store, num_threads=1, a=tiny(budget={"epochs": 1}))
    finish(store, num_threads=2, b=tiny(budget={"epochs": 2}))
    assert torch.get_num_threads() == 1
    assert manifest(store.run("b"))["environment"]["num_threads"] == 1
