"""What presets offer to claims, and the command `claims` on the way to a screen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from analysis.claims.contract import Need
from analysis.claims.facts import Facts, planned_facts
from analysis.claims.registry import CLAIMS
from sweeps.catalogue import preset_names
from sweeps.claims import columns_of, offer
from sweeps.cli import app
from sweeps.cli.claims import _settlers
from trainables.config import RunConfig
from trainables.store import Store, write_sealed, write_table


def settled_by(preset: str, root: Path, scale: str = "full") -> set[str]:
    runs = offer(preset, root, scale).runs
    facts = [planned_facts(run, run["columns"]) for run in runs]
    return {claim.id for claim in CLAIMS.values() if claim.missing(facts) is None}


def test_the_quickstart_offers_its_plan(tmp_path: Path) -> None:
    found = offer("quickstart", tmp_path, "full")
    assert len(found.runs) == 30
    assert found.reason == ""
    # 40 epochs of 1500 // b steps and 1000 steps, three seeds, both passes; the two budgets of a
    # batch size share a trajectory, which is as long as the longer one
    lengths = [max(40 * (1500 // b), 1000) for b in (16, 32, 64, 128, 256)]
    assert found.num_trajectories == 15
    assert found.num_steps == 2 * 3 * sum(lengths)


def test_data_that_are_not_there_leave_the_cost_open_and_say_why(tmp_path: Path) -> None:
    found = offer("cifar10-seed", tmp_path, "full")
    assert found.num_steps is None
    assert str(tmp_path) in found.reason
    assert len(found.runs) == 10


def test_presets_settle_what_they_are_about(tmp_path: Path) -> None:
    assert {"C12", "C13", "C01", "C42"} <= settled_by("quickstart", tmp_path)
    assert not {"C02", "C15", "C31"} & settled_by("quickstart", tmp_path)
    assert {"C02", "C15", "C16", "C17", "C20"} <= settled_by("cifar10-optimizer", tmp_path)
    assert {"C19", "C06"} <= settled_by("cifar10-seed", tmp_path)


def test_a_run_without_reference_has_no_null_columns() -> None:
    config = RunConfig.parse({"probes": ["preconditioner"]})
    columns = columns_of(config)
    assert "steps.preconditioned_norm" in columns
    assert not {"steps.gamma", "steps.null_gamma"} & columns
    assert "steps.null_gamma" in columns_of(RunConfig())


def test_every_preset_can_be_asked(tmp_path: Path) -> None:
    for name in preset_names():
        assert offer(name, tmp_path, "full").runs, name


def command(*arguments: str) -> list[str]:
    done = CliRunner().invoke(app, ["claims", *arguments], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout.splitlines()


def test_without_a_sweep_every_claim_is_printed_with_its_rule() -> None:
    lines = command()
    assert [line.split()[0] for line in lines[1:]] == list(CLAIMS)
    (line,) = (line for line in lines if line.startswith("C13"))
    assert "P1 section 5" in line
    assert "narrower than 0.25" in line
    assert "supported beyond the null, supported but explained by the null, refuted" in line


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with one planned sweep of planted runs."""
    from analysis.claims.planting import planted_sweep
    from analysis.verdicts import Word

    monkeypatch.setenv("OPTPATH_DATA", str(tmp_path / "data"))
    store, sweep = Store(tmp_path), planted_sweep(CLAIMS["C12"].planted[Word.EXPLAINED]())
    for run_id, manifest in sweep.manifests.items():
        folder = store.run(run_id)
        steps = sweep.source.table(run_id, "steps", None)
        assert steps is not None
        write_table(folder.path / "steps.parquet", steps)
        values: dict[str, Any] = {**manifest, "run_id": run_id}
        folder.write_manifest({k: v for k, v in values.items() if k != "files"}, ["steps.parquet"])
    write_sealed(store.sweep("planted").path / "plan.json", sweep.plan)
    return tmp_path


def test_a_sweep_is_judged_and_what_does_not_apply_says_what_it_needs(storage: Path) -> None:
    lines = command("planted", "--storage", str(storage))
    (line,) = (line for line in lines if line.startswith("C12"))
    assert "supported but explained by the null" in line
    assert "gamma ~ b^0.5" in line
    assert "C02 does not apply: needs runs on cifar10" in lines
    assert any(line.endswith("not corrected for their number.") for line in lines)


def test_what_is_missing_names_presets_and_their_cost(storage: Path) -> None:
    lines = command("--missing", "--scale", "smoke", "--storage", str(storage))
    assert not any(line.startswith("C12") for line in lines)
    (line,) = (line for line in lines if line.startswith("C15"))
    assert "cifar10-optimizer" in line
    (line,) = (line for line in lines if line.startswith("cifar10-optimizer"))
    assert "cifar10" in line
    assert any("of 51 claims settled; 1 sweep in" in line for line in lines)


def test_what_no_preset_has_is_named_and_nothing_else(storage: Path) -> None:
    about_batches = CLAIMS["C12"]
    claim = replace(about_batches, needs=(*about_batches.needs, Need("runs on the moon", never)))
    offered = [offer("quickstart", storage, "smoke")]
    assert _settlers(about_batches, offered) == "quickstart"
    assert _settlers(claim, offered) == "none; needs runs on the moon"


def never(facts: Facts) -> bool:
    return False
