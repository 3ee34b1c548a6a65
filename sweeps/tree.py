"""Plain option trees: nested mappings, dotted keys, and the one rule by which they merge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Tree = dict[str, Any]

EXCLUSIVE = "budget"
"""The option whose keys exclude one another: giving epochs takes the steps away."""


def merge(parent: Any, child: Any, *, keep_nulls: bool = False) -> Any:
    """`parent` with `child` laid over it.

    Mappings merge key by key; everything else is replaced. A mapping that names another member
    ({name: cnn} over {name: resnet18, width: 2}) replaces, so that no option of one member reaches
    another. A key whose value is null is removed; with `keep_nulls` the null stays, for a tree that
    is itself still to be laid over something. Text stands for {name: text} and a number for
    {base: number} where the other side is a mapping; a budget replaces the budget.
    """
    if isinstance(parent, Mapping) and isinstance(child, str):
        return dict(parent) if parent.get("name") == child else child
    if not isinstance(child, Mapping):
        return child
    parent = _as_mapping(parent)
    if "name" in child and child["name"] != parent.get("name", child["name"]):
        parent = {}
    if any(head(key) == EXCLUSIVE for key in child):
        parent = {key: value for key, value in parent.items() if head(key) != EXCLUSIVE}
    merged = dict(parent)
    for key, value in child.items():
        if value is None and not keep_nulls:
            merged.pop(key, None)
        else:
            merged[key] = merge(merged.get(key), value, keep_nulls=keep_nulls)
    return merged


def _as_mapping(value: Any) -> Tree:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, int | float) and not isinstance(value, bool):
        return {"base": value}
    return {}


def nest(values: Mapping[str, Any]) -> Tree:
    """Dotted keys as nested mappings: {"a.b": 1} -> {"a": {"b": 1}}; later keys win."""
    tree: Tree = {}
    for dotted, value in values.items():
        inner = nest(value) if isinstance(value, Mapping) else value
        first, *rest = reversed(str(dotted).split("."))
        branch: Tree = {first: inner}
        for part in rest:
            branch = {part: branch}
        tree = merge(tree, branch, keep_nulls=True)
    return tree


def without_nulls(tree: Any) -> Any:
    """The tree without the keys whose value is null."""
    if not isinstance(tree, Mapping):
        return tree
    return {key: without_nulls(value) for key, value in tree.items() if value is not None}


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Tree:
    """Nested mappings as dotted keys: {"a": {"b": 1}} -> {"a.b": 1}."""
    flat: Tree = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def head(dotted: str) -> str:
    """The first part of a dotted key."""
    return str(dotted).partition(".")[0]
