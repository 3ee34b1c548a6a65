"""The recorder: one preallocated float64 device buffer, one transfer to the host per flush."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from geometry.probes.contract import Probe, StepView, SumsProbe, measure_together


@dataclass(frozen=True)
class DueProbe:
    """A probe with its cadence: measured at steps 0, every, 2 every, ... unless it says else."""

    probe: Probe
    every: int


@dataclass(frozen=True)
class Recorded:
    """One probe's columns over the steps of one flush, on the host.

    `steps` int64 [n]; every column float64 [n], or [n, labels] for a probe that has labels.
    """

    table: str
    labels: tuple[str, ...] | None
    steps: Tensor
    columns: dict[str, Tensor]


class Recorder:
    """Calls the probes that are due and keeps their primitives on the device until the flush.

    Raises:
        ValueError: a probe of the steps table has a cadence other than 1.
    """

    def __init__(self, probes: Sequence[DueProbe], capacity: int, device: torch.device) -> None:
        for due in probes:
            if due.every != 1 and due.probe.table == "steps":
                raise ValueError(f"probe {due.probe.name}: every must be 1 in the steps table")
        self.needs_update = any(due.probe.needs_update for due in probes)
        swept = [due for due in probes if isinstance(due.probe, SumsProbe) and due.every == 1]
        self._swept = [due.probe for due in swept if isinstance(due.probe, SumsProbe)]
        self._sweep_after = any(probe.needs_update for probe in self._swept)
        self._others = [due for due in probes if due not in swept]
        self.probes = tuple(probes)
        self._stored = (*swept, *self._others)
        self._widths = [1, *(due.probe.num_primitives for due in self._stored)]
        num_swept = sum(probe.num_primitives for probe in self._swept)
        shape = (capacity, sum(self._widths))
        self._buffer = torch.zeros(shape, dtype=torch.float64, device=device)
        # a view per row and probe, made once: on small networks that takes as long as a sum
        widths = [1, num_swept, *(due.probe.num_primitives for due in self._others)]
        parts = torch.split(self._buffer, widths, dim=1)
        self._losses, self._sums, *self._cells = (part.unbind(0) for part in parts)
        self._steps: list[int] = []

    def before_update(self, view: StepView, loss: Tensor) -> None:
        """Open step t's row: its loss, and the probes that measure before the update."""
        self._steps.append(view.step)
        self._losses[len(self._steps) - 1].copy_(loss)
        self._measure(view, after=False)

    def after_update(self, view: StepView) -> None:
        """Fill in the probes of step t that need w_{t+1}."""
        if self.needs_update:
            self._measure(view, after=True)

    def _measure(self, view: StepView, *, after: bool) -> None:
        row = len(self._steps) - 1
        if self._swept and self._sweep_after == after:
            measure_together(self._swept, view, self._sums[row])
        for due, cells in zip(self._others, self._cells, strict=True):
            if due.probe.needs_update == after and due.probe.is_due(view.step, due.every):
                due.probe.measure(view, cells[row])

    def flush(self) -> tuple[Tensor, Tensor, list[Recorded]]:
        """Steps [n], losses [n], each probe's columns since the last flush; empties the buffer."""
        steps = torch.tensor(self._steps, dtype=torch.int64)
        rows = self._buffer[: len(self._steps)].cpu()
        losses, *primitives = torch.split(rows, self._widths, dim=1)
        recorded = {
            due: _derive(due, steps, values)
            for due, values in zip(self._stored, primitives, strict=True)
        }
        self._steps.clear()
        return steps, losses[:, 0].clone(), [recorded[due] for due in self.probes]


def _derive(due: DueProbe, steps: Tensor, primitives: Tensor) -> Recorded:
    kept = due.probe.recorded(steps, due.every)
    names = [column.name for column in due.probe.columns]
    columns = dict(zip(names, due.probe.derive(primitives[kept]), strict=True))
    return Recorded(due.probe.table, due.probe.labels, steps[kept], columns)
