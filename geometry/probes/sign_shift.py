"""Sign shift: the share of gradient entries whose sign differs from that of a step before."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from geometry.probes.contract import Column, Probe, ProbeContext, ProbeOptions, StepView
from geometry.probes.correlation import WindowOptions
from geometry.reductions import Scratch
from geometry.ring import Ring


class SignShiftProbe(Probe):
    """100 #{i: G_{t-l,i} G_t,i < 0} over P and over the entries that are 0 in neither (P2 4.3).

    One row per lag l = 1..h-1; undefined where t < l. Zeros never shift. With a cadence, lags count
    measured steps. Memory: a byte per weight and step of the window.
    """

    name: ClassVar[str] = "sign_shift"
    table: ClassVar[str] = "sign_shift"
    needs_reference: ClassVar[bool] = False
    needs_update: ClassVar[bool] = False
    remembers: ClassVar[bool] = True
    options_type: ClassVar[type[ProbeOptions]] = WindowOptions
    columns: ClassVar[tuple[Column, ...]] = (
        Column("sign_shift", "%", "100 #{i: G_{t-l,i} G_t,i < 0} / P, l the label"),
        Column("sign_shift_nonzero", "%", "the same over #{i: G_{t-l,i} G_t,i != 0}"),
    )

    def __init__(self, context: ProbeContext, options: ProbeOptions | None = None) -> None:
        super().__init__(context, options)
        assert isinstance(self.options, WindowOptions)
        self._ring = Ring(
            self.options.window - 1,
            context.reducer.size,
            dtype=torch.int8,
            device=context.reducer.device,
            on=self.options.keep_on,
        )
        self._lags = range(1, self.options.window)

    @property
    def labels(self) -> tuple[str, ...]:
        """The lags."""
        return tuple(str(lag) for lag in self._lags)

    @property
    def num_primitives(self) -> int:
        """Lags that are known, ‖G‖^2; sums of the signs' products, and of their absolute values."""
        return 2 + 2 * len(self._lags)

    def measure(self, step: StepView, out: Tensor) -> None:
        """sum_i s_i s'_i = same - shifted and sum_i abs(s_i s'_i) = same + shifted, s the signs.

        Of signs, because the product of two small entries underflows to zero. The norm is there
        for gradients that are no numbers: those have the sign 0.
        """
        ring = self._ring

        def body(span: slice, scratch: Scratch) -> Iterator[tuple[Tensor, Tensor]]:
            gradient = step.gradient[span]
            signs = torch.sign(gradient, out=scratch[0])
            present = torch.abs(signs, out=scratch[1])
            yield gradient, gradient
            for lag in self._lags:
                past = ring.read(lag, span)
                yield signs, past
                yield present, past.abs()
            ring.overwrite(span, signs)

        out[0].fill_(ring.count + 1)
        self.context.reducer.sums(self.num_primitives - 1, body, out[1:])
        ring.advance()

    def derive(self, primitives: Tensor) -> Sequence[Tensor]:
        """The two percentages, each [steps, labels]."""
        unknown = (torch.tensor(self._lags) >= primitives[:, :1]) | primitives[:, 1:2].isnan()
        sums = primitives[:, 2:].reshape(-1, len(self._lags), 2)
        difference, nonzero = sums.masked_fill(unknown.unsqueeze(2), math.nan).unbind(2)
        shifted = 100 * (nonzero - difference) / 2
        num_parameters = self.context.layout.num_parameters
        return shifted / num_parameters, shifted / nonzero.masked_fill(nonzero == 0, math.nan)

    def state(self) -> dict[str, Tensor]:
        """The ring."""
        return self._ring.state()

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take up what `state` gave; nothing at the start of a run."""
        if state:
            self._ring.load(state)
