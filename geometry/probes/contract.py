"""The contract of a probe: what is measured at a training step, and as which columns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from geometry.flat import FlatLayout
from geometry.reductions import RowReducer, Scratch


@dataclass(frozen=True)
class Column:
    """One column of a table of measurements.

    `ratio` names the column as a quotient of products of other columns, numerator and denominator;
    its epoch aggregate is then also reported as the ratio of the means over the epoch's steps.
    """

    name: str
    unit: str
    meaning: str
    ratio: tuple[tuple[str, ...], tuple[str, ...]] | None = None


Scaling = Callable[[slice, Tensor], Tensor]
"""Writes a diagonal scaling's elements of a block to a tensor of its length, and returns it."""


@dataclass(frozen=True)
class StepView:
    """What a probe may read at step t. Nothing in it may be written to.

    Time convention: `weights` is w_t and `gradient` is G_t, the gradient of minibatch t's loss at
    w_t, without weight decay and before clipping, both flat, shape [P]. `weights_after` is w_{t+1};
    it is the empty tensor before the update. `preconditioner` gives the optimizer's P_t block by
    block; it is None for the identity, and known only after the update.
    """

    step: int
    weights: Tensor
    gradient: Tensor
    weights_after: Tensor
    learning_rate: float
    weight_decay: float
    preconditioner: Scaling | None


@dataclass(frozen=True)
class ProbeContext:
    """What a probe is built from: the layout of the flat buffers, the reducer, the reference w*.

    `reference` is w*, flat, shape [P], and is None for probes that need none.
    """

    layout: FlatLayout
    reducer: RowReducer
    reference: Tensor | None


@dataclass(frozen=True)
class ProbeOptions:
    """Options of a probe that has none; others subclass it, a default for every field.

    A value out of range raises ValueError in `__post_init__`, in one line for the user.
    """


class Probe(ABC):
    """Measures primitives at a step; derives columns from them once per epoch.

    Obligations: `measure` is called once per step at which the probe is due, by the recorder, with
    a row of the recorder's float64 device buffer; it fills that row and returns nothing. It never
    waits for the device (no `.item()`), never touches random generators, module buffers or `.grad`.
    `derive` is called once per epoch with all rows of that epoch, on the host. What a probe keeps
    from one step to the next it gives out in `state`, so that a resumed pass measures the same.
    """

    name: ClassVar[str]
    needs_reference: ClassVar[bool]
    needs_update: ClassVar[bool]
    """Called after the update, with `weights_after`, if true; before the update if false. A probe
    of sums that needs no update may be called at either time: w_t and G_t are the same."""
    columns: ClassVar[tuple[Column, ...]]
    table: ClassVar[str] = "steps"
    """The table that the columns stand in; a probe with labels has one of its own."""
    options_type: ClassVar[type[ProbeOptions]] = ProbeOptions

    def __init__(self, context: ProbeContext, options: ProbeOptions | None = None) -> None:
        self.context = context
        self.options = self.options_type() if options is None else options

    @property
    def labels(self) -> tuple[str, ...] | None:
        """Row labels of a probe with a table of its own (layers, groups); None: the steps table."""
        return None

    @property
    @abstractmethod
    def num_primitives(self) -> int:
        """Number of float64 scalars recorded per step."""

    @abstractmethod
    def measure(self, step: StepView, out: Tensor) -> None:
        """Write this step's primitives to `out`, shape [num_primitives], float64, on the device."""

    @abstractmethod
    def derive(self, primitives: Tensor) -> Sequence[Tensor]:
        """Columns from primitives, in the order of `columns`.

        Shape: [steps, num_primitives] -> one [steps] tensor per column, or [steps, labels] for a
        probe that has labels. Undefined values (0/0) are NaN, never a number.
        """

    def state(self) -> dict[str, Tensor]:
        """What the probe carries from step to step, by name; empty for most."""
        return {}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take up what `state` gave; raises ValueError if the probe keeps nothing."""
        if state:
            raise ValueError(f"probe {self.name} keeps no state, and was given {sorted(state)}")

    def reference(self) -> Tensor:
        """The reference w*; raises ValueError for a probe built without one."""
        if self.context.reference is None:
            raise ValueError(f"probe {self.name} needs a reference")
        return self.context.reference


class StepBlock:
    """One block of a step's vectors; a vector that several probes need is formed once."""

    def __init__(self, step: StepView, span: slice, scratch: Scratch) -> None:
        self.step = step
        self.span = span
        self.weights = step.weights[span]
        self.gradient = step.gradient[span]
        self._scratch = scratch
        self._formed: dict[object, Tensor] = {}

    def displacement(self, reference: Tensor) -> Tensor:
        """D_t = w_t - w*, within the block."""
        return self.formed(
            ("displacement", id(reference)),
            lambda out: torch.sub(self.weights, reference[self.span], out=out),
        )

    def update(self) -> Tensor:
        """U_t = w_{t+1} - w_t, within the block."""
        after = self.step.weights_after
        return self.formed("update", lambda out: torch.sub(after[self.span], self.weights, out=out))

    def formed(self, name: object, form: Callable[[Tensor], Tensor]) -> Tensor:
        """The vector of that name, formed in scratch when first asked for."""
        if name not in self._formed:
            self._formed[name] = form(self._scratch[len(self._formed)])
        return self._formed[name]


class SumsProbe(Probe):
    """A probe whose primitives are sums sum_i x_i y_i over the whole vectors.

    The recorder forms the sums of all such probes in one sweep through memory.
    """

    @abstractmethod
    def products(self, block: StepBlock) -> Sequence[tuple[Tensor, Tensor]]:
        """The pairs (x, y) within a block, one per primitive."""

    def measure(self, step: StepView, out: Tensor) -> None:
        """The sums by themselves."""
        measure_together([self], step, out)


def measure_together(probes: Sequence[SumsProbe], step: StepView, out: Tensor) -> None:
    """Write the probes' primitives one after the other to `out`, in one sweep through memory."""

    def body(span: slice, scratch: Scratch) -> list[tuple[Tensor, Tensor]]:
        block = StepBlock(step, span, scratch)
        return [pair for probe in probes for pair in probe.products(block)]

    probes[0].context.reducer.sums(out.numel(), body, out)
