"""key=value on the command line: narrows or replaces an axis, adds one, or changes the base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from sweeps.keys import check_key, complete, config_keys
from sweeps.spec import Ablation, Analysis, Exclude, SweepSpec, seed_axes
from sweeps.tree import EXCLUSIVE, Tree, head, merge, nest
from sweeps.yamlfile import parse_yaml
from trainables.config import SEED_NAMES, RunConfig
from trainables.errors import UserError, nearest
from trainables.registry import build

WHERE = "command line"

TEXTS = ("name", "title", "description", "question")
"""Keys of the sweep itself that take a text."""


def apply_overrides(spec: SweepSpec, overrides: Sequence[str]) -> SweepSpec:
    """The spec with every `key=value` applied; values are read as YAML, `16,32` as a list.

    A list makes or replaces the axis in every ablation that has it, else in all of them. A single
    value narrows that axis, and is otherwise laid over the base and whatever an ablation sets.

    Raises:
        UserError: one line that begins with "command line".
    """
    given = [_split(text) for text in overrides]
    keys = [key for key, _ in given]
    for key in keys:
        if keys.count(key) > 1:
            raise UserError(f"{WHERE}: {key} is given twice; give it once, as {key}=A,B for both")
    for key, value in given:
        spec = _apply(spec, key, value)
    if given:
        _check(spec)
    return spec.model_copy(update={"overridden": tuple(keys)})


def _split(text: str) -> tuple[str, Any]:
    key, equals, written = text.partition("=")
    key = key.strip()
    if not equals or not key:
        raise UserError(f"{WHERE}: '{text}' is no key=value; write it like batch_size=32")
    if not written.strip():
        raise UserError(f"{WHERE}: {key} has no value; write it like {key}=VALUE")
    if key in TEXTS:
        return key, written.strip()
    value = parse_yaml(written, f"{WHERE}: {key}")
    if isinstance(value, str) and "," in value:
        value = parse_yaml(f"[{written}]", f"{WHERE}: {key}")
    return key, value


def _apply(spec: SweepSpec, key: str, value: Any) -> SweepSpec:
    if key in TEXTS:
        return spec.model_copy(update={key: value})
    if key == "expects_divergence":
        return _with_flag(spec, value)
    if key == "ablations":
        return _select(spec, value)
    if head(key) == "analysis" and key != "analysis":
        return _with_analysis(spec, key.partition(".")[2], value)
    seed = _seed_name(key)
    if seed is not None:
        return _with_seeds(spec, seed, value)
    _check_key(key)
    return _with_option(spec, key, value)


def _check_key(key: str) -> None:
    if key not in config_keys() and "." not in key:
        own = (*TEXTS, "expects_divergence", "ablations", "seeds")
        analysis = [f"analysis.exclude.{field}" for field in Exclude.model_fields]
        analysis.append("analysis.matrix_epochs")
        near = get_close_matches(key, [*config_keys(), *own, *analysis])
        known = near or sorted({name for name in (*config_keys(), *own) if "." not in name})
        raise UserError(f"{WHERE}: unknown key '{key}'; {nearest(key, known)}")
    check_key(key, WHERE)


def _with_flag(spec: SweepSpec, value: Any) -> SweepSpec:
    if not isinstance(value, bool):
        raise UserError(f"{WHERE}: expects_divergence: true or false, not {value!r}")
    return spec.model_copy(update={"expects_divergence": value})


def _select(spec: SweepSpec, value: Any) -> SweepSpec:
    labels = value if isinstance(value, list) else [value]
    for label in labels:
        if label not in spec.ablations:
            raise UserError(
                f"{WHERE}: unknown ablation '{label}'; {nearest(str(label), spec.ablations)}"
            )
    chosen = {label: a for label, a in spec.ablations.items() if label in labels}
    if not chosen:
        raise UserError(f"{WHERE}: ablations: name at least one of {', '.join(spec.ablations)}")
    return spec.model_copy(update={"ablations": chosen})


def _with_analysis(spec: SweepSpec, key: str, value: Any) -> SweepSpec:
    """Over the sweep's analysis options and over those that an ablation has of its own."""

    def changed(analysis: Analysis) -> Analysis:
        values = merge(analysis.model_dump(exclude_defaults=True), nest({key: value}))
        return build(Analysis, values, "analysis")

    try:
        ablations = {
            label: a.model_copy(update={"analysis": changed(a.analysis)}) if a.analysis else a
            for label, a in spec.ablations.items()
        }
        update = {"analysis": changed(spec.analysis), "ablations": ablations}
    except UserError as error:
        raise UserError(f"{WHERE}: {error}") from None
    return spec.model_copy(update=update)


def _seed_name(key: str) -> str | None:
    if key in ("seed", "seeds"):
        return "seed"
    name = key.removeprefix("seeds.")
    return name if key.startswith("seeds.") and name in SEED_NAMES else None


def _with_seeds(spec: SweepSpec, name: str, value: Any) -> SweepSpec:
    """Replaces that seed axis where it is; a named seed that nothing has becomes an axis."""
    try:
        axes = seed_axes({name: value if isinstance(value, list) else [value]})
    except UserError as error:
        raise UserError(f"{WHERE}: {error}") from None
    holders = {label for label, a in spec.ablations.items() if a.seeds and name in a.seeds}
    ablations = {
        label: a.model_copy(update={"seeds": {**(a.seeds or {}), **axes}})
        if label in holders
        else a
        for label, a in spec.ablations.items()
    }
    update: dict[str, Any] = {"ablations": ablations}
    if name in spec.seeds or name == "seed" or not holders:
        update["seeds"] = {**spec.seeds, **axes}
    return spec.model_copy(update=update)


def _with_option(spec: SweepSpec, key: str, value: Any) -> SweepSpec:
    holders = {label for label, a in spec.ablations.items() if _has_axis(a, key)}
    levels = _levels(key, value)
    if levels is not None:
        chosen = holders or set(spec.ablations)
        update = {
            n: _with_axis(n, a, key, levels) for n, a in spec.ablations.items() if n in chosen
        }
        return spec.model_copy(update={"ablations": {**spec.ablations, **update}})
    ablations = {
        label: _with_axis(label, a, key, [value])
        if label in holders
        else _fixed(a, key, value, everywhere=bool(holders))
        for label, a in spec.ablations.items()
    }
    base = spec.base if holders else complete(merge(spec.base, nest({key: value})))
    return spec.model_copy(update={"base": base, "ablations": ablations})


def _levels(key: str, value: Any) -> list[Any] | None:
    """The levels of an axis, or None where the value is a single one."""
    if not isinstance(value, list):
        return None
    if config_keys()[key] and not any(isinstance(item, list) for item in value):
        return None
    if not value:
        raise UserError(f"{WHERE}: {key}: an empty axis has no runs; give it at least one value")
    return value


def _root(key: str) -> str:
    """What an axis is about: optimizer.name and optimizer, budget.steps and budget.epochs."""
    if head(key) == EXCLUSIVE:
        return EXCLUSIVE
    return key.removesuffix(".name") if key.endswith(".name") else key.removesuffix(".base")


def _has_axis(ablation: Ablation, key: str) -> bool:
    keys = [*ablation.grid, *(k for case in ablation.cases for k in case)]
    return any(_root(k) == _root(key) for k in keys)


def _with_axis(label: str, ablation: Ablation, key: str, levels: list[Any]) -> Ablation:
    """That ablation with these levels on the axis; a level that it has keeps its own options."""
    grid: Tree = {}
    for existing, old in ablation.grid.items():
        if _root(existing) == _root(key):
            name = key if head(key) == EXCLUSIVE else existing
            grid[name] = [_matching(level, old) for level in levels]
        else:
            grid[existing] = old
    cases = ablation.cases
    if any(_root(k) == _root(key) for case in cases for k in case):
        cases = _matching_cases(label, cases, key, levels)
    elif not _has_axis(ablation, key):
        grid[key] = levels
    return ablation.model_copy(update={"grid": grid, "cases": cases})


def _matching(level: Any, old: list[Any]) -> Any:
    return next((known for known in old if _same(known, level)), level)


def _same(known: Any, level: Any) -> bool:
    return known == level or (isinstance(known, Mapping) and known.get("name") == level)


def _matching_cases(
    label: str, cases: list[dict[str, Any]], key: str, levels: list[Any]
) -> list[dict[str, Any]]:
    found = [
        case
        for case in cases
        if any(
            _same(value, level)
            for name, value in case.items()
            if _root(name) == _root(key)
            for level in levels
        )
    ]
    if not found:
        known = [v for case in cases for name, v in case.items() if _root(name) == _root(key)]
        raise UserError(
            f"{WHERE}: {key}: ablation {label} has no case with {levels}; its cases have {known}"
        )
    return found


def _fixed(ablation: Ablation, key: str, value: Any, *, everywhere: bool) -> Ablation:
    """The value wins over what the ablation sets and over the options of its levels and cases.

    `everywhere`: also where the ablation does not set it, since the base stays as it is.
    """
    fixed = nest(ablation.set)
    if everywhere or head(key) in fixed:
        fixed = merge(fixed, nest({key: value}))
    grid = {
        axis: [_over_level(axis, level, key, value) for level in levels]
        for axis, levels in ablation.grid.items()
    }
    cases = [
        {axis: _over_level(axis, level, key, value) for axis, level in case.items()}
        for case in ablation.cases
    ]
    return ablation.model_copy(update={"set": fixed, "grid": grid, "cases": cases})


def _over_level(axis: str, level: Any, key: str, value: Any) -> Any:
    rest = key.removeprefix(f"{axis}.")
    return level if rest == key else merge(level, nest({rest: value}))


def _check(spec: SweepSpec) -> None:
    """Refuse a wrong value at once, while it is known that the command line said it."""
    try:
        RunConfig.parse(complete(spec.base))
        SweepSpec.model_validate({**spec.plain(), "source": spec.source})
    except UserError as error:
        raise UserError(f"{WHERE}: {error}") from None
