"""The contract of a claim: a statement of a paper, its rule, and what the rule needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from analysis.cells import Ablation
from analysis.claims.facts import Facts
from analysis.claims.planting import PlantedRun
from analysis.claims.run import ClaimRun
from analysis.verdicts import Found, Word

Measures = dict[str, Any]
"""What a claim measures in one run, by name: numbers or arrays; NaN where undefined."""


class Null(Enum):
    """What stands against a claim."""

    WALK = "the rule is run on the null model's own table too"
    SILENT = "the null model says nothing of this metric, so it cannot explain it"
    EXACT = "exact: no null model is needed"


@dataclass(frozen=True)
class Measured:
    """One run with what a claim measured in it."""

    facts: Facts
    values: Measures

    def __getitem__(self, name: str) -> Any:
        return self.values[name]


@dataclass(frozen=True)
class Evidence:
    """What a rule judges: every run that meets the claim's needs, and the sweep's ablations."""

    runs: Sequence[Measured]
    ablations: Sequence[Ablation] = ()


@dataclass(frozen=True)
class Need:
    """What a claim needs of a sweep, in words, and how it is seen.

    `of_run` says whether a run can serve; `of_sweep`, whether the runs that can are enough. Both
    look at facts alone, so that a plan can be asked what it will settle before it is run.
    """

    words: str
    of_run: Callable[[Facts], bool] | None = None
    of_sweep: Callable[[Sequence[Facts]], bool] | None = None
    replicates: bool = False
    """True if a sweep that lacks it is about the claim all the same: it has too few seeds."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A claim and how it is judged.

    `measure` reduces one run to numbers, of the data and of the null model's table alike; `decide`
    is the rule, and sees nothing else. `planted` holds data of which the claim's word is known, by
    that word: they are its test, and the words are those that it can reach (inconclusive besides,
    where a need is not met).
    """

    id: str
    statement: str
    source: str
    """Paper and section."""
    metric: str
    rule: str
    """The rule in words, with its thresholds."""
    threshold: str
    """Where the thresholds come from."""
    needs: tuple[Need, ...]
    measure: Callable[[ClaimRun], Measures]
    decide: Callable[[Evidence], Sequence[Found] | Found]
    planted: Mapping[Word, Callable[[], Sequence[PlantedRun]]] = field(repr=False)
    null: Null = Null.WALK
    columns: tuple[str, ...] = ()
    """Columns that `measure` reads, as table.column."""
    optional: tuple[str, ...] = ()
    """Columns of the steps table, as steps.column, that it reads where a run has them."""
    any_status: bool = False
    """True if runs that diverged, or missed w* in the replay, count too."""

    @property
    def reach(self) -> tuple[Word, ...]:
        """The words that it can reach."""
        return tuple(dict.fromkeys([*self.planted, Word.INCONCLUSIVE]))

    @property
    def all_needs(self) -> tuple[Need, ...]:
        """Its columns, then its other needs."""
        return (*map(column_need, self.columns), *self.needs)

    @property
    def compares(self) -> bool:
        """True if it holds runs against each other, false if each run can speak for itself."""
        return any(need.of_sweep is not None and not need.replicates for need in self.needs)

    def serves(self, facts: Facts) -> bool:
        """True if a run meets every need that is a run's own."""
        counts = self.any_status or facts.usable
        return counts and all(n.of_run(facts) for n in self.all_needs if n.of_run is not None)

    def missing(self, sweep: Sequence[Facts]) -> Need | None:
        """The first need that these runs do not meet, or None."""
        runs = [facts for facts in sweep if self.any_status or facts.usable]
        if not runs:
            return Need("a finished run")
        for need in self.all_needs:
            if need.of_run is not None:
                runs = [facts for facts in runs if need.of_run(facts)]
            if not runs or (need.of_sweep is not None and not need.of_sweep(runs)):
                return need
        return None


def column_need(name: str) -> Need:
    """A column of a table, as table.column."""
    table, column = name.split(".", 1)
    origin = PROBES.get(column) if table == "steps" else table
    probe = f" (probe {origin})" if origin else ""
    return Need(f"column {column} of the {table} table{probe}", lambda f: name in f.columns)


PROBES = dict.fromkeys(
    (
        "gamma",
        "rsi",
        "error_bound",
        "local_lr",
        "distance",
        "inner_product",
        "gradient_norm",
        "null_gamma",
        "null_rsi",
        "null_error_bound",
        "null_local_lr",
        "null_distance",
    ),
    "path",
)
PROBES |= dict.fromkeys(("update_norm", "update_inner_product"), "update")
PROBES |= dict.fromkeys(
    (
        "mean_correlation",
        "entry_variation",
        "is_zigzag",
        "gradient_dominance",
        "gradient_lipschitz",
    ),
    "correlation",
)
"""Column of the steps table -> the probe that measures it, for messages; a table of its own has its
probe's name."""
