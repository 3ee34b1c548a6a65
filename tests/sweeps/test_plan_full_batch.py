"""Full batches in a plan: the chunk is chosen, checked, in the identity, and explained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from sweeps.catalogue import load_spec
from sweeps.plan import Plan, make_plan
from sweeps.tables import plan_notes
from trainables.errors import UserError

NOWHERE = Path("/nowhere")


def plan_of(folder: Path, *overrides: str, **spec: Any) -> Plan:
    """The plan of a sweep over digits, written to a file."""
    file = folder / "mine.yaml"
    file.write_text(yaml.safe_dump({"base": {"data": "digits", "batch_size": "full"}, **spec}))
    return make_plan(load_spec(str(file), list(overrides)), NOWHERE)


def test_auto_becomes_a_number_before_the_identity_is_taken(tmp_path: Path) -> None:
    (auto,) = plan_of(tmp_path).runs
    assert auto.config.chunk == 1500
    assert auto.config.plain()["chunk"] == 1500
    (given,) = plan_of(tmp_path, "chunk=1500").runs
    assert given.run_id == auto.run_id
    (other,) = plan_of(tmp_path, "chunk=500").runs
    assert other.trajectory_id != auto.trajectory_id
    assert (auto.steps_per_epoch, auto.num_steps) == (1, 40)


def test_a_chunk_means_nothing_to_minibatches(tmp_path: Path) -> None:
    plain, chunked = (
        plan_of(tmp_path, "batch_size=64", *more).runs[0] for more in ([], ["chunk=100"])
    )
    assert plain == chunked


def test_a_full_batch_is_a_number_along_the_axis_of_batch_sizes(tmp_path: Path) -> None:
    runs = plan_of(tmp_path, "batch_size=64,full").runs
    assert [run.axes["batch_size"] for run in runs] == [64, 1500]
    assert [run.config.batch_size for run in runs] == [64, "full"]
    (fixed,) = plan_of(tmp_path).runs
    assert fixed.axes["batch_size"] == 1500


def test_the_plan_says_how_a_full_batch_is_divided(tmp_path: Path) -> None:
    (note,) = plan_notes(plan_of(tmp_path, "chunk=400"), NOWHERE)
    assert note.startswith("batch_size full, mlp on digits: 1,500 examples in 4 chunks of at most ")
    assert "the chunk is part of the trajectory" in note
    assert plan_notes(plan_of(tmp_path, "batch_size=64"), NOWHERE) == []


def test_a_chunk_larger_than_the_data_is_refused(tmp_path: Path) -> None:
    match = "command line: chunk: 1501 is larger than the 1500 training examples of digits"
    with pytest.raises(UserError, match=match):
        plan_of(tmp_path, "chunk=1501")
