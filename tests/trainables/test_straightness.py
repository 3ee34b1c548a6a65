"""Straightness and the update's own gamma along real trainings."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from trainables.config import RunConfig
from trainables.job import Progress
from trainables.store import Store, read_table

Tiny = Callable[..., RunConfig]
Finish = Callable[..., list[Progress]]


def test_the_update_of_plain_sgd_aims_as_its_gradient_and_adams_does_not(
    tiny: Tiny, store: Store, finish: Finish
) -> None:
    probes = ["straightness"]
    finish(store, trajectory_id="sgd", sgd=tiny(optimizer="sgd", probes=probes))
    finish(store, trajectory_id="adam", adam=tiny(optimizer="adam", probes=probes))
    sgd, adam = (read_table(store.run(name).path / "steps.parquet") for name in ("sgd", "adam"))
    assert sgd["update_gamma"].to_numpy() == pytest.approx(sgd["gamma"].to_numpy(), abs=1e-4)
    assert np.abs(adam["update_gamma"] - adam["gamma"]).max() > 0.1
    for table in (sgd, adam):
        cosine = -table["update_inner_product"] / (table["update_norm"] * table["distance"])
        assert table["update_gamma"].to_numpy() == pytest.approx(cosine.to_numpy(), rel=1e-10)
        squares = (table["update_norm"] ** 2)[::-1].cumsum()[::-1]
        straight = table["distance"] ** 2 / squares
        assert table["straightness"].to_numpy() == pytest.approx(straight.to_numpy(), rel=1e-10)
        assert table["straightness"].iloc[-1] == pytest.approx(1, rel=1e-4), "one update is left"


def test_the_runs_table_has_the_exponent_and_the_monotone_share(
    tiny: Tiny, store: Store, finish: Finish
) -> None:
    finish(store, a=tiny(probes=["straightness", "straight_line"]))
    manifest = store.run("a").manifest()
    assert manifest is not None
    assert 0.5 < manifest["metrics"]["path_exponent"] < 3
    assert manifest["metrics"]["monotone_share"] == 1.0
