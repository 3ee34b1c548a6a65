"""The plane of two weights: the path in it, and the loss around it (P1 figures 14 and 15)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from geometry.probes.contract import Cadence, Column, Probe, ProbeOptions, StepView
from geometry.surface import FULL, LOSS_COST, BatchKind

ONCE = 10**9
"""A cadence that no training reaches again: measured at step 0 alone."""


@dataclass(frozen=True)
class PlaneOptions(ProbeOptions):
    """Which two weights, by their numbers in the flat vector: a network's first two by default."""

    first: int = 0
    """Number of the weight along x."""
    second: int = 1
    """Number of the weight along y."""

    def __post_init__(self) -> None:
        """Refuse one weight for both axes, and negative numbers."""
        if min(self.first, self.second) < 0 or self.first == self.second:
            raise ValueError(f"first, second: two weights from 0 on, not {self.first, self.second}")


class CoordinatesProbe(Probe):
    """(w_t)_i and (w_t)_j, two coordinates of the weights at every step."""

    name: ClassVar[str] = "coordinates"
    needs_reference: ClassVar[bool] = False
    needs_update: ClassVar[bool] = False
    options_type: ClassVar[type[ProbeOptions]] = PlaneOptions
    columns: ClassVar[tuple[Column, ...]] = (
        Column("first_weight", "weight", "one coordinate of w_t"),
        Column("second_weight", "weight", "another coordinate of w_t"),
    )

    @property
    def num_primitives(self) -> int:
        """The two coordinates."""
        return 2

    def measure(self, step: StepView, out: Tensor) -> None:
        """Two elements of the weights."""
        for column, weight in enumerate(_axes(self.options)):
            out[column] = step.weights[weight]

    def derive(self, primitives: Tensor) -> Sequence[Tensor]:
        """As they are."""
        return primitives.unbind(1)


@dataclass(frozen=True)
class LevelSetsOptions(PlaneOptions):
    """The square in which the loss is computed, and how finely."""

    low: float = -4.0
    """Least value of both weights; ours: four deviations of a normal start."""
    high: float = 4.0
    """Greatest value of both weights."""
    points: int = 41
    """Values along each axis; ours."""

    def __post_init__(self) -> None:
        """Refuse an empty square and fewer than two points."""
        super().__post_init__()
        if not self.low < self.high:
            raise ValueError(f"low, high: {self.low} is not below {self.high}")
        if self.points < 2:
            raise ValueError(f"points: at least 2, not {self.points}")

    @property
    def places(self) -> list[float]:
        """The values along an axis."""
        step = (self.high - self.low) / (self.points - 1)
        return [self.low + index * step for index in range(self.points)]


class LevelSetsProbe(Probe):
    """L(w) with w_i = x and w_j = y over a square grid, all other weights those of w*.

    Measured once, at step 0, on all training examples (a fixed epoch of minibatches where the task
    has no others). Rows are labelled `x y`. Source: P1 appendix, figures 14 and 15.
    """

    name: ClassVar[str] = "level_sets"
    table: ClassVar[str] = "level_sets"
    default_every: ClassVar[Cadence] = ONCE
    needs_reference: ClassVar[bool] = True
    needs_update: ClassVar[bool] = False
    options_type: ClassVar[type[ProbeOptions]] = LevelSetsOptions
    columns: ClassVar[tuple[Column, ...]] = (
        Column("level", "loss", "mean loss at this point of the plane, in train mode"),
    )

    @classmethod
    def batches(cls, options: ProbeOptions) -> frozenset[BatchKind]:
        """All training examples."""
        return frozenset({"full"})

    @classmethod
    def extra_gradients(cls, options: ProbeOptions, batches_per_pass: int) -> float:
        """Forward passes only."""
        return len(_places(options)) ** 2 * LOSS_COST * batches_per_pass

    @property
    def labels(self) -> tuple[str, ...]:
        """The points, x first."""
        places = _places(self.options)
        return tuple(f"{x:.6g} {y:.6g}" for x in places for y in places)

    @property
    def num_primitives(self) -> int:
        """The losses."""
        return len(_places(self.options)) ** 2

    def measure(self, step: StepView, out: Tensor) -> None:
        """The loss at every point of the grid."""
        place, surface = self.reference().clone(), self.surface()
        (first, second), places = _axes(self.options), _places(self.options)
        points = [(x, y) for x in places for y in places]
        for index, (x, y) in enumerate(points):
            place[first], place[second] = x, y
            out[index] = surface.loss(FULL, place)

    def derive(self, primitives: Tensor) -> Sequence[Tensor]:
        """The losses."""
        return (primitives.clone(),)


def _axes(options: ProbeOptions) -> tuple[int, int]:
    assert isinstance(options, PlaneOptions)
    return options.first, options.second


def _places(options: ProbeOptions) -> list[float]:
    assert isinstance(options, LevelSetsOptions)
    return options.places
