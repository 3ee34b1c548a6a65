"""The recorder: one preallocated float64 device buffer, one transfer to the host per flush."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from geometry.probes.contract import Probe, StepView


@dataclass(frozen=True)
class DueProbe:
    """A probe with its cadence: measured at steps 0, every, 2 every, ..."""

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
            if due.every != 1 and due.probe.labels is None:
                raise ValueError(f"probe {due.probe.name}: every must be 1 in the steps table")
        self.probes = tuple(probes)
        self.needs_update = any(due.probe.needs_update for due in probes)
        widths = [due.probe.num_primitives for due in probes]
        self._buffer = torch.zeros(capacity, 1 + sum(widths), dtype=torch.float64, device=device)
        self._stops = list(accumulate([1, *widths]))
        self._steps: list[int] = []

    def before_update(self, view: StepView, loss: Tensor) -> None:
        """Open step t's row: its loss, and the probes that measure before the update."""
        self._steps.append(view.step)
        self._buffer[len(self._steps) - 1, 0] = loss
        self._measure(view, after=False)

    def after_update(self, view: StepView) -> None:
        """Fill in the probes of step t that need w_{t+1}."""
        if self.needs_update:
            self._measure(view, after=True)

    def _measure(self, view: StepView, *, after: bool) -> None:
        row = self._buffer[len(self._steps) - 1]
        for index, due in enumerate(self.probes):
            if due.probe.needs_update == after and view.step % due.every == 0:
                due.probe.measure(view, row[self._stops[index] : self._stops[index + 1]])

    def flush(self) -> tuple[Tensor, Tensor, list[Recorded]]:
        """Steps [n], losses [n], each probe's columns since the last flush; empties the buffer."""
        steps = torch.tensor(self._steps, dtype=torch.int64)
        rows = self._buffer[: len(self._steps)].cpu()
        recorded = [self._derive(index, steps, rows) for index in range(len(self.probes))]
        self._steps.clear()
        return steps, rows[:, 0].clone(), recorded

    def _derive(self, index: int, steps: Tensor, rows: Tensor) -> Recorded:
        due = self.probes[index]
        kept = steps % due.every == 0
        primitives = rows[kept, self._stops[index] : self._stops[index + 1]]
        names = [column.name for column in due.probe.columns]
        columns = dict(zip(names, due.probe.derive(primitives), strict=True))
        return Recorded(due.probe.table, due.probe.labels, steps[kept], columns)
