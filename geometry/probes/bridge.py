"""The bridge probe: local_lr / learning_rate - 1 as lagged correlations (bridge.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from geometry.bridge import Measured, bridge
from geometry.probes.contract import Column, Probe, ProbeContext, ProbeOptions, StepView
from geometry.reductions import Scratch
from geometry.whole_run import Columns, WholeRun


class BridgeProbe(Probe):
    """<G_t, w_t> and <G_t, v_{t-1}>, v the momentum buffer, and the bridge's terms at the end.

    The lags are those of the correlation probe of the same run: the window's, or all of them with
    its option all_lags_below_mib. The terms are given for SGD, momentum and Nesterov, with coupled
    weight decay and without clipping: other updates are not linear in gradients and weights.
    """

    name: ClassVar[str] = "bridge"
    needs_reference: ClassVar[bool] = True
    needs_update: ClassVar[bool] = False
    requires: ClassVar[tuple[str, ...]] = ("path", "correlation")
    columns: ClassVar[tuple[Column, ...]] = (
        Column("weight_product", "loss", "<G_t, w_t>"),
        Column("buffer_product", "loss^2/weight^2", "<G_t, v_{t-1}>, v the momentum buffer"),
        Column("weight_decay", "loss/weight^2", "lambda_t, used in step t"),
    )
    whole_run_columns: ClassVar[tuple[Column, ...]] = (
        Column("bridge_own", "1", "part of local_lr / learning_rate - 1 by G_t itself"),
        Column("bridge_correlation", "1", "part of it by the correlations with later gradients"),
        Column("bridge_momentum", "1", "part of it by the momentum buffer from before t"),
        Column("bridge_decay", "1", "part of it by weight decay"),
        Column("bridge_left_over", "1", "share of <G_t, w_t - w*> in lags that were not measured"),
    )

    def __init__(self, context: ProbeContext, options: ProbeOptions | None = None) -> None:
        super().__init__(context, options)
        self.reference()  # the terms add up to what lies between w_t and w*

    @property
    def num_primitives(self) -> int:
        """The two products and the weight decay."""
        return 3

    def measure(self, step: StepView, out: Tensor) -> None:
        """The two products; without a buffer the second is zero, as v is."""
        vectors = [vector for vector in (step.weights, step.momentum) if vector is not None]

        def body(span: slice, scratch: Scratch) -> Sequence[tuple[Tensor, Tensor]]:
            return [(step.gradient[span], vector[span]) for vector in vectors]

        self.context.reducer.sums(len(vectors), body, out[: len(vectors)])
        out[len(vectors) :].zero_()
        out[2].fill_(step.weight_decay)

    def derive(self, primitives: Tensor) -> Sequence[Tensor]:
        """The values as they are."""
        return primitives.unbind(1)

    @classmethod
    def whole_run(cls, options: ProbeOptions, run: WholeRun) -> Columns:
        """The terms, of an update that is linear and a correlation probe of every step."""
        steps, own = run.tables["steps"], run.tables["correlation"]
        if run.update is None or len(own["step"]) != len(steps["step"]):
            return {}
        measured = Measured(
            learning_rate=steps["learning_rate"],
            weight_decay=steps["weight_decay"],
            products=own["product"],
            inner_product=steps["inner_product"],
            weight_product=steps["weight_product"],
            buffer_product=steps["buffer_product"],
        )
        names = (column.name for column in cls.whole_run_columns)
        return dict(zip(names, bridge(run.update, measured), strict=True))
