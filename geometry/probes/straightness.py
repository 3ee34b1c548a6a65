"""How straight the path is, and how well its updates aim at w* (INVENTORY G02, A16)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from geometry import path
from geometry.probes.contract import Column, ProbeOptions, StepBlock, SumsProbe
from geometry.whole_run import Columns, WholeRun


class StraightnessProbe(SumsProbe):
    """cos(-U_t, D_t); at the end d_t^2 / sum_{s >= t} ‖U_s‖^2, and the exponent of d_t^2 in T - t.

    The cosine is that of the update as it was applied, so that for Adam it differs from gamma. One
    number says whether there is a signal beyond a walk: the exponent is 1 for a walk, 2 for a
    straight line.
    """

    name: ClassVar[str] = "straightness"
    needs_reference: ClassVar[bool] = True
    needs_update: ClassVar[bool] = True
    requires: ClassVar[tuple[str, ...]] = ("path", "update")
    columns: ClassVar[tuple[Column, ...]] = (
        Column("update_gamma", "1", "cos(w_t - w_{t+1}, w_t - w*), gamma of the applied update"),
    )
    whole_run_columns: ClassVar[tuple[Column, ...]] = (
        Column(
            "straightness",
            "1",
            "‖w_t - w*‖^2 / sum_{s >= t} ‖U_s‖^2: 1 for a walk, the steps left for a straight line",
        ),
    )

    @property
    def num_primitives(self) -> int:
        """<U, D>, ‖U‖^2, ‖D‖^2."""
        return 3

    def products(self, block: StepBlock) -> Sequence[tuple[Tensor, Tensor]]:
        """<U, D>, ‖U‖^2, ‖D‖^2."""
        update, displacement = block.update(), block.displacement(self.reference())
        return (update, displacement), (update, update), (displacement, displacement)

    def derive(self, primitives: Tensor) -> Sequence[Tensor]:
        """The cosine."""
        inner, update_squared, distance_squared = primitives.unbind(1)
        return [path.update_gamma(inner, update_squared.sqrt(), distance_squared.sqrt())]

    @classmethod
    def whole_run(cls, options: ProbeOptions, run: WholeRun) -> Columns:
        """The straightness of what is left of the path at every step."""
        steps = run.tables["steps"]
        return {"straightness": path.straightness(steps["distance"], steps["update_norm"])}

    @classmethod
    def summary(cls, options: ProbeOptions, run: WholeRun) -> dict[str, float | None]:
        """`path_exponent`, of the whole run."""
        return {"path_exponent": path.path_exponent(run.tables["steps"]["distance"])}
