"""The loss along the straight line from w_t to w*: is there an obstacle on it (INVENTORY C50)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from geometry.probes.contract import Column, ProbeOptions, StepView
from geometry.probes.one_batch import OneBatchOptions, OneBatchProbe
from geometry.surface import LOSS_COST
from geometry.whole_run import WholeRun


@dataclass(frozen=True)
class StraightLineOptions(OneBatchOptions):
    """How finely the line is looked at, and by which loss."""

    intervals: int = 10
    """Equal parts of the line; the loss is computed at their ends. Ours."""

    def __post_init__(self) -> None:
        """Refuse a line without parts."""
        if self.intervals < 1:
            raise ValueError(f"intervals: at least 1, not {self.intervals}")


class StraightLineProbe(OneBatchProbe):
    """L((1 - a) w_t + a w*) for a = 0, 1/n, ..., 1, labelled by a, and whether it never rises."""

    name: ClassVar[str] = "straight_line"
    table: ClassVar[str] = "straight_line"
    needs_reference: ClassVar[bool] = True
    options_type: ClassVar[type[OneBatchOptions]] = StraightLineOptions
    columns: ClassVar[tuple[Column, ...]] = (
        Column("loss", "loss", "mean loss at this point of the line, in train mode"),
        Column("rise", "loss", "loss minus that at the point before; NaN at w_t"),
        Column("monotone", "1", "1 if no point of this step's line rises, 0 if one does"),
    )

    @classmethod
    def extra_gradients(cls, options: ProbeOptions, batches_per_pass: int) -> float:
        """Forward passes only."""
        own = _own(options)
        return (own.intervals + 1) * LOSS_COST * own.num_minibatches(batches_per_pass)

    @classmethod
    def num_vectors(cls, options: ProbeOptions) -> int:
        """The place on the line."""
        return 1

    @property
    def labels(self) -> tuple[str, ...]:
        """The places a."""
        intervals = _own(self.options).intervals
        return tuple(f"{index / intervals:.4g}" for index in range(intervals + 1))

    @property
    def num_primitives(self) -> int:
        """The losses."""
        return _own(self.options).intervals + 1

    def measure(self, step: StepView, out: Tensor) -> None:
        """The loss at every place."""
        options, reference, surface = _own(self.options), self.reference(), self.surface()
        place = torch.empty_like(step.weights)
        for index in range(options.intervals + 1):
            torch.lerp(step.weights, reference, index / options.intervals, out=place)
            out[index] = surface.loss(options.chosen(), place)

    def derive(self, primitives: Tensor) -> Sequence[Tensor]:
        """The losses, their differences, and what the differences say."""
        first = torch.full_like(primitives[:, :1], math.nan)
        rises = torch.cat([first, primitives.diff(dim=1)], dim=1)
        monotone = (rises[:, 1:] <= 0).all(1).double()
        monotone[~primitives.isfinite().all(1)] = math.nan
        return primitives.clone(), rises, monotone.unsqueeze(1).expand_as(primitives)

    @classmethod
    def summary(cls, options: ProbeOptions, run: WholeRun) -> dict[str, float | None]:
        """`monotone_share`: the share of lines without a rise, among those with finite losses."""
        monotone = run.tables[cls.table]["monotone"][:, 0]
        defined = monotone[~monotone.isnan()]
        return {"monotone_share": float(defined.mean()) if len(defined) else None}


def _own(options: ProbeOptions) -> StraightLineOptions:
    assert isinstance(options, StraightLineOptions)
    return options
