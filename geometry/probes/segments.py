"""Path quantities per layer and per parameter group, in tables of their own (INVENTORY G12)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from geometry.probes.contract import Column, Probe, ProbeContext, ProbeOptions, StepBlock, StepView
from geometry.probes.path import NUM_PATH_SUMS, PATH_COLUMNS, path_columns, path_products
from geometry.reductions import Scratch

GROUPS = ("weights", "biases", "normalisation")


class LayersProbe(Probe):
    """The path columns of every parameter tensor by itself; the squares add up to the whole's."""

    name: ClassVar[str] = "layers"
    table: ClassVar[str] = "layers"
    needs_reference: ClassVar[bool] = True
    needs_update: ClassVar[bool] = False
    columns: ClassVar[tuple[Column, ...]] = PATH_COLUMNS

    def __init__(self, context: ProbeContext, options: ProbeOptions | None = None) -> None:
        super().__init__(context, options)
        device = self.reference().device
        rows = [segment.num_rows for segment in context.layout.segments]
        self._rows = torch.tensor(rows, device=device)

    @property
    def labels(self) -> tuple[str, ...]:
        """The parameters' names."""
        return self.context.layout.labels

    @property
    def num_primitives(self) -> int:
        """Three sums per label."""
        return NUM_PATH_SUMS * len(self.labels)

    def measure(self, step: StepView, out: Tensor) -> None:
        """<G, D>, ‖G‖^2, ‖D‖^2 of every label."""
        self._measure_layers(step, out.view(NUM_PATH_SUMS, -1))

    def _measure_layers(self, step: StepView, sums: Tensor) -> None:
        reference = self.reference()

        def body(span: slice, scratch: Scratch) -> Sequence[tuple[Tensor, Tensor]]:
            return path_products(StepBlock(step, span, scratch), reference)

        self.context.reducer.segment_sums(NUM_PATH_SUMS, body, self._rows, sums)

    def derive(self, primitives: Tensor) -> Sequence[Tensor]:
        """The path columns, each [steps, labels]."""
        return path_columns(*primitives.view(-1, NUM_PATH_SUMS, len(self.labels)).unbind(1))


class GroupsProbe(LayersProbe):
    """The path columns of weights, biases and normalisation parameters, each taken together."""

    name: ClassVar[str] = "groups"
    table: ClassVar[str] = "groups"

    def __init__(self, context: ProbeContext, options: ProbeOptions | None = None) -> None:
        super().__init__(context, options)
        present = [segment.group for segment in context.layout.segments]
        self._labels = tuple(group for group in GROUPS if group in present)
        members = [[group == label for group in present] for label in self._labels]
        self._members = torch.tensor(members, dtype=torch.float64, device=self._rows.device)

    @property
    def labels(self) -> tuple[str, ...]:
        """The groups that the network has."""
        return self._labels

    def measure(self, step: StepView, out: Tensor) -> None:
        """The layers' sums added up by group."""
        layers = out.new_empty(NUM_PATH_SUMS, len(self._rows))
        self._measure_layers(step, layers)
        grouped = (layers.unsqueeze(1) * self._members).sum(2)
        out.copy_(grouped.view(-1))
