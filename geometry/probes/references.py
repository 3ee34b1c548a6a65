"""The path quantities against other references than the run's own w* (INVENTORY G07, G08, G09).

What depends on the choice of w*, and what does not: the running average of the weights has none of
the last step's noise, another seed's w* none of the correlation that this path's own end induces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from geometry.probes.contract import (
    Column,
    OtherReference,
    ProbeContext,
    ProbeOptions,
    StepBlock,
    SumsProbe,
)
from geometry.probes.path import NUM_PATH_SUMS, PATH_COLUMNS, path_columns, path_products
from geometry.whole_run import WholeRun

FOLLOWED = OtherReference("followed").label


@dataclass(frozen=True)
class ReferencesOptions(ProbeOptions):
    """Which references; one weight-sized vector each."""

    ema: tuple[float, ...] = (0.999,)
    """Decays d of running averages of the weights, up to the budget's end; ours, untuned."""
    best_validation: bool = True
    """The weights at the evaluated epoch end of least validation loss."""
    epochs: tuple[int, ...] = ()
    """The weights after so many epochs: those of an earlier budget, or of a longer run."""
    seeds: tuple[int, ...] = ()
    """w* of the same run with another `seed`; named seeds that are given stay as they are."""
    followed: bool = False
    """w* of the run whose local learning rates this run follows: does it get there faster? Its own
    w*, where it follows none."""

    def __post_init__(self) -> None:
        """Refuse decays outside (0, 1), no epochs, and no reference at all."""
        for decay in self.ema:
            if not 0 < decay < 1:
                raise ValueError(f"ema: decays between 0 and 1, not {decay:g}")
        if any(epochs < 1 for epochs in self.epochs):
            raise ValueError(f"epochs: at least 1, not {min(self.epochs)}")
        if any(seed < 0 for seed in self.seeds):
            raise ValueError(f"seeds: whole numbers from 0, not {min(self.seeds)}")
        if not references_of(self):
            raise ValueError("no reference; give ema, best_validation, epochs, seeds or followed")


class ReferencesProbe(SumsProbe):
    """The path columns of G_t against every further reference, labelled by it.

    A reference that does not exist, because its training broke before it, has undefined values.
    """

    name: ClassVar[str] = "references"
    table: ClassVar[str] = "references"
    needs_reference: ClassVar[bool] = True
    needs_update: ClassVar[bool] = False
    columns: ClassVar[tuple[Column, ...]] = PATH_COLUMNS
    options_type: ClassVar[type[ProbeOptions]] = ReferencesOptions

    def __init__(self, context: ProbeContext, options: ProbeOptions | None = None) -> None:
        super().__init__(context, options)
        self._labels = tuple(r.label for r in self.other_references(self.options))
        missing = [label for label in self._labels if label not in context.references]
        if context.reference is None or missing:
            raise ValueError(f"probe {self.name} needs a reference: {', '.join(missing) or 'w*'}")
        self._vectors = [context.references[label] for label in self._labels]

    @classmethod
    def other_references(cls, options: ProbeOptions) -> tuple[OtherReference, ...]:
        """Those that the options name."""
        assert isinstance(options, ReferencesOptions)
        return references_of(options)

    @property
    def labels(self) -> tuple[str, ...]:
        """The references."""
        return self._labels

    @property
    def num_primitives(self) -> int:
        """Three sums per reference."""
        return NUM_PATH_SUMS * len(self._labels)

    def products(self, block: StepBlock) -> Sequence[tuple[Tensor, Tensor]]:
        """<G, D>, ‖G‖^2, ‖D‖^2 with D the displacement from each reference."""
        return [pair for vector in self._vectors for pair in path_products(block, vector)]

    def derive(self, primitives: Tensor) -> Sequence[Tensor]:
        """The path columns, each [steps, labels]."""
        return path_columns(*primitives.view(-1, len(self._labels), NUM_PATH_SUMS).unbind(2))

    @classmethod
    def summary(cls, options: ProbeOptions, run: WholeRun) -> dict[str, float | None]:
        """How near the path comes to `followed`, min_t d_t / d_0 over t < T, and at which step.

        `followed_nearest` [1] and `followed_nearest_step`; only with that reference.
        """
        labels = [reference.label for reference in cls.other_references(options)]
        if FOLLOWED not in labels:
            return {}
        own = run.tables[cls.table]
        distance = own["distance"][:, labels.index(FOLLOWED)]
        if not (distance[0] > 0 and bool(distance.isfinite().all())):
            return {"followed_nearest": None, "followed_nearest_step": None}
        nearest = int(distance.argmin())
        return {
            "followed_nearest": float(distance[nearest] / distance[0]),
            "followed_nearest_step": float(own["step"][nearest]),
        }


def references_of(options: ReferencesOptions) -> tuple[OtherReference, ...]:
    """The references that the options name, in their order."""
    return (
        *(OtherReference("ema", decay) for decay in options.ema),
        *(OtherReference("best_validation") for _ in range(options.best_validation)),
        *(OtherReference("epoch", epochs) for epochs in options.epochs),
        *(OtherReference("seed", seed) for seed in options.seeds),
        *(OtherReference("followed") for _ in range(options.followed)),
    )
