"""The report's trends: along every numeric axis, per window, over two axes, and what matters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.cells import STRAIGHTNESS, THREE_TIMES, Ablation, short_name
from analysis.comparison import level_table
from analysis.importance import importance_table
from analysis.mixed import mixed_table
from analysis.pairs import pair_table
from analysis.trends import trend_table, window_table

NAMED = 3
"""Left-out cells that stand beside a number; the rest are counted, and stand in summary.json."""


@dataclass(frozen=True)
class Table:
    """A table for the report: column names and rows of text."""

    columns: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Section:
    """A titled table of the report, with a sentence on how to read it."""

    title: str
    about: str
    table: Table


@dataclass(frozen=True)
class Trends:
    """Every table about trends of a sweep, by name; `sections` is what the report shows of them."""

    tables: dict[str, pd.DataFrame]
    sections: list[Section]


def trends_of(ablations: Sequence[Ablation]) -> Trends:
    """The trends of a sweep, made once for the report and for summary.json."""
    tables = {
        "trends": trend_table(ablations),
        "windows": window_table(ablations),
        "pairs": pair_table(ablations),
        "mixed": mixed_table(ablations),
        "importance": importance_table(ablations),
        "straightness": straightness_table(ablations),
    }
    sections = [
        Section(title, about, show(tables[name]))
        for name, (title, about, show) in SECTIONS.items()
        if len(tables[name])
    ]
    return Trends(tables, sections)


def straightness_table(ablations: Iterable[Ablation]) -> pd.DataFrame:
    """`level_table` of the straightness exponents: own, the null's, and that of their ratio.

    See `analysis.reductions.straightness`.
    """
    known = [a for a in ablations if a.cells["straightness"].notna().any()]
    tables = [level_table(ablation, list(STRAIGHTNESS)) for ablation in known]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _trends(table: pd.DataFrame) -> Table:
    rows = [
        [
            _place(row),
            short_name(row["axis"]),
            row["quantity"],
            _interval(row, "exponent", "low", "high"),
            _interval(row, "factor", "factor_low", "factor_high"),
            _interval(row, "rank", "rank_low", "rank_high"),
            row["method"],
            _said(row["notes"], row["excluded"]),
        ]
        for row in table.to_dict("records")
    ]
    names = ["ablation", "along", "quantity", "exponent", "factor over the range", "rank"]
    return Table([*names, "interval", "said beside it"], rows)


def _windows(table: pd.DataFrame) -> Table:
    shown = table[table["measure"].isin(THREE_TIMES)]
    windows = list(dict.fromkeys(shown["window"]))
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    for row in shown.to_dict("records"):
        key = (_place(row), short_name(row["axis"]), row["quantity"])
        rows.setdefault(key, {})[row["window"]] = _interval(row, "exponent", "low", "high")
    texts = [[*key, *(cells.get(name, "") for name in windows)] for key, cells in rows.items()]
    return Table(["ablation", "along", "quantity", *windows], texts)


def _pairs(table: pd.DataFrame) -> Table:
    rows = [
        [
            _place(row),
            row["quantity"],
            short_name(row["axis"]),
            _interval(row, "exponent", "low", "high"),
            _number(row["r_squared"]),
            _said(row["notes"], row["excluded"]),
        ]
        for row in table[table["measure"].isin(THREE_TIMES)].to_dict("records")
    ]
    return Table(["ablation", "quantity", "axis", "exponent", "R^2", "said beside it"], rows)


def _mixed(table: pd.DataFrame) -> Table:
    rows = [
        [
            row["ablation"],
            short_name(row["axis"]),
            row["quantity"],
            _interval(row, "exponent", "low", "high"),
            _number(row["seed_sd"]),
            _number(row["residual_sd"]),
            f"{row['num_runs']} runs, {row['num_seeds']} seeds",
            row["notes"],
        ]
        for row in table.to_dict("records")
    ]
    names = ["ablation", "along", "quantity", "exponent", "sd between seeds", "sd of the rest"]
    return Table([*names, "of", "said beside it"], rows)


def _importance(table: pd.DataFrame) -> Table:
    rows = [
        [
            row["ablation"],
            row["quantity"],
            " x ".join(short_name(name) for name in row["factor"].split(" x ")),
            _number(row["eta_squared"]),
            _number(row["omega_squared"]),
            _number(row["p_value"]),
            row["notes"],
        ]
        for row in table.to_dict("records")
    ]
    names = ["ablation", "quantity", "factor", "share (eta^2)", "omega^2", "p"]
    return Table([*names, "said beside it"], rows)


def _straightness(table: pd.DataFrame) -> Table:
    rows = [
        [
            _place(row),
            _number(row["level"]),
            str(row["num_runs"]),
            *(_interval(row, name, f"{name}_low", f"{name}_high") for name in STRAIGHTNESS),
        ]
        for row in table.to_dict("records")
    ]
    return Table(["ablation", "level", "runs", "exponent", "the null's", "over the null"], rows)


SECTIONS: dict[str, tuple[str, str, Callable[[pd.DataFrame], Table]]] = {
    "trends": (
        "Trends",
        "Exponents a of value ~ x^a over the means of the kept steps, along every numeric axis x: "
        "raw, the null model's own, and raw over null. The null (aware) knows the step sizes, "
        "gradient norms and momentum of the run; the closed form is (T - t)^(-1/2). Gamma / null "
        "is the ratio of the two means, so exponents add up. The factor is the effect of going "
        "from the smallest to the largest level; the rank is Spearman's rho. Intervals: 95 %.",
        _trends,
    ),
    "windows": (
        "Trends along training",
        "The same exponents for each fifth of the run, kept steps only.",
        _windows,
    ),
    "pairs": (
        "Two axes at once",
        "Exponents a and b of value ~ x^a z^b, fitted together for every seed.",
        _pairs,
    ),
    "mixed": (
        "One exponent over all groups",
        "A mixed model in the logarithms: the exponent is shared by the groups of the other axes, "
        "and intercept and exponent vary at random with the seed. What all seeds deviate from the "
        "power law together counts as noise here.",
        _mixed,
    ),
    "importance": (
        "What matters",
        "Analysis of variance of the logarithm: the share of the variance that goes with each "
        "factor (eta^2), and the same without what chance alone would give (omega^2).",
        _importance,
    ),
    "straightness": (
        "Straightness",
        "The exponent of the squared distance ||w_t - w*||^2 in T - t: 1 is a random walk "
        "(diffusive), 2 a straight road at constant pace (ballistic).",
        _straightness,
    ),
}
"""Name of the table: title, how to read it, and its text."""


def _place(row: Mapping[Any, Any]) -> str:
    return " ".join(text for text in (row["ablation"], row["group"]) if text)


def _interval(row: Mapping[Any, Any], mean: str, low: str, high: str) -> str:
    if pd.isna(row[mean]):
        return "undefined"
    # Adding 0.0 turns a rounded -0.0 into 0.0.
    ends = [] if pd.isna(row[low]) else [round(row[end], 3) + 0.0 for end in (low, high)]
    interval = f" [{ends[0]:.3f}, {ends[1]:.3f}]" if ends else ""
    return f"{round(row[mean], 3) + 0.0:.3f}{interval}"


def _number(value: Any) -> str:
    if pd.isna(value):
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _said(notes: str, excluded: str) -> str:
    left_out = excluded.split("; ") if excluded else []
    more = [f"and {len(left_out) - NAMED} more left out"] if len(left_out) > NAMED else []
    return "; ".join([*([notes] if notes else []), *left_out[:NAMED], *more])
