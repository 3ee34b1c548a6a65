"""What every registry has: members that are frozen option sets, and one look-up that teaches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    TypeAdapter,
    ValidationError,
)

from trainables.errors import UserError, nearest


class Options(BaseModel):
    """Frozen, validated options; a key that does not exist is refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )


class Member(Options):
    """Base of all registry members: the options of one data set, model, optimizer, ..."""

    name: ClassVar[str]


M = TypeVar("M", bound=Member)


def registry_of(*members: type[M]) -> dict[str, type[M]]:
    """A registry from its members, keyed by their names."""
    return {member.name: member for member in members}


def lookup(kind: str, registry: Mapping[str, type[M]], name: str) -> type[M]:
    """The member of that name; an unknown name is a UserError that lists the near ones."""
    if name not in registry:
        raise UserError(f"unknown {kind} '{name}'; {nearest(name, registry)}")
    return registry[name]


def member_of(kind: str, registry: Callable[[], Mapping[str, type[M]]]) -> tuple[Any, ...]:
    """Pydantic metadata of a field that holds a member, written as a name or as {name, options}."""

    def parse(value: object) -> Member:
        if isinstance(value, Member):
            return value
        options = {"name": value} if isinstance(value, str) else value
        if not isinstance(options, Mapping) or "name" not in options:
            raise UserError(f"{kind}: write a name or a mapping with the key 'name', not {value!r}")
        member = lookup(kind, registry(), str(options["name"]))
        return build(member, {k: v for k, v in options.items() if k != "name"}, where=kind)

    def dump(member: Member) -> dict[str, Any]:
        return {"name": member.name, **member.model_dump(mode="json", exclude_defaults=True)}

    return BeforeValidator(parse), PlainSerializer(dump)


O = TypeVar("O", bound=Options)  # noqa: E741


def build(options: type[O], values: Mapping[str, Any], where: str) -> O:
    """Validated options from plain values; what is wrong becomes one line that names the key."""
    try:
        return options.model_validate(dict(values))
    except ValidationError as error:
        raise UserError(explain(error, options, where)) from None


D = TypeVar("D")

_ADAPTERS: dict[Any, TypeAdapter[Any]] = {}
"""The validator of each dataclass: to build one takes a millisecond, and every run has several."""


def build_dataclass(options: type[D], values: Mapping[str, Any], where: str) -> D:
    """A validated dataclass from plain values; what is wrong becomes one line."""
    try:
        if options not in _ADAPTERS:
            _ADAPTERS[options] = TypeAdapter(options)
        validated: D = _ADAPTERS[options].validate_python(dict(values))
    except ValidationError as error:
        raise UserError(explain(error, Options, where)) from None
    return validated


def explain(error: ValidationError, options: type[Options], where: str) -> str:
    """The first finding of a validation error as one line: place, finding, what would be right."""
    first = error.errors(include_url=False)[0]
    path = [str(part) for part in first["loc"]]
    place = ".".join([where, *path]) if where else ".".join(path)
    if first["type"] == "extra_forbidden":
        known = _fields_at(options, path[:-1])
        return f"{place}: unknown key '{path[-1]}'; {nearest(path[-1], known)}"
    if first["type"] == "missing":
        return f"{place}: missing; give it a value"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        return f"{place}: {message}" if place else message
    return f"{place}: {message[0].lower()}{message[1:]}, got {first['input']!r}"


def _fields_at(options: type[Options], path: list[str]) -> list[str]:
    for part in path:
        field = options.model_fields.get(part)
        if field is None or not isinstance(field.annotation, type):
            break
        if not issubclass(field.annotation, Options):
            break
        options = field.annotation
    return list(options.model_fields)
