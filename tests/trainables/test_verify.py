"""Verification notices a flipped byte, an altered and re-sealed table, and another environment."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from trainables import environment
from trainables.checkpoint import load_checkpoint, save_checkpoint
from trainables.config import RunConfig
from trainables.errors import UserError
from trainables.job import Job, Place, Progress, RunJob
from trainables.passes import work
from trainables.record import ReplayDiverged
from trainables.reference import DRAWN
from trainables.store import Folder, Store, StoreDamaged, read_table, write_table
from trainables.trajectory import Trajectory
from trainables.verify import verify_run

Tiny = Callable[..., RunConfig]
Finish = Callable[..., list[Progress]]
CPU = torch.device("cpu")


def verify(store: Store, run_id: str = "a") -> None:
    verify_run(store, run_id, data_root=store.root, device=CPU)


def reseal(folder: Folder, change: Callable[[dict[str, Any]], None] = lambda values: None) -> None:
    """Seal a folder again as it is now, with another manifest if need be."""
    values = folder.manifest()
    assert values is not None
    files = list(values.pop("files"))
    del values["store_version"]
    change(values)
    folder.write_manifest(values, files)


def set_record(store: Store, **values: Any) -> None:
    reseal(store.trajectory("t"), lambda manifest: manifest["record"].update(values))


OPTIONS: dict[str, Any] = {
    "model": {"name": "mlp", "hidden": [8], "dropout": 0.2},
    "data": {"name": "digits", "train_examples": 96, "validation_examples": 20},
    "batch_size": 32,
}
RUNS: dict[str, dict[str, Any]] = {
    "a": {"budget": {"epochs": 4}, "probes": ["path", "update", {"name": "layers", "every": 2}]},
    "longer": {"budget": {"epochs": 6}},
}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A run of four epochs, with labels and dropout, of a trajectory that has gone on since."""
    store = Store(tmp_path_factory.mktemp("original"))
    for run_id, options in RUNS.items():
        run = RunJob(run_id, RunConfig.parse({**OPTIONS, **options}))
        for _ in work(Job("t", (run,)), Place(store, store.root, CPU, 1)):
            pass
    return store


@pytest.fixture
def done(original: Store, store: Store) -> Store:
    """A copy of it, to be damaged."""
    shutil.copytree(original.root, store.root)
    return store


@pytest.mark.parametrize("drawn", [0, 2])
def test_what_is_whole_passes_whatever_kind_of_state_it_has(
    stateful: RunConfig,
    store: Store,
    finish: Finish,
    monkeypatch: pytest.MonkeyPatch,
    drawn: int,
) -> None:
    monkeypatch.setattr("trainables.reference.fold", lambda *_: drawn)
    finish(store, a=stateful)
    verify(store)


def test_runs_of_every_length_and_kind_pass(
    tiny: Tiny, store: Store, finish: Finish, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainables.reference.fold", lambda *_: 3)
    finish(store, long=tiny(budget={"epochs": 4}))
    finish(
        store,
        within_an_epoch=tiny(budget={"steps": 2}),
        before_the_drawn_epoch=tiny(budget={"epochs": 2}),
        inside_the_drawn_epoch=tiny(budget={"steps": 10}),
        direct=tiny(budget={"epochs": 4}, probes=["preconditioner"]),
    )
    for path in store.root.glob("runs/*"):
        verify(store, path.name)


@pytest.mark.parametrize("drawn", [0, 1, 2, 7])
@pytest.mark.parametrize("epoch", [0, 2])
def test_a_diverged_run_passes_and_notices_its_files(
    tiny: Tiny,
    store: Store,
    finish: Finish,
    monkeypatch: pytest.MonkeyPatch,
    epoch: int,
    drawn: int,
) -> None:
    monkeypatch.setattr("trainables.reference.fold", lambda *_: drawn)
    explodes = {"name": "milestones", "epochs": [epoch], "decay": 1e38}
    finish(store, a=tiny(schedule=explodes, budget={"epochs": 8}))
    manifest = store.run("a").manifest()
    assert manifest is not None
    assert manifest["status"] == "diverged"
    assert 3 * epoch <= manifest["diverged_at_step"] < 3 * epoch + 3
    verify(store)
    flip(store.run("a").path / "epochs.parquet")
    with pytest.raises(StoreDamaged, match=r"epochs\.parquet"):
        verify(store)


def flip(path: Path, where: float = 0.5) -> None:
    content = bytearray(path.read_bytes())
    content[int(len(content) * where)] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "file",
    [
        "runs/a/steps.parquet",
        "runs/a/epochs.parquet",
        "runs/a/layers.parquet",
        "runs/a/config.yaml",
        "runs/a/manifest.json",
        "trajectories/t/references/12.safetensors",
        "trajectories/t/references/18.safetensors",
        "trajectories/t/drawn.safetensors",
        "trajectories/t/manifest.json",
    ],
)
def test_a_flipped_byte_fails_by_name(done: Store, file: str) -> None:
    content = (done.root / file).read_bytes()
    for where in (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.999):
        flip(done.root / file, where)
        with pytest.raises(StoreDamaged, match=Path(file).name.replace(".", r"\.")) as caught:
            verify(done)
        assert "\n" not in str(caught.value)
        (done.root / file).write_bytes(content)
    verify(done)


def alter(store: Store, name: str, column: str, row: int) -> None:
    """Change one value of a table by the smallest amount and seal it again."""
    path = store.run("a").path / f"{name}.parquet"
    table = read_table(path)
    value = torch.tensor(table.loc[row, column], dtype=torch.float64)
    table.loc[row, column] = float(torch.nextafter(value, value + 1))
    write_table(path, table)
    reseal(store.run("a"))


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("steps", "gamma"),
        ("steps", "loss"),
        ("steps", "learning_rate"),
        ("steps", "update_inner_product"),
        ("steps", "null_gamma"),
        ("layers", "distance"),
        ("epochs", "gamma_mean"),
        ("epochs", "validation_loss"),
    ],
)
def test_an_altered_value_that_was_sealed_again_is_caught(
    done: Store, name: str, column: str
) -> None:
    verify(done)
    record = (done.trajectory("t").manifest() or {})["record"]
    table = read_table(done.run("a").path / f"{name}.parquet")
    row = int((table["epoch"] == record["drawn_epoch"]).argmax())
    alter(done, name, column, row)
    with pytest.raises(StoreDamaged, match=rf"{name}\.parquet: {column} of (step|epoch) \d+ is"):
        verify(done)


LOOKING_BACK = {
    "sign_shift": {"name": "sign_shift", "window": 3},
    "layer_correlation": {"name": "layer_correlation", "window": 2},
    "lags": {"name": "lags", "lags": [1, 2]},
}
"""Probes that a replay from the midst of a run sees the beginning of, or, of lags, nothing."""


@pytest.mark.parametrize("drawn", [0, 2])
@pytest.mark.parametrize("probe", LOOKING_BACK)
def test_an_altered_value_that_rests_on_earlier_steps_is_caught(
    tiny: Tiny,
    store: Store,
    finish: Finish,
    monkeypatch: pytest.MonkeyPatch,
    probe: str,
    drawn: int,
) -> None:
    monkeypatch.setattr("trainables.reference.fold", lambda *_: drawn)
    finish(store, a=tiny(probes=["path", LOOKING_BACK[probe]]))
    verify(store)
    table = read_table(store.run("a").path / f"{probe}.parquet")
    column = str(table.columns[-1])
    rows = (table["epoch"] == drawn) & table[column].notna()
    row = int(rows[rows].index[-1])  # the last step of the epoch, at the longest lag
    alter(store, probe, column, row)
    if probe == "lags" and drawn > 0:
        verify(store)  # its base lies before what is replayed
    else:
        with pytest.raises(
            StoreDamaged, match=rf"{probe}\.parquet: {column} of step {table['step'][row]} "
        ):
            verify(store)


def test_an_altered_value_of_another_epoch_is_caught_by_what_follows_from_it(done: Store) -> None:
    drawn = (done.trajectory("t").manifest() or {})["record"]["drawn_epoch"]
    path = done.run("a").path / "steps.parquet"
    table = read_table(path)
    row = int((table["epoch"] != drawn).argmax())
    table.loc[row, "gamma"] += 0.01
    write_table(path, table)
    reseal(done.run("a"))
    with pytest.raises(StoreDamaged, match=r"epochs\.parquet: gamma_mean of epoch"):
        verify(done)


@pytest.mark.parametrize("change", ["drop", "duplicate", "rename"])
def test_other_rows_or_columns_are_caught(done: Store, change: str) -> None:
    path = done.run("a").path / "steps.parquet"
    table = read_table(path)
    changed = {
        "drop": table[table["step"] % 3 != 0],
        "duplicate": pd.concat([table, table]),
        "rename": table.rename(columns={"gamma": "gama"}),
    }[change]
    write_table(path, changed.reset_index(drop=True))
    reseal(done.run("a"))
    with pytest.raises(StoreDamaged, match=r"steps\.parquet: other rows or columns"):
        verify(done)


def test_another_state_in_the_drawn_checkpoint_is_caught(
    done: Store, trajectory: Callable[[RunConfig], Trajectory]
) -> None:
    folder = done.trajectory("t")
    checkpoint = load_checkpoint(folder.path / DRAWN)
    config = RunConfig.parse((done.run("a").manifest() or {})["config"])
    assert checkpoint is not None
    other = trajectory(config)
    other.load(checkpoint.state, checkpoint.step)
    other.flat.weights[0] += 1e-4
    save_checkpoint(folder.path / DRAWN, other, [], checkpoint.record)
    reseal(folder)
    if checkpoint.step == 0:
        verify(done)  # the first epoch is replayed from the config, not from the file
    else:
        with pytest.raises(StoreDamaged, match="where a replay gives"):
            verify(done)


def test_another_fingerprint_is_a_diverged_replay(done: Store) -> None:
    record = (done.trajectory("t").manifest() or {})["record"]
    record["epochs"][record["drawn_epoch"]]["fingerprint"] = "0" * 64
    set_record(done, epochs=record["epochs"])
    with pytest.raises(ReplayDiverged, match=f"epoch {record['drawn_epoch']}: .*had 000000000000"):
        verify(done)


def test_a_lost_drawn_checkpoint_is_named(done: Store) -> None:
    (done.trajectory("t").path / DRAWN).unlink()
    with pytest.raises(StoreDamaged, match=r"drawn\.safetensors: missing"):
        verify(done)


def test_a_lost_trajectory_is_named(done: Store) -> None:
    done.trajectory("t").manifest_path.unlink()
    with pytest.raises(StoreDamaged, match=r"trajectories/t/manifest\.json: missing"):
        verify(done)


def test_a_run_that_is_not_done_is_no_damage(done: Store) -> None:
    with pytest.raises(UserError, match="runs/b: no finished run") as caught:
        verify(done, "b")
    assert not isinstance(caught.value, StoreDamaged)


def test_a_run_whose_replay_diverged_is_never_good(done: Store) -> None:
    reseal(done.run("a"), lambda values: values.update(status="replay_diverged"))
    with pytest.raises(UserError, match="its replay diverged"):
        verify(done)


def test_another_machine_cannot_verify_and_says_why(
    done: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "_device_name", lambda device: "another processor")
    with pytest.raises(
        UserError,
        match=r"cannot be verified bit for bit here: device_name was .* another processor",
    ) as caught:
        verify(done)
    assert not isinstance(caught.value, StoreDamaged)


def test_a_reference_that_was_redone_elsewhere_is_said(done: Store) -> None:
    environment = (done.trajectory("t").manifest() or {})["record"]["environment"]
    set_record(done, environment={**environment, "num_threads": 2})
    with pytest.raises(UserError, match=r"redone since \(num_threads was 1 and is 2\)"):
        verify(done)


def test_other_data_are_said(done: Store) -> None:
    set_record(done, data_digest="other")
    with pytest.raises(UserError, match="the data set's content changed since"):
        verify(done)


def test_verifying_changes_no_file(done: Store) -> None:
    before = {path: path.read_bytes() for path in done.root.rglob("*.*")}
    verify(done)
    verify(done, "longer")
    assert {path: path.read_bytes() for path in done.root.rglob("*.*")} == before
