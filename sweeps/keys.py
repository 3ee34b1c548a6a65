"""The dotted keys of a RunConfig: which exist, which hold lists, and what a tree leaves unsaid."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, get_args, get_origin

from sweeps.tree import Tree, head, without_nulls
from trainables.config import RunConfig
from trainables.data.registry import DATA
from trainables.errors import UserError, nearest
from trainables.models.registry import MODELS
from trainables.optimizers import OPTIMIZERS
from trainables.registry import Member, Options
from trainables.schedules.registry import SCHEDULES
from trainables.tasks.registry import TASKS

REGISTRIES: dict[str, Mapping[str, type[Member]]] = {
    "task": TASKS,
    "data": DATA,
    "model": MODELS,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
}
"""The fields of a RunConfig that hold a registry member."""


@lru_cache(maxsize=1)
def config_keys() -> dict[str, bool]:
    """Every dotted key of a RunConfig, of all members; the value says whether it holds a list."""
    return dict(_keys_of(RunConfig, ""))


def _keys_of(options: type[Options], prefix: str) -> Iterator[tuple[str, bool]]:
    for name, field in options.model_fields.items():
        key = f"{prefix}{name}"
        yield key, _is_list(field.annotation)
        if not prefix and name in REGISTRIES:
            yield f"{key}.name", False
            for member in REGISTRIES[name].values():
                yield from _keys_of(member, f"{key}.")
        elif isinstance(field.annotation, type) and issubclass(field.annotation, Options):
            yield from _keys_of(field.annotation, f"{key}.")


def _is_list(annotation: Any) -> bool:
    origin = get_origin(annotation)
    return origin in (tuple, list) or any(_is_list(part) for part in get_args(annotation))


def check_key(dotted: str, where: str) -> None:
    """Refuse a key that no RunConfig has.

    Raises:
        UserError: names the nearest keys; `where` is the file and the place in it.
    """
    known = config_keys()
    if dotted not in known:
        raise UserError(f"{where}: unknown key '{dotted}'; {nearest(dotted, _candidates(dotted))}")


def _candidates(dotted: str) -> list[str]:
    known = list(config_keys())
    within = [key for key in known if key.startswith(f"{head(dotted)}.")]
    return within or known


def check_tree(values: Mapping[str, Any], where: str) -> None:
    """Refuse a nested tree with a top-level key that no RunConfig has."""
    for key in values:
        check_key(str(key), where)


def complete(tree: Mapping[str, Any]) -> Tree:
    """The tree with every member named, so that its options are known to be that member's.

    A member that is not named is the RunConfig's default one; likewise the learning rate's base.
    """
    filled: Tree = dict(without_nulls(tree))
    for field in REGISTRIES:
        value = filled.get(field, {})
        if isinstance(value, str):
            value = {"name": value}
        if isinstance(value, Mapping) and "name" not in value:
            default = RunConfig.model_fields[field].get_default(call_default_factory=True)
            value = {"name": default.name, **value}
        filled[field] = value
    rate = filled.get("learning_rate", {})
    if isinstance(rate, Mapping) and "base" not in rate:
        default = RunConfig.model_fields["learning_rate"].get_default()
        filled["learning_rate"] = {"base": default.base, **rate}
    return filled


def value_at(config: RunConfig, dotted: str) -> Any:
    """The validated value of a dotted key as plain data; None if this member has no such option."""
    value: Any = config
    for part in dotted.split("."):
        value = getattr(value, part, None)
    if isinstance(value, tuple):
        return [
            item.model_dump(mode="json") if isinstance(item, Options) else item for item in value
        ]
    return value.model_dump(mode="json") if isinstance(value, Options) else value


def leaf_key(dotted: str, value: Any) -> str:
    """The key that a level really sets: `optimizer: sgd` sets optimizer.name, and so on."""
    if dotted in REGISTRIES and isinstance(value, str):
        return f"{dotted}.name"
    if dotted == "learning_rate" and not isinstance(value, Mapping):
        return "learning_rate.base"
    return dotted
