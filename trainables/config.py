"""RunConfig: everything that decides what a run computes; frozen, validated, documented."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from geometry.probes.contract import OtherReference
from geometry.probes.registry import PROBES
from trainables.data.contract import DataConfig
from trainables.data.registry import DATA
from trainables.errors import UserError
from trainables.length import BatchGrowth, Calendar
from trainables.length import Budget as Budget
from trainables.models.contract import ModelConfig
from trainables.models.registry import MODELS
from trainables.optimizers import OPTIMIZERS, OptimizerConfig
from trainables.probe_config import ProbeConfig as ProbeConfig
from trainables.probe_config import count_or
from trainables.randomness import fold
from trainables.registry import Options, build, member_of
from trainables.schedules.contract import ScheduleConfig
from trainables.schedules.registry import SCHEDULES
from trainables.tasks.contract import ExampleTaskConfig, TaskConfig
from trainables.tasks.registry import TASKS

SEED_NAMES = ("init", "data_order", "augmentation", "dropout")


class Seeds(Options):
    """Named seeds; each that is not given is derived from the run's `seed`."""

    init: int | None = Field(default=None, ge=0)
    """Seed of the initial weights."""
    data_order: int | None = Field(default=None, ge=0)
    """Seed of the order of the training examples, together with the epoch."""
    augmentation: int | None = Field(default=None, ge=0)
    """Seed of crops and flips, together with the epoch."""
    dropout: int | None = Field(default=None, ge=0)
    """Seed of dropout masks, together with the step."""


class LearningRate(Options):
    """The configured learning rate: base * rule(batch_size / reference_batch_size)."""

    base: float = Field(gt=0)
    """Learning rate at the reference batch size."""
    rule: Literal["fixed", "sqrt", "linear"] = "fixed"
    """How it grows with the batch size: not, by the square root (P1 A.4), linearly (P2 fig. 9)."""
    reference_batch_size: int | None = Field(default=None, ge=1)
    """The batch size at which it equals `base`; needed unless the rule is fixed."""

    @model_validator(mode="before")
    @classmethod
    def _from_number(cls, value: object) -> object:
        return {"base": value} if isinstance(value, int | float | str) else value

    @model_validator(mode="after")
    def _has_reference(self) -> LearningRate:
        if self.rule != "fixed" and self.reference_batch_size is None:
            raise ValueError(f"rule {self.rule} needs reference_batch_size")
        return self

    def at(self, batch_size: int) -> float:
        """The learning rate at that batch size, before the schedule."""
        if self.reference_batch_size is None:
            return self.base
        ratio = batch_size / self.reference_batch_size
        growth = {"fixed": 1.0, "sqrt": math.sqrt(ratio), "linear": ratio}
        return self.base * growth[self.rule]


class RunConfig(Options):
    """One run: a training, its budget, and what is measured along it."""

    task: Annotated[TaskConfig, *member_of("task", lambda: TASKS)] = Field(
        default_factory=lambda: TASKS["classification"]()
    )
    """What is learnt: loss, minibatches, metrics."""
    data: Annotated[DataConfig, *member_of("data", lambda: DATA)] = Field(
        default_factory=lambda: DATA["digits"]()
    )
    """The data set and how it is split and augmented."""
    model: Annotated[ModelConfig, *member_of("model", lambda: MODELS)] = Field(
        default_factory=lambda: MODELS["mlp"]()
    )
    """The architecture."""
    optimizer: Annotated[OptimizerConfig, *member_of("optimizer", lambda: OPTIMIZERS)] = Field(
        default_factory=lambda: OPTIMIZERS["momentum"]()
    )
    """The optimizer and its weight decay."""
    schedule: Annotated[ScheduleConfig, *member_of("schedule", lambda: SCHEDULES)] = Field(
        default_factory=lambda: SCHEDULES["constant"]()
    )
    """How the learning rate changes over the steps."""
    learning_rate: LearningRate = LearningRate(base=0.01)
    """The learning rate and its rule in the batch size."""
    batch_size: Annotated[int | Literal["full"], count_or("full")] = 64
    """Examples per minibatch; the last, smaller minibatch of an epoch is dropped, as in P1.
    full: a step is one exact pass over the training examples, clean and in order (P2 section 2)."""
    batch_growth: BatchGrowth = BatchGrowth()
    """How the batch size grows over the epochs, from `batch_size` on; by default it does not."""
    chunk: Annotated[int | Literal["auto"], count_or("auto")] = "auto"
    """Most examples of a full batch that are computed at a time, auto: what fits the memory set
    aside for it. Batch normalisation sees one chunk at a time. No meaning for minibatches."""
    budget: Budget = Budget(epochs=40)
    """Length of the training."""
    seed: int = Field(default=0, ge=0)
    """The seed from which all named seeds derive that are not given."""
    seeds: Seeds = Seeds()
    """Named seeds given one by one."""
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    """Arithmetic of the forward and backward pass; bf16 is autocast, weights stay float32."""
    memory_format: Literal["auto", "contiguous", "channels_last"] = "auto"
    """Layout of convolution weights and images; auto: what was measured faster for the model."""
    evaluate_every_epochs: int = Field(default=1, ge=1)
    """Cadence of evaluation in the reference pass, in epochs; the end is always evaluated."""
    probes: tuple[ProbeConfig, ...] = (ProbeConfig(name="path"), ProbeConfig(name="update"))
    """What is measured at every step."""

    @model_validator(mode="after")
    def _fits_together(self) -> RunConfig:
        if self.data.kind != self.task.data_kind:
            raise ValueError(
                f"task {self.task.name} reads {self.task.data_kind}, "
                f"data {self.data.name} holds {self.data.kind}"
            )
        if self.model.data_kind != self.task.data_kind:
            fitting = [name for name, m in MODELS.items() if m.data_kind == self.task.data_kind]
            raise ValueError(
                f"model {self.model.name} takes {self.model.data_kind}, "
                f"task {self.task.name} reads {self.task.data_kind}; "
                f"use model {' or '.join(fitting)}"
            )
        if self.batch_size == "full" and not isinstance(self.task, ExampleTaskConfig):
            exact = [name for name, task in TASKS.items() if issubclass(task, ExampleTaskConfig)]
            raise ValueError(
                f"batch_size: full needs a task whose loss is a mean over examples "
                f"({', '.join(exact)}), {self.task.name} is none; give a number: with as many as "
                "an epoch has examples, every step takes them all"
            )
        if self.batch_growth:
            self._check_growth()
        if self.schedule.followed() is not None:
            self._check_followed()
        names = [probe.name for probe in self.probes]
        if len(set(names)) != len(names):
            raise ValueError(f"probes: each at most once, not {names}")
        for probe in self.probes:
            self._check_batches(probe)
        for reference in self.other_references():
            self._check_reference(reference)
        return self

    def _check_growth(self) -> None:
        if self.batch_size == "full":
            raise ValueError("batch_growth needs minibatches, and batch_size: full has none")
        if self.schedule.follows_gradients:
            raise ValueError(
                f"schedule {self.schedule.name} compares gradients of one batch size, and "
                "batch_growth makes several; leave one of them out"
            )
        for probe in self.all_probes():
            if probe.batches() - {"full"}:
                raise ValueError(
                    f"probe {probe.name} draws batches of one size, and batch_growth makes "
                    "several; leave one of them out"
                )
            if probe.once_per_epoch():
                raise ValueError(
                    f"probe {probe.name} is measured every epoch, and with batch_growth epochs "
                    "differ in steps; give `every` in steps"
                )

    def _check_followed(self) -> None:
        if not self.needs_replay():
            raise ValueError(
                f"schedule {self.schedule.name} follows a run that measures its local_lr; "
                "add the probe path"
            )
        seeds = [r.label for r in self.other_references() if r.kind == "seed"]
        if seeds:
            raise ValueError(
                f"reference {seeds[0]} is w* of the same run with another seed, which would have "
                f"to follow a run of its own; leave it out under schedule {self.schedule.name}"
            )

    def _check_batches(self, probe: ProbeConfig) -> None:
        kinds = probe.batches()
        if self.batch_size == "full" and kinds & {"fixed", "fresh"}:
            raise ValueError(
                f"probe {probe.name} draws minibatches, and batch_size: full has none; leave it out"
            )

    def _check_reference(self, reference: OtherReference) -> None:
        if reference.kind == "seed" and reference.number == self.seed:
            raise ValueError(f"reference {reference.label} is the run's own seed; give another")
        if reference.kind != "epoch" or not self.schedule.depends_on_budget:
            return
        if self.budget.epochs is None or reference.number > self.budget.epochs:
            raise ValueError(
                f"reference {reference.label} lies beyond the budget, on which schedule "
                f"{self.schedule.name} depends; give epochs within a budget in epochs"
            )

    @classmethod
    def parse(cls, values: Mapping[str, Any], where: str = "") -> RunConfig:
        """A RunConfig from plain values; raises UserError with one line that names the key."""
        return build(cls, values, where)

    def plain(self) -> dict[str, Any]:
        """The canonical plain form: non-default values only, members with their names."""
        return self.model_dump(mode="json", exclude_defaults=True)

    def examples_per_step(self, num_train: int, epoch: int = 0) -> int:
        """The batch size of an epoch as a number: all `num_train` training examples if full."""
        if self.batch_size == "full":
            return num_train
        return self.batch_size * self.batch_growth.growth(epoch)

    def minibatch(self, num_train: int, epoch: int, index: int) -> slice:
        """The places of minibatch `index` of an epoch in the order of that epoch's examples."""
        size = self.examples_per_step(num_train, epoch)
        return slice(index * size, (index + 1) * size)

    def steps_per_epoch(self, num_train: int, epoch: int = 0) -> int:
        """Whole minibatches of an epoch in the training examples; 1 if the batch size is full."""
        return num_train // self.examples_per_step(num_train, epoch)

    def calendar(self, num_train: int) -> Calendar:
        """Which step belongs to which epoch.

        Raises:
            UserError: an epoch has no step, since its minibatches are larger than the data.
        """
        changes = (0, *self.batch_growth.epochs)
        largest = self.examples_per_step(num_train, changes[-1])
        if largest > num_train:
            grown = f"batch_growth: {largest} from epoch {changes[-1]} on"
            what = grown if self.batch_growth else f"batch_size: {largest}"
            advice = (
                "let it grow less" if self.batch_growth else f"give at most {num_train}, or full"
            )
            raise UserError(
                f"{what} is larger than the {num_train} training examples of {self.data.name}; "
                f"{advice}"
            )
        return Calendar(tuple((e, self.steps_per_epoch(num_train, e)) for e in changes))

    def seed_for(self, name: str) -> int:
        """The named seed: as given, else derived from `seed`."""
        given: int | None = getattr(self.seeds, name)
        return fold(self.seed, name) if given is None else given

    def channels_last(self) -> bool:
        """True if images and convolution weights are laid out channels_last."""
        if self.memory_format == "auto":
            return self.model.channels_last
        return self.memory_format == "channels_last"

    def all_probes(self) -> tuple[ProbeConfig, ...]:
        """The run's probes, those that they build on, and those that its null model needs."""
        extra = ("path", *self.optimizer.required_probes) if self.needs_replay() else ()
        required = (name for probe in self.probes for name in PROBES[probe.name].requires)
        missing = dict.fromkeys([*extra, *required])
        for probe in self.probes:
            missing.pop(probe.name, None)
        return self.probes + tuple(ProbeConfig(name=name) for name in missing)

    def check_length(self, num_steps: int, steps_per_epoch: int) -> None:
        """Raises UserError if a probe needs more measured steps than the run has."""
        for probe in self.all_probes():
            num_measured = -(-num_steps // probe.cadence(steps_per_epoch))
            try:
                probe.typed_options().check_length(num_measured)
            except ValueError as error:
                raise UserError(f"probe {probe.name}: {error}") from None

    def needs_replay(self) -> bool:
        """True if some probe needs the reference w*."""
        return any(PROBES[probe.name].needs_reference for probe in self.probes)

    def other_references(self) -> tuple[OtherReference, ...]:
        """The references besides w* that its probes measure against, each once."""
        found = (PROBES[p.name].other_references(p.typed_options()) for p in self.probes)
        return tuple(dict.fromkeys(reference for part in found for reference in part))

    def reference_ends(self, calendar: Calendar) -> set[int]:
        """The steps after which the reference pass keeps weights: T, and those of other epochs."""
        epochs = (r.number for r in self.other_references() if r.kind == "epoch")
        own = self.budget.num_steps(calendar)
        return {own, *(calendar.start(int(epoch)) for epoch in epochs)}

    def with_seed(self, seed: int) -> RunConfig:
        """The same training from another seed, whose w* is a reference; it measures nothing."""
        return self.model_copy(update={"seed": seed, "probes": ()})

    def followed(self) -> RunConfig | None:
        """The run whose local learning rates the schedule follows: the same but for the schedule.

        None for most. It measures what this run measures, so that it is the one of a sweep.
        """
        schedule = self.schedule.followed()
        return None if schedule is None else self.model_copy(update={"schedule": schedule})

    def needs_surface(self) -> bool:
        """True if some probe reads other batches than the step's own."""
        return any(probe.batches() for probe in self.probes)
