"""Gradient correlation over a window of steps, from a ring of gradients (P2 section 2).

A step adds the products with the h - 1 steps before it; matrices of any window, its means and its
pattern follow from them once the run is whole (correlation.py, patterns.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from geometry import correlation, patterns
from geometry.probes.contract import Column, Probe, ProbeContext, ProbeOptions, StepView
from geometry.reductions import Body, Scratch
from geometry.ring import KeepOn, Ring
from geometry.whole_run import Columns, WholeRun

MIB = 2**20


@dataclass(frozen=True)
class WindowOptions(ProbeOptions):
    """The window of a probe that looks back, and where it keeps what it looks back at."""

    window: int = 5
    """h, the steps of a window, at least 2 (P2 section 2: 5)."""
    keep_on: KeepOn = "device"
    """Where the past vectors live: device, or host where the device has no memory for them."""

    def __post_init__(self) -> None:
        """Raises ValueError for a window below 2."""
        correlation.check_window(self.window)

    def check_length(self, num_measured: int) -> None:
        """Raises ValueError for a window longer than the run."""
        correlation.check_window(self.window, num_steps=num_measured)


@dataclass(frozen=True)
class CorrelationOptions(WindowOptions):
    """Which lags are measured, and how exactly the past gradients are kept."""

    keep_as: Literal["fp32", "bf16"] = "fp32"
    """bf16 halves the memory and moves a correlation by about 1e-3 / sqrt(P)."""
    mean_only: bool = False
    """Lag 1 alone, for the mean over the window: one past gradient instead of h - 1, and no
    matrices. The mean is the same: it is one of neighbours (P2 eq. 3, INVENTORY K24)."""
    all_lags_below_mib: float = 0.0
    """Measure every lag of the run where its past gradients take at most this [MiB]: the bridge is
    exact then (bridge.py)."""


WHOLE_RUN_COLUMNS = (
    Column(
        "mean_correlation", "1", "mean of cos(G_s, G_{s+1}) over the window from t on (P2 eq. 3)"
    ),
    Column("mean_correlation_causal", "1", "the same over the window that ends at t"),
    Column("entry_variation", "1", "deviation of abs(cos) among the pairs of the window from t on"),
    *(
        Column(f"is_{name}", "1", f"1 if the window from t on is {name}, 0 if not (patterns.py)")
        for name in patterns.PATTERNS
    ),
    Column("gradient_dominance", "weight^2/loss", "(L_t - min L) / ‖G_t‖^2, of minibatch losses"),
    Column(
        "gradient_lipschitz", "loss/weight^2", "‖G_{t+1} - G_t‖ / ‖w_{t+1} - w_t‖, of minibatches"
    ),
)


class CorrelationProbe(Probe):
    """<G_{t-l}, G_t> and their cosine, one row per lag l = 0..h-1; undefined where t < l.

    With a cadence, lags count measured steps: with every: 10, lag 2 is 20 steps back.
    """

    name: ClassVar[str] = "correlation"
    table: ClassVar[str] = "correlation"
    needs_reference: ClassVar[bool] = False
    needs_update: ClassVar[bool] = False
    remembers: ClassVar[bool] = True
    options_type: ClassVar[type[ProbeOptions]] = CorrelationOptions
    columns: ClassVar[tuple[Column, ...]] = (
        Column("product", "loss^2/weight^2", "<G_{t-l}, G_t>, l the label"),
        Column("correlation", "1", "cos(G_{t-l}, G_t), l the label"),
    )
    whole_run_columns: ClassVar[tuple[Column, ...]] = WHOLE_RUN_COLUMNS

    def __init__(self, context: ProbeContext, options: ProbeOptions | None = None) -> None:
        super().__init__(context, options)
        reducer, chosen = context.reducer, _options(self.options)
        dtype = torch.bfloat16 if chosen.keep_as == "bf16" else reducer.dtype
        self._num_lags = _num_lags(chosen, context, reducer.size * dtype.itemsize)
        num_past = self._num_lags - 1
        self._ring = Ring(
            num_past, reducer.size, dtype=dtype, device=reducer.device, on=chosen.keep_on
        )
        shape = (num_past, len(self._parts))
        self._squares = torch.zeros(shape, dtype=torch.float64, device=reducer.device)

    @property
    def _parts(self) -> tuple[str, ...]:
        """What a gradient is taken apart into; the whole here."""
        return ("",)

    @property
    def labels(self) -> tuple[str, ...]:
        """The lags, of every part."""
        return tuple(part + str(lag) for part in self._parts for lag in range(self._num_lags))

    @property
    def num_primitives(self) -> int:
        """Lags that are known, products at every lag, squared norms of the past gradients."""
        return 1 + (2 * self._num_lags - 1) * len(self._parts)

    def measure(self, step: StepView, out: Tensor) -> None:
        """The products with the ring, which takes up the gradient on the way."""
        ring, num_lags = self._ring, self._num_lags

        def body(span: slice, scratch: Scratch) -> Iterator[tuple[Tensor, Tensor]]:
            gradient = step.gradient[span]
            yield gradient, gradient
            for lag in range(1, num_lags):
                yield gradient, ring.read(lag, span)
            ring.overwrite(span, gradient)

        out[0].fill_(ring.count + 1)
        sums = out[1:].view(-1, len(self._parts))
        products, squares = torch.split(sums, [num_lags, num_lags - 1])
        self._write_sums(body, products)
        ring.advance()
        squares.copy_(self._squares)
        self._squares = torch.cat([products[:1], self._squares[:-1]])

    def _write_sums(self, body: Body, out: Tensor) -> None:
        self.context.reducer.sums(self._num_lags, body, out[:, 0])

    def derive(self, primitives: Tensor) -> Sequence[Tensor]:
        """Products and correlations, each [steps, labels]."""
        num_lags = self._num_lags
        shape = (len(primitives), 2 * num_lags - 1, len(self._parts))
        sums = primitives[:, 1:].reshape(shape).transpose(1, 2)
        products, past = torch.split(sums, [num_lags, num_lags - 1], dim=2)
        unknown = torch.arange(num_lags) >= primitives[:, :1]
        products = products.masked_fill(unknown.unsqueeze(1), math.nan)
        own = products[..., :1]
        cosines = correlation.correlation(products, own, torch.cat([own, past], dim=2))
        return [values.flatten(1) for values in (products, cosines)]

    def state(self) -> dict[str, Tensor]:
        """The ring and its squared norms."""
        return {**self._ring.state(), "squares": self._squares}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take up what `state` gave; nothing at the start of a run."""
        if state:
            self._ring.load(state)
            self._squares = state["squares"].to(self._squares.device)

    @classmethod
    def whole_run(cls, options: ProbeOptions, run: WholeRun) -> Columns:
        """Means, variation and pattern of every window, dominance and Lipschitz constants."""
        own, steps = run.tables[cls.table], run.tables["steps"]
        columns = _window_columns(own["correlation"], _options(options).window)
        squared = own["product"][:, 0]
        loss = steps["loss"][torch.isin(steps["step"], own["step"])]
        columns["gradient_dominance"] = patterns.gradient_dominance(loss, squared)
        length = _step_length(run)
        if length is not None and len(own["step"]) == len(steps["step"]):
            product = own["product"][:, 1]
            columns["gradient_lipschitz"] = patterns.gradient_lipschitz(squared, product, length)
        return {name: _at(own["step"], values, steps["step"]) for name, values in columns.items()}

    @classmethod
    def summary(cls, options: ProbeOptions, run: WholeRun) -> dict[str, float | None]:
        """What the patterns earned, and when they changed; see `patterns.summary`."""
        own, steps = run.tables[cls.table], run.tables["steps"]
        measured = torch.isin(steps["step"], own["step"])
        kept = {name: values[measured] for name, values in steps.items()}
        found = {name: kept[f"is_{name}"] for name in patterns.PATTERNS}
        return patterns.summary(kept["step"], kept["loss"], kept["mean_correlation"], found)


class LayerCorrelationProbe(CorrelationProbe):
    """The same of every parameter tensor by itself; labels are `<parameter> <lag>`."""

    name: ClassVar[str] = "layer_correlation"
    table: ClassVar[str] = "layer_correlation"
    whole_run_columns: ClassVar[tuple[Column, ...]] = ()

    def __init__(self, context: ProbeContext, options: ProbeOptions | None = None) -> None:
        super().__init__(context, options)
        rows = [segment.num_rows for segment in context.layout.segments]
        self._rows = torch.tensor(rows, device=context.reducer.device)

    @property
    def _parts(self) -> tuple[str, ...]:
        return tuple(f"{name} " for name in self.context.layout.labels)

    def _write_sums(self, body: Body, out: Tensor) -> None:
        self.context.reducer.segment_sums(self._num_lags, body, self._rows, out)

    @classmethod
    def whole_run(cls, options: ProbeOptions, run: WholeRun) -> Columns:
        """Nothing: means of a layer follow from its rows."""
        return {}

    @classmethod
    def summary(cls, options: ProbeOptions, run: WholeRun) -> dict[str, float | None]:
        """Nothing."""
        return {}


def _options(options: ProbeOptions) -> CorrelationOptions:
    assert isinstance(options, CorrelationOptions)
    return options


def _num_lags(options: CorrelationOptions, context: ProbeContext, num_bytes: int) -> int:
    """Lags from 0 on: two for the mean alone, the window's, or all of a run that is small."""
    num_steps = context.num_steps or 0
    past_bytes = (num_steps - 1) * num_bytes
    if num_steps > options.window and past_bytes <= options.all_lags_below_mib * MIB:
        return num_steps
    return 2 if options.mean_only else options.window


def _window_columns(lagged: Tensor, window: int) -> Columns:
    means = correlation.off_diagonal_means(lagged, window)
    found = patterns.indicators(means)
    columns = {
        "mean_correlation": correlation.mean_correlation(lagged[:, 1], window),
        "mean_correlation_causal": correlation.causal_mean_correlation(lagged[:, 1], window),
        **{f"is_{name}": values for name, values in found.items()},
    }
    if lagged.shape[1] >= window:
        columns["entry_variation"] = correlation.entry_variation(lagged, window)
    return columns


def _step_length(run: WholeRun) -> Tensor | None:
    """‖w_{t+1} - w_t‖: measured, or eta ‖G‖ where the update is that; None where it is unknown."""
    steps = run.tables["steps"]
    if "update_norm" in steps:
        return steps["update_norm"]
    if run.update is None or not run.update.is_plain:
        return None
    return steps["learning_rate"] * run.tables["correlation"]["product"][:, 0].sqrt()


def _at(measured: Tensor, values: Tensor, steps: Tensor) -> Tensor:
    """The values in the rows of the measured steps, NaN in the others."""
    column = torch.full((len(steps),), math.nan, dtype=torch.float64)
    column[torch.isin(steps, measured)] = values
    return column
