"""What is known of a run before its tables are read: planned and finished runs alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from analysis.cells import SEED_FIELDS, short_name
from analysis.lengths import Growth, Length, growth_of
from analysis.runs import flatten, plain_label


@dataclass(frozen=True)
class Facts:
    """One run of a sweep: its options, its length, which columns it has.

    `options` holds every dotted config field that is known (defaults that no axis names are not),
    `axes` those that the sweep varies, `columns` what is measured, as table.column, `schedule` what
    became of a schedule that changes at a point. A planned run has no status, regime or metrics
    yet: `planned` is true and what depends on them is left open.
    """

    run_id: str
    options: Mapping[str, Any]
    axes: Mapping[str, Any]
    num_steps: int
    steps_per_epoch: int
    """Of the first epoch; see `length`."""
    growth: Growth = ()
    """How the batches grow."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """The dotted config fields that are not at their defaults."""
    ablations: tuple[str, ...] = ()
    columns: frozenset[str] = frozenset()
    status: str = "done"
    replay_exact: bool | None = None
    regime: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    schedule: Mapping[str, Any] = field(default_factory=dict)
    planned: bool = False

    @property
    def seed(self) -> str:
        """The values of the seed axes; runs that differ in nothing else are replicates."""
        return _text({a: v for a, v in self.axes.items() if a.startswith(SEED_FIELDS)})

    @property
    def setting(self) -> str:
        """The values of all other axes, and the length, in words.

        Ablations may share axes and differ in what they fix: see `rules.replicates` for what holds
        runs of equal settings apart.
        """
        return ", ".join(filter(None, [self.setting_without(), f"{self.num_steps} steps"]))

    def setting_without(self, *fields: str) -> str:
        """The setting, without the axes that begin with one of those fields."""
        left_out = (*SEED_FIELDS, *fields)
        return _text({a: v for a, v in self.axes.items() if not a.startswith(left_out)})

    @property
    def replicate(self) -> str:
        """The same for replicates alone, whatever axes the ablations name that share the run."""
        return self.config_without()

    def config_without(self, *fields: str) -> str:
        """The config without its seeds and without those fields, and the length, as text."""
        left_out = (*SEED_FIELDS, *fields)
        kept = sorted((k, repr(v)) for k, v in self.config.items() if not k.startswith(left_out))
        return repr((kept, self.num_steps))

    def member(self, kind: str) -> str:
        """The name of the run's data, model, optimizer, ...; empty if it is a default's."""
        return str(self.options.get(f"{kind}.name") or self.options.get(kind) or "")

    def number(self, option: str, default: float) -> float:
        """A numeric option; `default` where it is not known."""
        value = self.options.get(option, default)
        return float(value) if isinstance(value, int | float) else default

    @cached_property
    def length(self) -> Length:
        """The run's steps and epochs."""
        return Length(self.num_steps, self.steps_per_epoch, self.growth)

    @property
    def is_full_batch(self) -> bool:
        """True for full-batch gradient descent: one step per epoch."""
        return self.steps_per_epoch == 1

    @property
    def usable(self) -> bool:
        """True if the run is done (or planned) and its replay did not miss w*."""
        return self.status == "done" and self.replay_exact is not False


def facts_of(
    planned: Mapping[str, Any], manifest: Mapping[str, Any] | None, columns: Iterable[str]
) -> Facts:
    """The facts of an entry of a plan's runs, with its manifest once it has one."""
    values = manifest or {}
    num_steps = int(values.get("num_steps") or planned.get("num_steps") or 0)
    config = flatten(planned["config"])
    return Facts(
        run_id=planned["run_id"],
        options={**config, **flatten(planned["axes"])},
        axes={name: plain_label(value) for name, value in planned["axes"].items()},
        config=config,
        num_steps=num_steps,
        steps_per_epoch=int(values.get("steps_per_epoch") or planned.get("steps_per_epoch") or 1),
        growth=growth_of(planned["config"]),
        ablations=tuple(planned.get("ablations", ())),
        columns=frozenset(columns),
        status=values.get("status", "unfinished"),
        replay_exact=values.get("replay_exact"),
        regime=values.get("regime"),
        metrics=values.get("metrics") or {},
        schedule=values.get("schedule") or {},
    )


def planned_facts(planned: Mapping[str, Any], columns: Iterable[str]) -> Facts:
    """The facts of a run that is planned and that, once done, will have these columns."""
    found = facts_of(planned, {"status": "done"}, columns)
    return replace(found, planned=True)


def _text(axes: Mapping[str, Any]) -> str:
    return ", ".join(f"{short_name(name)} {value}" for name, value in axes.items())
