"""The recorder: one row per step, in order, nothing lost or kept between flushes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from geometry.flat import FlatParameters
from geometry.probes.contract import Column, Probe, ProbeContext, StepView
from geometry.probes.path import PathProbe
from geometry.probes.registry import PROBES
from geometry.probes.segments import LayersProbe
from geometry.recorder import DueProbe, Recorder
from geometry.reductions import RowReducer
from tests.geometry.surfaces import Quadratic, further_references

CPU = torch.device("cpu")
FLAT = FlatParameters(nn.Sequential(nn.Linear(7, 5), nn.Linear(5, 3)))
SIZE = FLAT.layout.size


def context() -> ProbeContext:
    reducer = RowReducer(SIZE, CPU, torch.float32)
    surface, references = Quadratic(vector(98).abs()), further_references(vector)
    return ProbeContext(FLAT.layout, reducer, vector(99), references, surface)


def vector(seed: int) -> Tensor:
    return torch.randn(SIZE, generator=torch.Generator().manual_seed(seed))


def view(step: int, *, updated: bool = False) -> StepView:
    weights = vector(step)
    return StepView(
        step=step,
        weights=weights,
        gradient=vector(1000 + step),
        weights_after=vector(step + 1) if updated else weights[:0],
        learning_rate=0.1,
        weight_decay=0.0,
        preconditioner=None,
    )


def record(recorder: Recorder, steps: Sequence[int]) -> None:
    for step in steps:
        recorder.before_update(view(step), torch.tensor(float(step)))
        recorder.after_update(view(step, updated=True))


class Before(Probe):
    """Counts how often it is asked, and writes what it sees."""

    name: ClassVar[str] = "before"
    needs_reference: ClassVar[bool] = False
    needs_update: ClassVar[bool] = False
    columns: ClassVar[tuple[Column, ...]] = (Column("seen", "1", "step and size of w_{t+1}"),)

    @property
    def num_primitives(self) -> int:
        return 2

    def measure(self, step: StepView, out: Tensor) -> None:
        out[0], out[1] = step.step, len(step.weights_after)

    def derive(self, primitives: Tensor) -> Sequence[Tensor]:
        return [primitives[:, 0] * 10000 + primitives[:, 1]]


class After(Before):
    """The same after the update."""

    needs_update: ClassVar[bool] = True
    columns: ClassVar[tuple[Column, ...]] = (Column("seen_after", "1", "as `seen`"),)


def test_every_step_is_recorded_once_before_and_once_after_its_update() -> None:
    recorder = Recorder([DueProbe(p(context()), 1) for p in (Before, After)], 3, CPU)
    assert recorder.needs_update
    record(recorder, [4, 5])
    steps, losses, recorded = recorder.flush()
    assert steps.tolist() == [4, 5]
    assert losses.tolist() == [4.0, 5.0]
    assert losses.dtype == torch.float64
    assert recorded[0].columns["seen"].tolist() == [40000, 50000]
    assert recorded[1].columns["seen_after"].tolist() == [40000 + SIZE, 50000 + SIZE]


def test_a_recorder_without_probes_keeps_the_losses() -> None:
    recorder = Recorder([], 4, CPU)
    assert not recorder.needs_update
    record(recorder, [0, 1, 2])
    steps, losses, recorded = recorder.flush()
    assert (steps.tolist(), losses.tolist(), recorded) == ([0, 1, 2], [0, 1, 2], [])


def test_a_flush_empties_and_what_it_gave_stays() -> None:
    recorder = Recorder([DueProbe(Before(context()), 1)], 3, CPU)
    record(recorder, [0, 1, 2])
    first = recorder.flush()
    record(recorder, [3])
    second = recorder.flush()
    assert first[0].tolist() == [0, 1, 2]
    assert first[1].tolist() == [0, 1, 2], "the buffer is reused, the columns are not views of it"
    assert second[0].tolist() == [3]
    assert second[2][0].columns["seen"].tolist() == [30000]
    steps, losses, recorded = recorder.flush()
    assert (len(steps), len(losses), len(recorded[0].columns["seen"])) == (0, 0, 0)


def test_columns_kept_from_a_flush_are_no_views_of_the_buffer() -> None:
    recorder = Recorder([DueProbe(cls(context()), 1) for cls in PROBES.values()], 2, CPU)
    record(recorder, [0, 1])
    flushed = recorder.flush()
    copies = [{n: c.clone() for n, c in part.columns.items()} for part in flushed[2]]
    record(recorder, [2, 3])
    recorder.flush()
    for part, copy in zip(flushed[2], copies, strict=True):
        for name, values in part.columns.items():
            torch.testing.assert_close(values, copy[name], rtol=0, atol=0, equal_nan=True)


def test_more_steps_than_the_capacity_are_an_error_not_an_overwrite() -> None:
    recorder = Recorder([], 2, CPU)
    with pytest.raises(IndexError):
        record(recorder, [0, 1, 2])


def test_the_loss_keeps_what_is_not_finite() -> None:
    recorder = Recorder([], 2, CPU)
    for loss in (float("nan"), float("inf")):
        recorder.before_update(view(0), torch.tensor(loss))
    assert recorder.flush()[1].isfinite().logical_not().all()


def test_a_cadence_measures_the_multiples_of_every() -> None:
    probes = [DueProbe(LayersProbe(context()), 3), DueProbe(PathProbe(context()), 1)]
    recorder, dense = (
        Recorder(probes, 8, CPU),
        Recorder([DueProbe(LayersProbe(context()), 1)], 8, CPU),
    )
    record(recorder, range(2, 9))
    record(dense, range(2, 9))
    steps, _, (layers, path) = recorder.flush()
    (every_step,) = dense.flush()[2]
    assert steps.tolist() == path.steps.tolist() == list(range(2, 9))
    assert layers.steps.tolist() == [3, 6]
    for name, values in layers.columns.items():
        assert values.shape == (2, 4)
        assert torch.equal(values, every_step.columns[name][[1, 4]]), name


@pytest.mark.parametrize("name", [n for n, probe in PROBES.items() if probe.table != "steps"])
def test_a_flush_in_which_no_step_was_due_is_empty(name: str) -> None:
    recorder = Recorder([DueProbe(PROBES[name](context()), 100)], 8, CPU)
    record(recorder, [3, 4, 6])
    steps, _, (part,) = recorder.flush()
    assert (len(steps), len(part.steps)) == (3, 0)
    for values in part.columns.values():
        assert values.shape == ((0,) if part.labels is None else (0, len(part.labels)))


@pytest.mark.parametrize("name", [n for n, probe in PROBES.items() if probe.table == "steps"])
def test_the_steps_table_has_a_row_for_every_step(name: str) -> None:
    with pytest.raises(ValueError, match=f"probe {name}: every must be 1 in the steps table"):
        Recorder([DueProbe(PROBES[name](context()), 2)], 8, CPU)
