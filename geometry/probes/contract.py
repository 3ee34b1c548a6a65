"""The contract of a probe: what is measured at a training step, and as which columns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from geometry.flat import FlatLayout
from geometry.reductions import RowReducer, Scratch
from geometry.surface import BatchKind, Surface
from geometry.whole_run import Columns, WholeRun

Cadence = int | Literal["epoch"]
"""Steps from one measurement to the next, or the first step of every epoch."""


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
    block; it is None for the identity, and known only after the update. `momentum` is the
    optimizer's buffer v_{t-1}, shape [P]; it is None while it is zero, and after the update.
    """

    step: int
    weights: Tensor
    gradient: Tensor
    weights_after: Tensor
    learning_rate: float
    weight_decay: float
    preconditioner: Scaling | None
    momentum: Tensor | None = None


@dataclass(frozen=True)
class ProbeContext:
    """What a probe is built from: the layout of the flat buffers, the reducer, the reference w*.

    `reference` is w*, flat, shape [P], and is None for probes that need none; `references` are
    further ones by their labels. `surface` is None where no probe reads other batches. `num_steps`
    is T, where it is known.
    """

    layout: FlatLayout
    reducer: RowReducer
    reference: Tensor | None
    references: Mapping[str, Tensor] = field(default_factory=dict)
    surface: Surface | None = None
    num_steps: int | None = None
    unused_rows: Callable[[], Mapping[str, Tensor]] = dict
    """Gives parameter name -> indices of rows whose gradient is zero at every step."""


@dataclass(frozen=True)
class OtherReference:
    """A reference besides the run's own w*, all of P1's path quantities can be taken against it.

    ema: the running average e_t = d e_{t-1} + (1 - d) w_t with e_0 = w_0 and d = `number`, at the
    end of the run's budget. best_validation: the weights at the epoch end of least validation loss.
    epoch: the weights after `number` epochs, before or beyond the budget. seed: w* of the same run
    with seed = `number`. followed: w* of the run whose local learning rates this run follows; of a
    run that follows none, its own w*.
    """

    kind: Literal["ema", "best_validation", "epoch", "seed", "followed"]
    number: float = 0

    @property
    def label(self) -> str:
        """Its name in tables: `ema 0.999`, `best validation`, `epoch 100`, `seed 3`, `followed`."""
        words = self.kind.replace("_", " ")
        only_one = self.kind in ("best_validation", "followed")
        return words if only_one else f"{words} {self.number:g}"


@dataclass(frozen=True)
class ProbeOptions:
    """Options of a probe that has none; others subclass it, a default for every field.

    A value out of range raises ValueError in `__post_init__`, in one line for the user.
    """

    def check_length(self, num_measured: int) -> None:
        """Raises ValueError, in one line, if the options need more measured steps than that."""


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
    """The table that the columns stand in; a probe with labels or a cadence has one of its own."""
    default_every: ClassVar[Cadence] = 1
    """Cadence where the run gives none."""
    options_type: ClassVar[type[ProbeOptions]] = ProbeOptions
    requires: ClassVar[tuple[str, ...]] = ()
    """Names of the probes whose columns it builds on."""
    whole_run_columns: ClassVar[tuple[Column, ...]] = ()
    """Columns of the steps table that `whole_run` gives."""
    remembers: ClassVar[bool] = False
    """True if a row rests on earlier steps than its own: where those were not seen it is NaN."""
    starts_anywhere: ClassVar[bool] = True
    """False if it must see a run from its first step on, or from a checkpoint with its state."""

    def __init__(self, context: ProbeContext, options: ProbeOptions | None = None) -> None:
        self.context = context
        self.options = self.options_type() if options is None else options

    @classmethod
    def batches(cls, options: ProbeOptions) -> frozenset[BatchKind]:
        """The kinds of batches that it asks the surface for; none: the step's own gradient."""
        return frozenset()

    @classmethod
    def other_references(cls, options: ProbeOptions) -> tuple[OtherReference, ...]:
        """The references besides w* that it measures against, given by their labels."""
        return ()

    @classmethod
    def extra_gradients(cls, options: ProbeOptions, batches_per_pass: int) -> float:
        """Cost of one measurement, in gradients of a minibatch; for the plan.

        `batches_per_pass` is that of a pass over the training examples. See `geometry.surface` for
        what a loss and a Hessian-vector product count.
        """
        return 0.0

    @classmethod
    def num_vectors(cls, options: ProbeOptions) -> int:
        """Weight-sized vectors that it holds, further references included; for the plan."""
        return len(cls.other_references(options))

    @property
    def labels(self) -> tuple[str, ...] | None:
        """Labels of the rows of a step, in a table of the probe's own; None: one row per step."""
        return None

    def is_due(self, step: int, every: int) -> bool:
        """True at the steps at which `measure` is to be called."""
        return step % every == 0

    def recorded(self, steps: Tensor, every: int) -> Tensor:
        """Mask of the steps whose primitives become rows, among those that are due."""
        return steps % every == 0

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

    @classmethod
    def whole_run(cls, options: ProbeOptions, run: WholeRun) -> Columns:
        """Columns that need the whole run, each [T] in the steps table; a pure function of it.

        Those of `whole_run_columns` that the run allows: one that it does not is left out.
        """
        return {}

    @classmethod
    def summary(cls, options: ProbeOptions, run: WholeRun) -> dict[str, float | None]:
        """Values of the run for the runs table, its tables complete; None where undefined."""
        return {}

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

    def surface(self) -> Surface:
        """The loss surface; raises ValueError for a probe built without one."""
        if self.context.surface is None:
            raise ValueError(f"probe {self.name} needs a surface")
        return self.context.surface


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
