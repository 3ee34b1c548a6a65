"""Real Ray: a run that follows another begins when that one is done, in the same command."""

from __future__ import annotations

from typing import Any

import pytest

from sweeps.plan_store import read_plan
from trainables.store import Store, read_table

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore:The ``noload`` loader strategy:DeprecationWarning"  # mlflow 3.17 on SQLAlchemy 2.1
    ),
]

SMALL = ("ablations=equal-epochs", "batch_size=256", "seeds=0", "budget.epochs=2")


def test_a_sweep_runs_what_is_followed_first_and_verifies(fresh_command_line: Any) -> None:
    ran = fresh_command_line("run", "quickstart", "schedule=constant,oracle", *SMALL)
    assert ran.returncode == 0, ran.stderr
    store = Store(fresh_command_line.storage)
    constant, oracle = read_plan(store, "quickstart")["runs"]
    manifest = store.run(oracle["run_id"]).manifest()
    assert manifest is not None
    assert manifest["schedule"]["schedule_follows"] == constant["run_id"]
    first, second = (
        read_table(store.run(run["run_id"]).path / "steps.parquet") for run in (constant, oracle)
    )
    expected = first["local_lr"].clip(lower=0).tolist()
    assert second["learning_rate"].tolist() == pytest.approx(expected, rel=1e-14)
    verified = fresh_command_line("verify", "quickstart")
    assert (verified.returncode, "2 of 2 finished runs verified" in verified.stdout) == (0, True)


def test_an_oracle_alone_is_refused_before_anything_starts(fresh_command_line: Any) -> None:
    refused = fresh_command_line("run", "quickstart", "schedule=oracle", *SMALL)
    assert refused.returncode == 2
    assert "give both, such as schedule=constant,oracle" in refused.stderr + refused.stdout
