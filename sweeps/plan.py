"""The plan of a sweep: every run and the trajectories they share. Pure; nothing is started."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from geometry.probes.correlation import WindowOptions
from sweeps.axes import axes_of, expand
from sweeps.identity import identities, run_id
from sweeps.keys import REGISTRIES, complete, value_at
from sweeps.spec import Analysis, SweepSpec
from sweeps.tree import Tree, head, merge, nest, without_nulls
from trainables.config import RunConfig
from trainables.data.contract import DataConfig
from trainables.errors import UserError
from trainables.full_batch import auto_chunk, check_chunk, example_bytes
from trainables.length import Calendar

NumTrain = Callable[[RunConfig, Path], int]
"""Number of training examples of a run."""

State = Literal["open", "done", "diverged"]
"""open: still to be run; done and diverged are settled and are not run again."""


@dataclass(frozen=True)
class PlannedRun:
    """One run of the plan."""

    run_id: str
    trajectory_id: str
    config: RunConfig
    ablations: tuple[str, ...]
    axes: dict[str, Any]
    """Dotted field -> value, of every axis of its ablations; batch_size: full as the number that
    it stands for, so that the batch sizes of a sweep are numbers."""
    calendar: Calendar
    """Which of its steps belongs to which epoch."""
    num_steps: int
    state: State = "open"

    @property
    def reference_steps(self) -> int:
        """Steps of its reference pass: T, or more where a reference lies beyond the budget."""
        return max(self.config.reference_ends(self.calendar))

    @property
    def steps_per_epoch(self) -> int:
        """Steps of its first epoch; later ones have fewer where the batch size grows."""
        return self.calendar.steps_per_epoch


@dataclass(frozen=True)
class PlannedTrajectory:
    """Runs that share one training; the unit of work that a worker gets."""

    trajectory_id: str
    runs: tuple[PlannedRun, ...]
    has_reference: bool = False
    """True if the store has all of its reference pass that the open runs ask for."""

    @property
    def open_runs(self) -> tuple[PlannedRun, ...]:
        """The runs that are still to be run."""
        return tuple(run for run in self.runs if run.state == "open")

    @property
    def follows(self) -> str | None:
        """The run whose local learning rates its schedule follows; it is done before this one."""
        followed = (self.open_runs or self.runs)[0].config.followed()
        return None if followed is None else run_id(followed)

    @property
    def num_steps(self) -> int:
        """Steps of its reference pass: those of its longest run."""
        return max(run.reference_steps for run in self.runs)

    @property
    def replay_steps(self) -> int:
        """Steps of its replay pass: those of the longest run that measures against w*, else 0."""
        return max((run.num_steps for run in self.runs if run.config.needs_replay()), default=0)


@dataclass(frozen=True)
class PlannedAblation:
    """What one ablation fixes and what it varies."""

    title: str
    fixed: dict[str, Any]
    """What it sets over the base, plain and nested."""
    axes: tuple[str, ...]
    """Dotted fields along which its runs differ."""
    analysis: Analysis | None
    """Its own analysis options; none: the sweep's."""


@dataclass(frozen=True)
class Plan:
    """A sweep's runs, in the order of the spec, each once."""

    name: str
    spec: SweepSpec
    runs: tuple[PlannedRun, ...]
    base: dict[str, Any]
    """The base as a plain RunConfig."""
    ablations: dict[str, PlannedAblation]
    """Label -> what it fixes and what it varies."""
    referenced: frozenset[str] = frozenset()
    """The trajectories whose reference pass the store has, as far as open runs ask for it."""
    computed_from: Mapping[str, str] = field(default_factory=dict)
    """Run id -> digest of the data from which the store has results or a reference pass of it."""

    @cached_property
    def trajectories(self) -> tuple[PlannedTrajectory, ...]:
        """The runs, grouped by the training that they share."""
        groups: dict[str, list[PlannedRun]] = {}
        for run in self.runs:
            groups.setdefault(run.trajectory_id, []).append(run)
        return tuple(
            PlannedTrajectory(key, tuple(runs), key in self.referenced)
            for key, runs in groups.items()
        )

    @property
    def open_runs(self) -> tuple[PlannedRun, ...]:
        """The runs that are still to be run."""
        return tuple(run for run in self.runs if run.state == "open")

    def with_states(self, states: Mapping[str, State]) -> Plan:
        """The plan with these runs' states set."""
        runs = (replace(r, state=states.get(r.run_id, r.state)) for r in self.runs)
        return replace(self, runs=tuple(runs))


def make_plan(spec: SweepSpec, data_root: Path, *, num_train: NumTrain | None = None) -> Plan:
    """Every run of the sweep, validated, each once however many ablations want it.

    The data sets are looked at (sizes, which files) but not read; with `num_train` given, not even
    that.

    Raises:
        UserError: an invalid run, data that are not there, a batch or chunk larger than its data.
    """
    planner = _Planner(spec, data_root, num_train)
    found: dict[str, PlannedRun] = {}
    for label, ablation in spec.ablations.items():
        for settings in expand(spec, ablation):
            run = planner.run(label, settings)
            known = found.get(run.run_id)
            found[run.run_id] = run if known is None else _united(known, run)
    _check_followed(found, spec)
    base = planner.resolved(RunConfig.parse(complete(spec.base)))
    ablations = {label: planner.ablation(label) for label in spec.ablations}
    return Plan(spec.name, spec, tuple(found.values()), base.plain(), ablations)


def _check_followed(runs: Mapping[str, PlannedRun], spec: SweepSpec) -> None:
    """Refuse a run that follows another which the sweep does not have."""
    for run in runs.values():
        followed = run.config.followed()
        if followed is not None and run_id(followed) not in runs:
            own, other = run.config.schedule.name, followed.schedule.name
            raise UserError(
                f"{spec.source}: ablations.{run.ablations[0]}: schedule {own} follows the same run "
                f"with schedule {other}, which the sweep does not have; give both, such as "
                f"schedule={other},{own}"
            )


def _united(known: PlannedRun, run: PlannedRun) -> PlannedRun:
    return replace(
        known,
        ablations=tuple(dict.fromkeys([*known.ablations, *run.ablations])),
        axes={**known.axes, **run.axes},
    )


class _Planner:
    """Builds runs; asks each data set only once."""

    def __init__(self, spec: SweepSpec, data_root: Path, num_train: NumTrain | None) -> None:
        self._spec = spec
        self._root = data_root
        self._num_train = num_train
        self._data: dict[DataConfig, DataConfig] = {}
        self._sizes: dict[tuple[Any, Any], int] = {}
        self._example_bytes: dict[tuple[Any, Any], int] = {}
        self._fixed = {
            label: complete(merge(spec.base, nest(ablation.set)))
            for label, ablation in spec.ablations.items()
        }
        self._fields: dict[tuple[str, str, str], Any] = {}
        self._axes = {label: axes_of(spec, a) for label, a in spec.ablations.items()}

    def run(self, label: str, settings: Tree) -> PlannedRun:
        """One run of an ablation from its dotted settings."""
        with self._placed(label):
            parsed = self._config(label, settings)
        config = self.resolved(parsed)  # what it refuses is wrong in the data folder, not here
        with self._placed(label):
            num_train = self._size(config)
            config = self._chunked(config, num_train)
            calendar = config.calendar(num_train)
            num_steps = config.budget.num_steps(calendar)
            config.check_length(num_steps, calendar.steps_per_epoch)
            self._check_matrix_epochs(label, config, num_steps, calendar)
        values = {name: value_at(config, name) for name in self._axes[label]}
        if "batch_size" in values or config.batch_size == "full":
            values["batch_size"] = config.examples_per_step(num_train)
        own, shared = identities(config)
        return PlannedRun(
            run_id=own,
            trajectory_id=shared,
            config=config,
            ablations=(label,),
            axes={name: value for name, value in values.items() if value is not None},
            calendar=calendar,
            num_steps=num_steps,
        )

    def ablation(self, label: str) -> PlannedAblation:
        """The description of an ablation."""
        ablation = self._spec.ablations[label]
        return PlannedAblation(
            title=ablation.title,
            fixed=nest(ablation.set),
            axes=self._axes[label],
            analysis=ablation.analysis,
        )

    def _check_matrix_epochs(
        self, label: str, config: RunConfig, num_steps: int, calendar: Calendar
    ) -> None:
        """Refuse epochs in which no whole window begins; each run by its own length."""
        analysis = self._spec.ablations[label].analysis or self._spec.analysis
        for probe in config.probes:
            options = probe.typed_options()
            if not isinstance(options, WindowOptions):
                continue
            cadence = probe.cadence(calendar.steps_per_epoch)
            last_start = (-(-num_steps // cadence) - options.window) * cadence
            last = calendar.place(last_start)[0]
            for epoch in analysis.matrix_epochs:
                if epoch > last:
                    raise UserError(
                        f"analysis.matrix_epochs: no window of {options.window} steps begins in "
                        f"epoch {epoch} of a run of {num_steps} steps; give epochs from 0 to {last}"
                    )

    def _config(self, label: str, settings: Tree) -> RunConfig:
        groups: dict[str, Tree] = {name: {} for name in self._fixed[label]}
        for key, value in settings.items():
            groups.setdefault(head(key), {})[key] = value
        keys = {name: (label, name, repr(group)) for name, group in groups.items()}
        for name, group in groups.items():
            if keys[name] not in self._fields:
                self._fields[keys[name]] = self._field(label, name, group)
        values = {name: self._fields[key] for name, key in keys.items()}
        config = RunConfig.parse({n: value for n, value in values.items() if value is not None})
        # A member is validated once for all the runs that have it: most of the time of a plan.
        for name in REGISTRIES:
            self._fields[keys[name]] = getattr(config, name)
        return config

    def _field(self, label: str, name: str, settings: Tree) -> Any:
        tree = {name: self._fixed[label].get(name)}
        for key, value in settings.items():
            tree = merge(tree, nest({key: value}))
        return without_nulls(tree).get(name)

    def resolved(self, config: RunConfig) -> RunConfig:
        """The config with what its data set chooses by the files that are there."""
        if self._num_train is not None:
            return config
        if config.data not in self._data:
            self._data[config.data] = config.data.resolved(self._root)
        resolved = self._data[config.data]
        return config if resolved == config.data else config.model_copy(update={"data": resolved})

    def _chunked(self, config: RunConfig, num_train: int) -> RunConfig:
        """The config with the chunk that `auto` stands for, and none where it has no meaning."""
        if config.batch_size != "full":
            known = config.chunk == "auto"
            return config if known else config.model_copy(update={"chunk": "auto"})
        if config.chunk != "auto":
            check_chunk(config, num_train)
            return config
        key = (config.model, config.data)
        if key not in self._example_bytes:
            self._example_bytes[key] = example_bytes(config, self._root)
        chunk = auto_chunk(self._example_bytes[key], num_train)
        return config.model_copy(update={"chunk": chunk})

    def _size(self, config: RunConfig) -> int:
        """Number of training examples."""
        key = (config.task, config.data)
        if key not in self._sizes:
            count = self._num_train or config.task.num_train
            self._sizes[key] = count(config, self._root)
        return self._sizes[key]

    @contextmanager
    def _placed(self, label: str) -> Iterator[None]:
        """Say where a wrong value was written: the command line if it set that key."""
        try:
            yield
        except UserError as error:
            keys = self._spec.overridden
            typed = any(str(error).startswith((f"{key}:", f"{key}.")) for key in keys)
            where = "command line" if typed else f"{self._spec.source}: ablations.{label}"
            raise UserError(f"{where}: {error}") from None
