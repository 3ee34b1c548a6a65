"""Measuring disturbs nothing, and what is measured together equals what is measured alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from geometry.probes.contract import ProbeContext
from geometry.probes.registry import PROBES
from geometry.recorder import DueProbe, Recorder
from geometry.reductions import RowReducer
from tests.geometry.surfaces import further_references
from tests.trainables.small_probes import small_probe
from trainables.config import ProbeConfig, RunConfig
from trainables.job import Progress
from trainables.optimizers import OPTIMIZERS
from trainables.store import Store, read_table
from trainables.surface import TrajectorySurface
from trainables.trajectory import Trajectory

Build = Callable[..., Trajectory]
Tiny = Callable[..., RunConfig]
Finish = Callable[..., list[Progress]]

HUNGRY: dict[str, Any] = {
    "data": {"name": "digits", "train_examples": 96, "validation_examples": 96},
    "batch_size": 24,
    "model": {
        "name": "cnn",
        "channels": [4],
        "hidden": [8],
        "batch_norm": True,
    },
    "optimizer": {"name": "adam", "weight_decay": 0.01},
    "learning_rate": 0.01,
}
"""A network with layers of every group and an optimizer with a preconditioner."""


def with_validation(config: RunConfig) -> RunConfig:
    """The run with validation examples for four batches."""
    data = config.data.model_copy(update={"validation_examples": 96})
    return config.model_copy(update={"data": data, "batch_size": 24})


def recorder(built: Trajectory, *names: str) -> Recorder:
    weights = built.flat.weights
    reducer = RowReducer(len(weights), weights.device, weights.dtype)
    references = further_references(lambda number: torch.full_like(weights, 1 / number))
    context = ProbeContext(
        built.flat.layout,
        reducer,
        torch.ones_like(weights),
        references,
        TrajectorySurface(built),
    )
    probes = [ProbeConfig.model_validate(small_probe(name)) for name in names]
    due = [DueProbe(PROBES[p.name](context, p.typed_options()), 1) for p in probes]
    return Recorder(due, 20, weights.device)


def test_weights_with_and_without_probes_are_equal(stateful: RunConfig, trajectory: Build) -> None:
    stateful = with_validation(stateful)
    quiet, measured = trajectory(stateful), trajectory(stateful)
    quiet.advance(7)
    measured.advance(7, [recorder(measured, *PROBES), recorder(measured)])
    left, right = quiet.state(), measured.state()
    assert left.keys() == right.keys()
    for name, value in left.items():
        assert torch.equal(value, right[name]), name


def test_measuring_draws_no_random_number_and_moves_no_buffer(
    tiny: Tiny, trajectory: Build
) -> None:
    built = trajectory(tiny(**HUNGRY))
    observer = recorder(built, *PROBES)
    seen = []

    class Guard:
        needs_update = True

        def before_update(self, view: Any, loss: torch.Tensor) -> None:
            seen.append(_surroundings(built, view))
            observer.before_update(view, loss)
            assert _equal(seen[-1], _surroundings(built, view))

        def after_update(self, view: Any) -> None:
            seen.append(_surroundings(built, view))
            observer.after_update(view)
            assert _equal(seen[-1], _surroundings(built, view))

    built.advance(4, [Guard()])
    assert len(seen) == 8


def _surroundings(built: Trajectory, view: Any) -> list[torch.Tensor]:
    tensors = [torch.get_rng_state(), view.weights, view.gradient, view.weights_after]
    tensors += built.state().values()
    tensors += [p.grad for p in built.model.parameters() if p.grad is not None]
    return [tensor.detach().clone() for tensor in tensors]


def _equal(left: list[torch.Tensor], right: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_gradient_seen_after_the_update_is_the_one_before(
    tiny: Tiny, trajectory: Build, name: str
) -> None:
    """Probes of sums are swept after the update where one of them needs it."""
    built = trajectory(tiny(optimizer={"name": name, "weight_decay": 0.1}))

    class Watched:
        needs_update = True

        def before_update(self, view: Any, loss: torch.Tensor) -> None:
            self.before = view.weights.clone(), view.gradient.clone()

        def after_update(self, view: Any) -> None:
            assert _equal([view.weights, view.gradient], [*self.before])
            assert not torch.equal(view.weights_after, view.weights)

    built.advance(3, [Watched()])


class NoHostSync(TorchDispatchMode):
    """Raises where a value of a tensor on the (pretended) device is asked for on the host."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        assert "_local_scalar_dense" not in str(func), "a host sync"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", PROBES)
def test_measuring_waits_for_no_value(tiny: Tiny, trajectory: Build, name: str) -> None:
    built = trajectory(tiny(**HUNGRY))
    observer = recorder(built, name)

    class Watched:
        needs_update = True

        def before_update(self, view: Any, loss: torch.Tensor) -> None:
            with NoHostSync():
                observer.before_update(view, loss)

        def after_update(self, view: Any) -> None:
            with NoHostSync():
                observer.after_update(view)

    built.advance(2, [Watched()])
    with NoHostSync(), pytest.raises(AssertionError, match="host sync"):
        built.flat.weights[0].item()


@pytest.fixture
def tables(tiny: Tiny, store: Store, finish: Finish) -> dict[str, dict[str, pd.DataFrame]]:
    """The tables of runs of one training, each with one probe, and of one run with all of them."""
    runs = {f"only_{name}": tiny(**HUNGRY, probes=[small_probe(name)]) for name in PROBES}
    for run_id, config in {
        "together": tiny(**HUNGRY, probes=[small_probe(name) for name in PROBES]),
        **runs,
    }.items():
        finish(store, trajectory_id=f"of_{run_id}", **{run_id: config})
    return {
        run_id: {p.stem: read_table(p) for p in store.run(run_id).path.glob("*.parquet")}
        for run_id in ("together", *runs)
    }


def test_probes_together_equal_probes_alone(
    tables: dict[str, dict[str, pd.DataFrame]],
) -> None:
    for name, probe in PROBES.items():
        alone = tables[f"only_{name}"][probe.table]
        together = tables["together"][probe.table]
        columns = ["step", "epoch", *(column.name for column in probe.columns)]
        pd.testing.assert_frame_equal(alone[columns], together[columns], check_exact=True)


def test_layers_and_groups_add_up_to_the_whole(tables: dict[str, dict[str, pd.DataFrame]]) -> None:
    whole = tables["together"]["steps"].set_index("step")
    for name in ("layers", "groups"):
        parts = tables["together"][name]
        inner = parts.groupby("step")["inner_product"].sum()
        assert inner.to_numpy() == pytest.approx(whole["inner_product"].to_numpy(), rel=1e-6)
        for column in ("distance", "gradient_norm"):
            squares = (parts[column] ** 2).groupby(parts["step"]).sum()
            assert squares.to_numpy() == pytest.approx(whole[column].to_numpy() ** 2, rel=1e-10)
    assert set(tables["together"]["groups"]["label"]) == {"weights", "biases", "normalisation"}
    labels = tables["together"]["layers"]["label"]
    assert len(set(labels)) == 8
    assert "0.0.weight" in set(labels)
