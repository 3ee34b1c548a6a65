"""The report's tables as text: levels, best settings, runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from analysis.cells import Ablation, short_name, worded
from analysis.comparison import judged_by, level_table, optimizer_axis, select_best
from analysis.runs import Sweep
from analysis.trend_report import Section, Table
from analysis.verdicts import Verdict

TINY = 1e-12
"""Below this a number is rounding's: zero, in a table for people; ours."""


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as plain values."""
    # JSON knows no NaN: what is undefined becomes null.
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    return [{str(key): _plain(value) for key, value in row.items()} for row in rows]


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def levels_shown(ablation: Ablation) -> Table:
    """Every level of an ablation: runs, gamma, null and their ratio, with intervals."""
    axis = "setting" if ablation.compared is None else short_name(ablation.compared)
    columns = [f"{ablation.label}: {axis}", "other axes", "runs", "gamma", "null", "gamma / null"]
    rows = [
        [
            str(row["level"]),
            row["group"],
            str(row["num_runs"]),
            *(
                f"{number(row[m])} {_interval(row[f'{m}_low'], row[f'{m}_high'])}".strip()
                for m in ("gamma", "null_gamma", "gamma_over_null")
            ),
        ]
        for row in records(level_table(ablation))
    ]
    return Table(columns, rows)


def best_shown(sweep: Sweep, ablation: Ablation) -> Section | None:
    """The best setting per optimizer, and by what; None where there is no choice of rates."""
    per = optimizer_axis(ablation)
    best = None if per is None else select_best(sweep, ablation, per)
    if best is None or best.empty:
        return None
    metric, mode = judged_by(sweep, ablation)
    about = f"{ablation.label}: {_EXTREME[mode]} {short_name(metric)}, mean over the seeds."
    worded_axes = {axis: best[axis].map(worded, na_action=None) for axis in ablation.axes}
    best = best.assign(**worded_axes)
    table = Table([short_name(str(c)) for c in best.columns], _text_rows(best))
    return Section("Best setting per optimizer", about, table)


_EXTREME = {"max": "highest", "min": "lowest"}


def runs_shown(sweep: Sweep, ablations: Sequence[Ablation]) -> Table:
    """Every planned run; the first column is its id."""
    shown = runs_table(sweep, ablations).dropna(axis=1, how="all")
    return Table([short_name(str(c)) for c in shown.columns], _text_rows(shown))


def runs_table(sweep: Sweep, ablations: Sequence[Ablation]) -> pd.DataFrame:
    """The runs table with the mean gamma of each ablation."""
    runs = sweep.runs.drop(columns=["trajectory_id"])
    for ablation in ablations:
        means = ablation.cells.set_index("run_id").get("gamma")
        if means is not None:
            runs[f"mean gamma, {ablation.label}"] = runs["run_id"].map(means)
    return runs


def verdicts_table(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """One row per verdict."""
    columns = ["id", "claim", "scope", "verdict", "why", "evidence", "source"]
    rows = [[v.id, v.claim, v.scope, str(v.word), v.why, v.evidence, v.source] for v in verdicts]
    return pd.DataFrame(rows, columns=columns)


def singles_shown(verdicts: Sequence[Verdict]) -> Table:
    """The verdicts on the runs by themselves, with their numbers."""
    singles = [verdict for verdict in verdicts if not verdict.compares]
    rows = [[v.id, v.claim, v.scope, str(v.word), v.why, v.evidence] for v in singles]
    return Table(["id", "claim", "of", "verdict", "because", "numbers"], rows)


def _text_rows(table: pd.DataFrame) -> list[list[str]]:
    return [[number(value) for value in row.values()] for row in records(table)]


def number(value: Any) -> str:
    """A number for people: four digits; rounding errors are zero; nothing where undefined."""
    if value is None:
        return ""
    if not isinstance(value, float):
        return str(value)
    return "0" if abs(value) < TINY else f"{value:.4g}"


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"[{low:.3g}, {high:.3g}]"
