"""What a sweep file may say, and what it means once inheritance, scale and variant are applied."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from sweeps.keys import check_key, check_tree
from sweeps.tuning_spec import Tuning
from trainables.config import SEED_NAMES
from trainables.errors import UserError, nearest
from trainables.registry import Options

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
"""A sweep's name is a folder's name and an MLflow tag: no spaces, no slashes."""


class Exclude(Options):
    """The end of every run that statistics leave out; a step stays if every rule keeps it."""

    last_epochs: int = Field(default=0, ge=0)
    """Number of last epochs (P1 section 4 leaves out one)."""
    last_fraction: float = Field(default=0.0, ge=0, lt=1)
    """Share of the run's steps, from the end [1]."""
    last_steps: int = Field(default=0, ge=0)
    """Number of last steps: the same in every cell where runs are equal in steps."""
    distance_floor: float = Field(default=0.0, ge=0, lt=1)
    """Steps whose distance to w* is below this share of the first step's distance [1]."""


class Analysis(Options):
    """How the analysis reads a sweep."""

    exclude: Exclude | None = None
    """The excluded range; none: chosen by the analysis from the runs' lengths, and stated."""
    matrix_epochs: tuple[Annotated[int, Field(ge=0)], ...] = ()
    """Epochs, from 0, whose matrices of gradient correlation figures show; none: they choose."""

    @field_validator("matrix_epochs", mode="before")
    @classmethod
    def _one_epoch(cls, value: object) -> object:
        return [value] if isinstance(value, int) else value


class Ablation(Options):
    """One comparison of a sweep: what it fixes, and the axes along which its runs differ.

    The runs are base <- set <- one of `cases` <- one combination of `grid` <- one seed.
    """

    title: str = ""
    """What is compared, in a few words."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Options of every run of this ablation, nested or dotted, laid over the base."""
    grid: dict[str, list[Any]] = Field(default_factory=dict)
    """Axes: dotted key -> levels; all combinations are run. A level may be a mapping."""
    cases: list[dict[str, Any]] = Field(default_factory=list)
    """Paired settings, each {dotted key: value, ...}; crossed with the grid."""
    seeds: dict[str, list[int]] | None = None
    """Seed axes of this ablation instead of the sweep's."""
    analysis: Analysis | None = None
    """Analysis options of this ablation instead of the sweep's."""

    @model_validator(mode="before")
    @classmethod
    def _plain_seeds(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and values.get("seeds") is not None:
            return {**values, "seeds": seed_axes(values["seeds"])}
        return values

    @model_validator(mode="after")
    def _checked(self) -> Ablation:
        check_tree(self.set, "set")
        for key, levels in self.grid.items():
            check_key(key, "grid")
            _refuse_empty(levels, f"grid.{key}")
        for number, case in enumerate(self.cases):
            for key in case:
                check_key(key, f"cases[{number}]")
        return self


class Overlay(Options):
    """What a scale or a variant may change; laid over the sweep, null removes a key."""

    title: str = ""
    """A few words; of a scale or a variant they are added to the sweep's."""
    description: str = ""
    """Sentences: what it does, and what was chosen by whom; added likewise."""
    base: dict[str, Any] = Field(default_factory=dict)
    """Options of every run, nested or dotted (RunConfig)."""
    stand_in: str = ""
    """What stands in for data that cannot be had, such as `WikiText-2 for WikiText-103`: written
    on every figure, on the report and beside every name on MLflow."""
    seeds: Any = None
    """[0, 1, 2], the axis `seed`; or named seeds {init: [2019, 2020]}, the axis `seeds.init`."""
    ablations: dict[str, dict[str, Any] | None] = Field(default_factory=dict)
    """Label -> ablation; several comparisons share the runs that they have in common."""
    analysis: dict[str, Any] = Field(default_factory=dict)
    """How the analysis reads the sweep (Analysis)."""
    tuning: dict[str, Any] = Field(default_factory=dict)
    """How `optpath tune` searches the base (Tuning)."""
    expects_divergence: bool | None = None
    """True if diverged runs are a result and not a failure: the exit code stays 0."""


class Variant(Overlay):
    """Another reading of the source, under its own name."""

    source: str = ""
    """Who says so, and against whom."""
    scales: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """What the variant changes in a scale (Overlay), beyond what it changes everywhere."""


class SweepFile(Overlay):
    """A sweep's YAML file."""

    name: str | None = None
    """The sweep's name in the store and in MLflow; by default the file's name."""
    extends: str | None = None
    """A preset or a file, relative to this one, that this sweep is laid over."""
    question: str | None = None
    """The one question that the sweep answers."""
    figure: str | None = None
    """The paper's figure that it reproduces."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Of the single ablation `main`, in a sweep without `ablations`."""
    grid: dict[str, Any] = Field(default_factory=dict)
    """Of the single ablation `main`, in a sweep without `ablations`."""
    cases: list[dict[str, Any]] = Field(default_factory=list)
    """Of the single ablation `main`, in a sweep without `ablations`."""
    scales: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Name -> what that scale changes (Overlay); `full` is the sweep as it stands."""
    variants: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Name -> another reading (Variant)."""


class SweepSpec(Options):
    """A resolved sweep: nothing left to inherit, choose or override."""

    name: str
    """The name under which it is stored."""
    title: str
    """One line."""
    description: str = ""
    """Sentences: what it does, and what was chosen by whom."""
    question: str = ""
    """The one question that the sweep answers."""
    figure: str = ""
    """The paper's figure that it reproduces."""
    stand_in: str = ""
    """What stands in for data that cannot be had; empty: nothing does."""
    base: dict[str, Any]
    """Options of every run, nested, every member named."""
    seeds: dict[str, list[int]]
    """Seed axes: `seed`, or a named seed."""
    ablations: dict[str, Ablation]
    """At least one."""
    analysis: Analysis = Analysis()
    """How the analysis reads the sweep."""
    tuning: Tuning = Tuning()
    """How `optpath tune` searches the base."""
    expects_divergence: bool = False
    """True if diverged runs are a result and not a failure."""
    source: str = Field(default="", exclude=True)
    """File or preset, for messages."""
    overridden: tuple[str, ...] = Field(default=(), exclude=True)
    """Keys that came from the command line, for messages."""

    @model_validator(mode="after")
    def _checked(self) -> SweepSpec:
        if not NAME.fullmatch(self.name):
            raise UserError(f"name: '{self.name}' has other characters than letters, digits, ._+-")
        for label, ablation in self.ablations.items():
            self._check_seeds(label, ablation)
        return self

    def _check_seeds(self, label: str, ablation: Ablation) -> None:
        # seeds are laid over grid and cases, which would then count for nothing
        taken = {seed_key(name): name for name in ablation.seeds or self.seeds}
        written = [("grid", ablation.grid), *(("cases", case) for case in ablation.cases)]
        for where, keys in written:
            for key in keys:
                if key in taken:
                    levels = "[0, 1]" if taken[key] == "seed" else f"{{{taken[key]}: [0, 1]}}"
                    raise UserError(
                        f"ablations.{label}.{where}.{key}: seeds are an axis of their own; "
                        f"write  seeds: {levels}"
                    )

    def plain(self) -> dict[str, Any]:
        """A sweep file that resolves to this spec."""
        values = self.model_dump(mode="json", exclude_defaults=True)
        values["ablations"] = {
            label: ablation.model_dump(mode="json", exclude_defaults=True)
            for label, ablation in self.ablations.items()
        }
        return values


def seed_axes(value: object) -> dict[str, list[int]]:
    """Seed axes from what a file says: a list is the axis `seed`, a mapping names them.

    Raises:
        UserError: no seeds, an unknown seed name, or something else than whole numbers from 0.
    """
    axes: Mapping[Any, Any] = value if isinstance(value, Mapping) else {"seed": value}
    known = ("seed", *SEED_NAMES)
    for name, levels in axes.items():
        if name not in known:
            raise UserError(f"seeds: unknown seed '{name}'; {nearest(str(name), known)}")
        if not isinstance(levels, list):
            raise UserError(f"seeds: a list of whole numbers such as [0, 1, 2], not {levels!r}")
        _refuse_empty(levels, "seeds" if name == "seed" else f"seeds.{name}")
        wrong = [s for s in levels if not isinstance(s, int) or isinstance(s, bool) or s < 0]
        if wrong:
            raise UserError(f"seeds: whole numbers from 0, not {wrong[0]!r}")
    return {str(name): list(levels) for name, levels in axes.items()}


def seed_key(name: str) -> str:
    """The RunConfig key of a seed axis: seed -> seed, init -> seeds.init."""
    return "seed" if name == "seed" else f"seeds.{name}"


def _refuse_empty(levels: object, where: str) -> None:
    if not levels:
        raise UserError(f"{where}: an empty axis has no runs; give it at least one value")
