"""Verdicts are kept beside the sweep, and reached anew where anything that they rest on differs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis import ablations_of, cache, load_sweep, write_report
from analysis.claims import judging
from analysis.conclusions import judged
from trainables.store import read_sealed, write_sealed

Plant = Callable[..., list[Any]]
Write = Callable[..., Any]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The name of every sweep that was judged."""
    found: list[str] = []
    judge = judging.judge

    def counting(sweep: Any, ablations: Any) -> Any:
        found.append(sweep.name)
        return judge(sweep, ablations)

    monkeypatch.setattr(judging, "judge", counting)
    return found


def test_a_second_report_reads_the_verdicts(
    storage: Path, write: Write, plant: Plant, counted: list[str], tmp_path: Path
) -> None:
    write(storage, plant("equal-epochs", 0.5, 0.5, batches=(64, 128), epochs=4))
    first = write_report(load_sweep("planted", storage), tmp_path)
    second = write_report(load_sweep("planted", storage), tmp_path)
    assert counted == ["planted"]
    assert second.verdicts == first.verdicts
    sweep = load_sweep("planted", storage)
    again = judging.judge(sweep, ablations_of(sweep))
    assert second.verdicts == again
    assert all(kept.word is new.word for kept, new in zip(second.verdicts, again, strict=True))
    assert second.markdown.read_text() == first.markdown.read_text()


def test_other_runs_other_options_and_other_code_are_judged_anew(
    storage: Path,
    write: Write,
    plant: Plant,
    counted: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = write(storage, plant("equal-epochs", 0.5, 0.5, batches=(64, 128), epochs=4))
    judged(load_sweep("planted", storage))
    shutil.rmtree(storage / "runs")
    write(storage, plant("equal-epochs", 0.9, 0.5, batches=(64, 128), epochs=4))
    judged(load_sweep("planted", storage))
    assert len(counted) == 2
    path = store.sweep("planted").path / "plan.json"
    plan = read_sealed(path)
    assert plan is not None
    write_sealed(path, plan | {"analysis": {"exclude": {"last_epochs": 2}}})
    judged(load_sweep("planted", storage))
    assert len(counted) == 3
    monkeypatch.setattr(cache, "_code", lambda: "of another version")
    judged(load_sweep("planted", storage))
    assert len(counted) == 4


def test_the_code_of_the_claims_and_of_the_formulas_is_in_the_key() -> None:
    names = {"/".join(path.parts[-3:]) for path in cache.code_files()}
    assert any(name.endswith("analysis/claims/stability.py") for name in names)
    assert any(name.endswith("geometry/correlation.py") for name in names)
