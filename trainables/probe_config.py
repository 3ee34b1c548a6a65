"""The probes of a run, as they are written in a config."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    ValidationError,
    model_serializer,
    model_validator,
)

from geometry.probes.contract import ProbeOptions
from geometry.probes.registry import PROBES
from geometry.surface import BatchKind
from trainables.errors import UserError, nearest
from trainables.registry import Options, build_dataclass

COUNT = TypeAdapter[int](Annotated[int, Field(ge=1)])


def count_or(word: str) -> BeforeValidator:
    """Pydantic metadata of a field that holds a count from 1 on, or that word."""

    def check(value: object) -> int | str:
        if value == word:
            return word
        try:
            return COUNT.validate_python(value)
        except ValidationError as error:
            found = error.errors()[0]["msg"]
            words = f"{found[0].lower()}{found[1:]}, got {value!r}; or write {word}"
            raise ValueError(words) from None

    return BeforeValidator(check)


class ProbeConfig(Options):
    """One probe of the run; written as its name, or as {name, every, its own options}."""

    name: str
    """Name in the probe registry."""
    every: Annotated[int | Literal["epoch"] | None, count_or("epoch")] = None
    """Cadence in steps: measured at steps 0, every, 2 every, ...; epoch: at the first step of every
    epoch. By default the probe's own; always 1 for the steps table."""

    options: dict[str, Any] = Field(default_factory=dict)
    """The probe's own options that differ from their defaults; written beside its name."""

    @model_validator(mode="before")
    @classmethod
    def _gathered(cls, value: object) -> object:
        if not isinstance(value, Mapping):
            return {"name": value} if isinstance(value, str) else value
        common = {k: v for k, v in value.items() if k in ("name", "every")}
        options = {k: v for k, v in value.items() if k not in common}
        own = PROBES.get(str(value.get("name")))
        if own is not None and common.get("every") == own.default_every:
            del common["every"]  # one identity for both ways to write it
        return {**common, "options": options}

    @model_validator(mode="after")
    def _known(self) -> ProbeConfig:
        if self.name not in PROBES:
            raise UserError(f"unknown probe '{self.name}'; {nearest(self.name, PROBES)}")
        self.typed_options()
        return self

    @model_serializer(mode="wrap")
    def _flat(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = handler(self)
        options = values.pop("options", {})
        return {**values, **options}

    def batches(self) -> frozenset[BatchKind]:
        """The kinds of batches that the probe reads besides the step's own."""
        return PROBES[self.name].batches(self.typed_options())

    def cadence(self, steps_per_epoch: int) -> int:
        """Steps from one measurement to the next."""
        every = self._every()
        return steps_per_epoch if every == "epoch" else every

    def once_per_epoch(self) -> bool:
        """True if it is measured at the first step of every epoch."""
        return self._every() == "epoch"

    def _every(self) -> int | Literal["epoch"]:
        return PROBES[self.name].default_every if self.every is None else self.every

    def typed_options(self) -> ProbeOptions:
        """The probe's options as its own type; raises UserError for one that does not fit."""
        known = PROBES[self.name].options_type
        names = ["every", *(field.name for field in dataclasses.fields(known))]
        for option in self.options.keys() - names:
            raise UserError(f"probe {self.name}: unknown key '{option}'; {nearest(option, names)}")
        return build_dataclass(known, self.options, where=f"probe {self.name}")
