"""What probes share that look at the loss of one batch: all training examples, or a fixed few."""

from __future__ import annotations

from abc import ABC
from dataclasses import dataclass
from typing import ClassVar, Literal

from geometry.probes.contract import Cadence, Probe, ProbeOptions
from geometry.surface import FULL, Batch, BatchKind


@dataclass(frozen=True)
class OneBatchOptions(ProbeOptions):
    """The batch."""

    batch: Literal["full", "fixed"] = "full"
    """full: all training examples; fixed: one training minibatch, the same for the whole run."""

    def chosen(self) -> Batch:
        """The batch, for the surface."""
        return FULL if self.batch == "full" else Batch("fixed")

    def num_minibatches(self, batches_per_pass: int) -> int:
        """How many minibatches it is as large as."""
        return batches_per_pass if self.batch == "full" else 1


class OneBatchProbe(Probe, ABC):
    """A probe of the loss of one batch; by default at the first step of every epoch."""

    default_every: ClassVar[Cadence] = "epoch"
    needs_update: ClassVar[bool] = False
    options_type: ClassVar[type[OneBatchOptions]] = OneBatchOptions

    @classmethod
    def batches(cls, options: ProbeOptions) -> frozenset[BatchKind]:
        """Its batch."""
        assert isinstance(options, OneBatchOptions)
        return frozenset({options.batch})
