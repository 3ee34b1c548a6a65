"""Loss, learning rate and final accuracy of schedules (P2 figure 10 and Table 1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.cells import Ablation
from analysis.figures.contract import FigureKind
from analysis.figures.style import level_colours, log_axis, name_axes, stacked_grid
from analysis.figures.trajectories import course_of, shown_runs
from analysis.runs import Sweep

COLUMNS = ("ablation", "title", "part", "x", "value")
CURVES = {"loss": "training loss", "learning_rate": "learning rate"}
ACCURACIES = ("test_accuracy", "last_validation_accuracy")
"""What is shown as the final model's accuracy, the first that the runs have: with all training
images in use the validation images are the test images."""
LEGEND_COLUMNS = 2


def schedules_of(sweep: Sweep, ablations: Sequence[Ablation]) -> pd.DataFrame:
    """Curves and accuracies of the ablations that compare schedules, one row per point, COLUMNS.

    part `loss`, `learning_rate`: the first seed's value at step x; part `change`: the learning rate
    at its change point x; part `accuracy`: that of the final model, a row per seed, x the seed's
    place. Settings without a finished run are not there.
    """
    compared = [a for a in ablations if any(x.startswith("schedule") for x in a.axes)]
    found = [rows for ablation in compared for rows in _ablation_rows(sweep, ablation)]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=list(COLUMNS))


def draw_schedules(table: pd.DataFrame) -> Figure:
    """Per ablation three panels, one above the other."""
    stacks = list(table.groupby("ablation", sort=False))
    colours = level_colours(list(dict.fromkeys(table["title"])))
    layout, panels = stacked_grid(len(stacks), len(CURVES) + 1)
    for stack, (ablation, rows) in zip(panels, stacks, strict=True):
        *curves, last = stack
        for axes, (part, name) in zip(curves, CURVES.items(), strict=True):
            for title, course in rows[rows["part"] == part].groupby("title", sort=False):
                axes.plot(course["x"], course["value"], color=colours[title])
            name_axes(axes, str(ablation) if part == "loss" else "", "step (from 0)", name)
        for title, change in rows[rows["part"] == "change"].groupby("title", sort=False):
            curves[1].plot(change["x"], change["value"], "o", color=colours[title], markersize=4)
        for axes in curves:
            log_axis(axes)
        _accuracies(last, rows[rows["part"] == "accuracy"], colours)
    layout.legend([Line2D([], [], color=c, label=t) for t, c in colours.items()], LEGEND_COLUMNS)
    return layout.figure


SCHEDULES = FigureKind(
    name="schedules",
    meaning="training loss and learning rate of each schedule (first seed; a dot where the warm-up "
    "ended), and the accuracy of the final model, a point per seed and a bar at their mean",
    table=schedules_of,
    draw=draw_schedules,
    paper=("P2 10", "P2 Table 1"),
)


def _ablation_rows(sweep: Sweep, ablation: Ablation) -> list[pd.DataFrame]:
    found = []
    runs = sweep.runs.set_index("run_id")
    accuracy = next((name for name in ACCURACIES if name in runs), None)
    for run in shown_runs([ablation]):
        course = course_of(sweep, run, list(CURVES))
        if course is None:
            continue
        rows = course.assign(x=run.length.steps_at(course["x"])).melt("x", var_name="part")
        parts = [rows, _change(runs.loc[[run.run_id]].iloc[0])]
        if accuracy is not None:
            same = ablation.cells[list(ablation.axes)].fillna("-").astype(str).agg(tuple, axis=1)
            own = ablation.cells[same == same[ablation.cells["run_id"] == run.run_id].iloc[0]]
            values = runs.loc[own["run_id"], accuracy].to_numpy(float)
            place = np.arange(len(values), dtype=float)
            parts.append(pd.DataFrame({"part": "accuracy", "x": place, "value": values}))
        about = {"ablation": ablation.label, "title": run.title}
        found.append(pd.concat([p for p in parts if len(p)]).assign(**about)[list(COLUMNS)])
    return found


def _change(run: pd.Series) -> pd.DataFrame:
    step = run.get("schedule_change_step")
    if step is None or pd.isna(step):
        return pd.DataFrame()
    peak = float(run["schedule_peak_learning_rate"])
    return pd.DataFrame({"part": ["change"], "x": [float(step)], "value": [peak]})


def _accuracies(axes: Axes, rows: pd.DataFrame, colours: dict[str, str]) -> None:
    titles = list(dict.fromkeys(rows["title"]))
    for place, title in enumerate(titles):
        values = rows.loc[rows["title"] == title, "value"].to_numpy(float)
        axes.bar(place, np.nanmean(values), color=colours[title], alpha=0.35)
        axes.plot(np.full(len(values), place), values, "o", color=colours[title], markersize=3)
    name_axes(axes, "", "in the order of the legend", "final accuracy")
    axes.set_xticks([])
