"""The runs of an ablation: the settings of each, and the fields along which they differ."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from sweeps.keys import leaf_key
from sweeps.spec import Ablation, SweepSpec, seed_key
from sweeps.tree import Tree, flatten


def expand(spec: SweepSpec, ablation: Ablation) -> Iterator[Tree]:
    """The dotted settings of each run of an ablation: cases x grid x seeds."""
    seeds = ablation.seeds or spec.seeds
    axes = {**ablation.grid, **{seed_key(name): levels for name, levels in seeds.items()}}
    for case in ablation.cases or [{}]:
        for levels in itertools.product(*axes.values()):
            yield {**case, **dict(zip(axes, levels, strict=True))}


def axes_of(spec: SweepSpec, ablation: Ablation) -> tuple[str, ...]:
    """The dotted fields along which an ablation's runs differ, in the order of the file.

    Levels that are mappings count as their name, and as whatever else differs between two levels of
    the same name: {name: mlp} against {name: resnet18, width: 2} is the axis model.name alone.
    """
    levels: dict[str, list[Any]] = {}
    for case in ablation.cases:
        for key, value in case.items():
            levels.setdefault(key, []).append(value)
    levels.update(ablation.grid)
    seeds = ablation.seeds or spec.seeds
    fields = [leaf for key, values in levels.items() for leaf in _leaves(key, values)]
    return tuple(dict.fromkeys([*fields, *(seed_key(name) for name in seeds)]))


def _leaves(key: str, levels: list[Any]) -> list[str]:
    if not any(isinstance(level, Mapping) for level in levels):
        return list(dict.fromkeys(leaf_key(key, level) for level in levels))
    flat = [flatten(level) if isinstance(level, Mapping) else {"name": level} for level in levels]
    names = {level.get("name") for level in flat}
    differing = [
        option
        for option in dict.fromkeys(option for level in flat for option in level)
        if option != "name" and _differs_within_a_name(option, flat)
    ]
    own_name = ["name"] if len(names) > 1 or (names != {None} and not differing) else []
    return [f"{key}.{option}" for option in [*own_name, *differing]]


def _differs_within_a_name(option: str, levels: list[Tree]) -> bool:
    return any(
        one.get(option) != other.get(option)
        for one, other in itertools.combinations(levels, 2)
        if one.get("name") == other.get("name")
    )
