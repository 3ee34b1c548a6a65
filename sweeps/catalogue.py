"""From the name of a preset or file to a resolved spec: inheritance, variant, scale, overrides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeps.keys import check_tree, complete
from sweeps.overrides import apply_overrides
from sweeps.spec import Ablation, Analysis, Overlay, SweepFile, SweepSpec, Variant, seed_axes
from sweeps.tree import Tree, merge, nest, without_nulls
from sweeps.yamlfile import read_yaml
from trainables.config import RunConfig
from trainables.errors import UserError, nearest
from trainables.registry import build
from trainables.tasks.contract import TaskConfig, better

PRESETS = Path(__file__).parent / "presets"
"""The presets; a name that begins with _ is for `extends` only."""

FULL = "full"
"""The scale that changes nothing."""

SINGLE = "main"
"""Label of the ablation of a sweep that is written without `ablations`."""


OVERLAYS = ("scales", "variants")


@dataclass(frozen=True)
class Preset:
    """One line of `optpath list`."""

    name: str
    title: str
    question: str
    figure: str
    scales: tuple[str, ...]
    variants: dict[str, str]
    """Name -> title and source."""


def preset_names() -> list[str]:
    """Names of the presets."""
    return sorted(p.stem for p in PRESETS.glob("*.yaml") if not p.stem.startswith("_"))


def describe(sweep: str) -> Preset:
    """What a preset or file offers; raises UserError as `load_spec` does."""
    path = find(sweep)
    raw = _inherited(path, ())
    variants = {
        name: f"{variant.get('title', '')} ({variant.get('source', 'ours')})"
        for name, variant in raw.get("variants", {}).items()
    }
    return Preset(
        name=raw["name"],
        title=str(raw.get("title") or raw["name"]),
        question=raw.get("question", ""),
        figure=raw.get("figure", ""),
        scales=(FULL, *(name for name in raw.get("scales", {}) if name != FULL)),
        variants=variants,
    )


def load_spec(
    sweep: str,
    overrides: Sequence[str] = (),
    *,
    scale: str = FULL,
    variant: str | None = None,
    over: Path | None = None,
) -> SweepSpec:
    """The resolved spec of a preset or a YAML file.

    base <- variant <- scale <- what the variant changes in that scale <- the base of the file
    `over`, which `optpath tune` writes <- overrides (key=value).

    Raises:
        UserError: one line; an unknown preset, scale, variant or key names the nearest, what does
            not parse or validate says where (file and line or key, or the command line).
    """
    path = find(sweep)
    raw = _inherited(path, ())
    spec = _resolve(raw, str(path), scale, variant)
    if over is not None:
        with placed(f"{over}: "):
            base = complete(merge(spec.base, _tuned_base(over)))
            RunConfig.parse(base)
        spec = spec.model_copy(update={"base": base})
    return apply_overrides(spec, overrides)


def _tuned_base(path: Path) -> Tree:
    if not path.is_file():
        raise UserError("no such file; optpath tune writes one")
    values = read_yaml(path)
    if set(values) != {"base"} or not isinstance(values["base"], Mapping):
        raise UserError("holds one key, `base`, with options of a run; optpath tune writes it so")
    check_tree(values["base"], "base")
    return nest(values["base"])


def find(sweep: str, beside: Path | None = None) -> Path:
    """The file of a preset, or a file as it stands; `beside`: the folder paths are relative to.

    Raises:
        UserError: no such preset (lists the near ones) or file.
    """
    if is_file(sweep):
        path = (beside or Path()) / sweep
        if not path.is_file():
            raise UserError(f"{path}: no such file; presets are listed by: optpath list")
        return path
    path = PRESETS / f"{sweep}.yaml"
    if not path.is_file():
        raise UserError(
            f"unknown preset '{sweep}'; {nearest(sweep, preset_names())}"
            " (a file's name ends in .yaml)"
        )
    return path


def is_file(sweep: str) -> bool:
    """True if a sweep's name is that of a file, not of a preset."""
    return sweep.endswith((".yaml", ".yml")) or "/" in sweep


def _inherited(path: Path, seen: tuple[Path, ...]) -> Tree:
    path = path.resolve()
    if path in seen:
        chain = " -> ".join(p.name for p in (*seen, path))
        raise UserError(f"{path}: extends itself ({chain}); remove one `extends`")
    raw = _canonical(read_yaml(path), path)
    parent = raw.pop("extends", None)
    name = raw.pop("name", path.stem)
    if parent is not None:
        with placed(f"{path}: extends: "):
            parent_path = find(parent, path.parent)
        raw = _extended(_inherited(parent_path, (*seen, path)), raw)
    else:
        raw["base"] = complete(raw.get("base") or {})
    return {**raw, "name": name}


def _extended(parent: Tree, child: Tree) -> Tree:
    """A file over the one that it extends; scales and variants stay overlays, nulls and all."""
    raw = _lay(parent, {k: v for k, v in child.items() if k not in OVERLAYS})
    for kind in OVERLAYS:
        raw[kind] = merge(parent[kind], child[kind], keep_nulls=True)
    return raw


def _canonical(values: Mapping[str, Any], path: Path) -> Tree:
    """A file's content, checked key by key, in the one form that merges: nested, labelled."""
    with placed(f"{path}: "):
        raw = dict(values)
        single = {key: raw.pop(key) for key in ("set", "grid", "cases") if key in raw}
        if single and raw.get("ablations"):
            key = next(iter(single))
            raise UserError(f"{key}: belongs inside one of the ablations: ablations.<label>.{key}")
        if single:
            raw["ablations"] = {SINGLE: single}
        raw = _canonical_overlay(raw, SweepFile, "")
        raw["scales"] = _canonical_overlays(raw.get("scales"), Overlay, "scales")
        raw["variants"] = _canonical_overlays(raw.get("variants"), Variant, "variants")
    return raw


def _canonical_overlays(
    overlays: Mapping[str, Any] | None, kind: type[Overlay], where: str
) -> Tree:
    canonical: Tree = {}
    for name, written in (overlays or {}).items():
        place, values = f"{where}.{name}.", written or {}
        overlay = _canonical_overlay(values, kind, place)
        if kind is Variant:
            overlay["scales"] = _canonical_overlays(values.get("scales"), Overlay, f"{place}scales")
        canonical[name] = overlay
    return canonical


def _canonical_overlay(values: Mapping[str, Any], kind: type[Overlay], where: str) -> Tree:
    with placed(where):
        build(kind, without_nulls(values), "")
        raw = dict(values)
        if raw.get("base"):
            check_tree(raw["base"], "base")
            raw["base"] = nest(raw["base"])
        if raw.get("seeds") is not None:
            raw["seeds"] = seed_axes(raw["seeds"])
        with placed("analysis."):
            build(Analysis, without_nulls(raw.get("analysis") or {}), "")
        raw["ablations"] = {
            label: _canonical_ablation(ablation, f"ablations.{label}.")
            for label, ablation in (raw.get("ablations") or {}).items()
        }
    return raw


def _canonical_ablation(values: Mapping[str, Any] | None, where: str) -> Tree | None:
    if values is None:
        return None
    with placed(where):
        build(Ablation, without_nulls(values), "")
    raw = dict(values)
    if raw.get("set"):
        raw["set"] = nest(raw["set"])
    if raw.get("seeds") is not None:
        raw["seeds"] = seed_axes(raw["seeds"])
    return raw


def _lay(raw: Tree, overlay: Mapping[str, Any]) -> Tree:
    """An overlay over a sweep. Seed axes replace each other: named seeds are not crossed."""
    overlay = dict(overlay)
    raw = dict(raw)
    if overlay.get("seeds") is not None:
        raw.pop("seeds", None)
    ablations = dict(raw.get("ablations") or {})
    for label, ablation in (overlay.get("ablations") or {}).items():
        if ablation is not None and ablation.get("seeds") is not None and label in ablations:
            ablations[label] = {k: v for k, v in ablations[label].items() if k != "seeds"}
    merged: Tree = merge({**raw, "ablations": ablations}, overlay)
    return merged


def _resolve(raw: Tree, source: str, scale: str, variant: str | None) -> SweepSpec:
    scales, variants = raw.pop("scales", {}), raw.pop("variants", {})
    if scale != FULL and scale not in scales:
        raise UserError(f"{source}: unknown scale '{scale}'; {nearest(scale, [FULL, *scales])}")
    if variant is not None and variant not in variants:
        raise UserError(f"{source}: unknown variant '{variant}'; {_known(variant, variants)}")
    layers: list[tuple[str, Mapping[str, Any]]] = []
    if variant is not None:
        layers.append((f"variant {variant}", variants[variant]))
    layers.append((f"{scale} scale" if scale != FULL else "", scales.get(scale, {})))
    if variant is not None:
        layers.append(("", variants[variant].get("scales", {}).get(scale, {})))
    for label, layer in layers:
        raw = _with_layer(raw, label, layer, source)
    return _finish({**raw, "name": full_name(raw["name"], scale, variant)}, source)


def full_name(name: str, scale: str = FULL, variant: str | None = None) -> str:
    """The name under which a sweep is stored in that scale and variant: name-scale+variant."""
    return name + ("" if scale == FULL else f"-{scale}") + (f"+{variant}" if variant else "")


def _known(variant: str, variants: Mapping[str, Any]) -> str:
    return nearest(variant, variants) if variants else "this sweep has no variants"


def _with_layer(raw: Tree, label: str, layer: Mapping[str, Any], source: str) -> Tree:
    changes = {
        key: value
        for key, value in layer.items()
        if key not in ("title", "description", "source", "scales")
    }
    for ablation in changes.get("ablations") or {}:
        if ablation not in raw.get("ablations", {}):
            hint = nearest(ablation, raw.get("ablations", {}))
            raise UserError(f"{source}: {label}: unknown ablation '{ablation}'; {hint}")
    laid = _lay(raw, changes)
    if label:
        words = f"{label}: {layer['title']}" if layer.get("title") else label
        laid["title"] = f"{raw.get('title') or raw['name']} ({words})"
    told = [raw.get("description", ""), layer.get("description", ""), layer.get("source", "")]
    laid["description"] = " ".join(text for text in told if text)
    return laid


def _finish(raw: Tree, source: str) -> SweepSpec:
    values = without_nulls(raw)
    values.pop("extends", None)
    values["base"] = complete(values.get("base", {}))
    with placed(f"{source}: base: "):
        task = RunConfig.parse(values["base"]).task
    values["tuning"] = _judged(task, values.get("tuning", {}))
    values["seeds"] = values.get("seeds") or {"seed": [values["base"].get("seed", 0)]}
    values["title"] = values.get("title") or values["name"]
    values["ablations"] = values.get("ablations") or {SINGLE: {}}
    with placed(f"{source}: "):
        return build(SweepSpec, {**values, "source": source}, "")


def _judged(task: TaskConfig, tuning: Tree) -> Tree:
    """The tuning options with a metric, by default the task's, and the direction it goes with."""
    metric = tuning.get("metric", task.choice()["metric"])
    return {"metric": metric, "mode": better(str(metric)), **tuning}


@contextmanager
def placed(where: str) -> Iterator[None]:
    """Put the place before the message of a UserError that passes."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{where}{error}") from None
