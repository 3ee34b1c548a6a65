"""How long a gradient's orthogonal part is remembered, and how far the weights go meanwhile.

The orthogonal part is what of G_t does not point along w_t - w*. Every cycle has a base step; at
each lag after it the present orthogonal part is compared with the base's (INVENTORY A20-A22).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from geometry import path
from geometry.probes.contract import (
    Column,
    Probe,
    ProbeContext,
    ProbeOptions,
    StepBlock,
    StepView,
)
from geometry.probes.gradients import write_path_sums
from geometry.probes.path import NUM_PATH_SUMS, path_products
from geometry.reductions import Scratch

NUM_SUMS = 8
"""Sums of a lag step; with the lag and the base's own three, its primitives."""
BASE = ("weights", "gradient", "sums")
"""What is kept of a base step: w_s, G_s, and its <G, D>, ‖G‖^2, ‖D‖^2."""


@dataclass(frozen=True)
class LagsOptions(ProbeOptions):
    """The lags."""

    lags: tuple[int, ...] = (1, 2, 5, 10, 20, 50)
    """Steps after the base (P1's published code)."""

    def __post_init__(self) -> None:
        """Refuse no lags, and lags that are not in the future."""
        if not self.lags or min(self.lags) < 1:
            raise ValueError(f"lags: whole numbers from 1, not {list(self.lags)}")


class LagsProbe(Probe):
    """cos(P_s, P_{s+k}), cos(G_s, G_{s+k}) and ‖w_s - w_{s+k}‖ for every lag k of a base step s.

    P_t = G_t - (<G_t, D_t> / ‖D_t‖^2) D_t with D_t = w_t - w*: every gradient is projected off its
    own D. A row stands at step s + k. A base comes every `every` steps, but not before the last lag
    of the one before: by default every 51 steps. Memory: two weight-sized vectors.
    """

    name: ClassVar[str] = "lags"
    table: ClassVar[str] = "lags"
    needs_reference: ClassVar[bool] = True
    needs_update: ClassVar[bool] = False
    remembers: ClassVar[bool] = True
    starts_anywhere: ClassVar[bool] = False
    options_type: ClassVar[type[ProbeOptions]] = LagsOptions
    columns: ClassVar[tuple[Column, ...]] = (
        Column("lag", "steps", "k, the steps since the base s = t - k"),
        Column("orthogonal_correlation", "1", "cos(P_s, P_t), P the part of G orthogonal to D"),
        Column("gradient_correlation", "1", "cos(G_s, G_t)"),
        Column("weight_distance", "weight", "‖w_s - w_t‖"),
    )

    def __init__(self, context: ProbeContext, options: ProbeOptions | None = None) -> None:
        super().__init__(context, options)
        assert isinstance(self.options, LagsOptions)
        self._lags = sorted(set(self.options.lags))
        self._base: dict[str, Tensor] = {}
        self._base_step = 0

    @classmethod
    def num_vectors(cls, options: ProbeOptions) -> int:
        """The base's weights and gradient."""
        return 2

    def _cycle(self, every: int) -> int:
        return max(every, self._lags[-1] + 1)

    def is_due(self, step: int, every: int) -> bool:
        """At a base, and at every lag after it."""
        since = step % self._cycle(every)
        return since == 0 or since in self._lags

    def recorded(self, steps: Tensor, every: int) -> Tensor:
        """The lags."""
        return torch.isin(steps % self._cycle(every), torch.tensor(self._lags))

    @property
    def num_primitives(self) -> int:
        """The lag, the sums, the base's own <G, D>, ‖D‖^2 and ‖G‖^2."""
        return 1 + NUM_SUMS + NUM_PATH_SUMS

    def measure(self, step: StepView, out: Tensor) -> None:
        """At a lag the sums with the base; at a base its vectors are kept, and no row comes of it.

        What is no lag of the base is the next base: `is_due` lets nothing else through.
        """
        reference = self.reference()
        since = step.step - self._base_step
        if self._base and since in self._lags:
            out[0] = since
            self._compare(step, reference, out[1 : 1 + NUM_SUMS])
            out[1 + NUM_SUMS :] = self._base["sums"]
        else:
            self._keep(step, reference)
            out.zero_()

    def _keep(self, step: StepView, reference: Tensor) -> None:
        if not self._base:
            self._base = {
                "weights": torch.empty_like(step.weights),
                "gradient": torch.empty_like(step.weights),
                "sums": step.weights.new_empty(NUM_PATH_SUMS, dtype=torch.float64),
            }
        self._base_step = step.step
        self._base["weights"].copy_(step.weights)
        self._base["gradient"].copy_(step.gradient)
        write_path_sums(self.context, step, step.gradient, reference, self._base["sums"])

    def _compare(self, step: StepView, reference: Tensor, out: Tensor) -> None:
        weights, gradient = self._base["weights"], self._base["gradient"]

        def body(span: slice, scratch: Scratch) -> Sequence[tuple[Tensor, Tensor]]:
            block = StepBlock(step, span, scratch)
            base_weights, base = weights[span], gradient[span]
            base_away = block.formed(
                "base displacement",
                lambda out: torch.sub(base_weights, reference[span], out=out),
            )
            moved = block.formed(
                "moved", lambda out: torch.sub(block.weights, base_weights, out=out)
            )
            away = block.displacement(reference)
            return [
                *path_products(block, reference),
                (block.gradient, base),
                (block.gradient, base_away),
                (away, base),
                (away, base_away),
                (moved, moved),
            ]

        self.context.reducer.sums(NUM_SUMS, body, out)

    def derive(self, primitives: Tensor) -> Sequence[Tensor]:
        """The cosines, from <P_s, P_t> and ‖P‖^2 by the sums."""
        lag, sums, base = torch.split(primitives, [1, NUM_SUMS, NUM_PATH_SUMS], dim=1)
        inner, squared, away, both, with_base_away, with_base, aways, moved = sums.unbind(1)
        base_inner, base_squared, base_away = base.unbind(1)
        along, base_along = _ratio(inner, away), _ratio(base_inner, base_away)
        product = (
            both - base_along * with_base_away - along * with_base + along * base_along * aways
        )
        norm = (squared - along * inner).clamp(min=0).sqrt()
        base_norm = (base_squared - base_along * base_inner).clamp(min=0).sqrt()
        return (
            lag.squeeze(1),
            path.gamma(product, norm, base_norm),
            path.gamma(both, squared.sqrt(), base_squared.sqrt()),
            moved.sqrt(),
        )

    def state(self) -> dict[str, Tensor]:
        """The base."""
        return {**self._base, "step": torch.tensor(self._base_step)} if self._base else {}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take up what `state` gave."""
        if state:
            device = self.reference().device
            self._base = {name: state[name].to(device) for name in BASE}
            self._base_step = int(state["step"])


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    return numerator / denominator.masked_fill(denominator == 0, math.nan)
