"""Level sets of the loss in the plane of two weights, with the path (P1 figures 14, 15)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.cells import Ablation
from analysis.figures.contract import FigureKind
from analysis.figures.style import CATEGORIES, grid, name_axes
from analysis.runs import Sweep

NUM_LEVELS = 16
"""Contour lines per panel, at even shares of the grid's losses; ours."""
MAX_PANELS = 6
"""Runs drawn, the first of the sweep; ours."""

COLUMNS = ("run_id", "title", "part", "x", "y", "value")


def level_sets_of(sweep: Sweep, ablations: Sequence[Ablation]) -> pd.DataFrame:
    """Grid and path of each run that has both, in COLUMNS.

    part `level`: a point of the grid, value its loss; part `path`: w_t's two coordinates, value t.
    """
    rows: list[pd.DataFrame] = []
    titles = _titles(ablations)
    for run_id in sweep.usable["run_id"]:
        levels = sweep.source.table(run_id, "level_sets", ["label", "level"])
        if levels is None or len({r["run_id"].iloc[0] for r in rows}) == MAX_PANELS:
            continue
        place = levels["label"].str.split(" ", expand=True).astype(float)
        level = pd.DataFrame({"x": place[0], "y": place[1], "value": levels["level"]})
        rows.append(level.assign(part="level", run_id=run_id, title=titles.get(run_id, run_id)))
        path = sweep.source.table(run_id, "steps", ["step", "first_weight", "second_weight"])
        if path is not None and "first_weight" in path:
            named = path.rename(columns=dict(_PATH))[list(_PATH.values())]
            rows.append(named.assign(part="path", run_id=run_id, title=titles.get(run_id, run_id)))
    if not rows:
        return pd.DataFrame(columns=list(COLUMNS))
    return pd.concat(rows, ignore_index=True)[list(COLUMNS)]


_PATH = {"first_weight": "x", "second_weight": "y", "step": "value"}


def _titles(ablations: Sequence[Ablation]) -> dict[str, str]:
    titles: dict[str, str] = {}
    for ablation in ablations:
        for _, cell in ablation.cells.iterrows():
            words = f"{ablation.label}: {cell['level']}, seed {cell['seed']}"
            titles.setdefault(str(cell["run_id"]), words)
    return titles


def draw_level_sets(table: pd.DataFrame) -> Figure:
    """A panel per run: contour lines, the path from a circle to a star."""
    panels = list(table.groupby("run_id", sort=False))
    layout = grid(len(panels))
    for axes, (_, rows) in zip(layout.panels, panels, strict=True):
        levels = rows[rows["part"] == "level"].pivot(index="y", columns="x", values="value")
        heights = np.unique(np.nanquantile(levels, np.linspace(0, 1, NUM_LEVELS + 2)[1:-1]))
        if len(heights) > 1:
            axes.contour(
                levels.columns, levels.index, levels, heights, cmap="Greys", linewidths=0.6
            )
        path = rows[rows["part"] == "path"].sort_values("value")
        axes.plot(path["x"], path["y"], color=CATEGORIES[0], linewidth=0.8)
        axes.plot(path["x"].iloc[:1], path["y"].iloc[:1], "o", color=CATEGORIES[1], markersize=5)
        axes.plot(path["x"].iloc[-1:], path["y"].iloc[-1:], "*", color=CATEGORIES[1], markersize=8)
        points = rows.loc[rows["part"] == "level", ["x", "y"]].to_numpy(float)
        axes.set_xlim(points[:, 0].min(), points[:, 0].max())
        axes.set_ylim(points[:, 1].min(), points[:, 1].max())
        name_axes(axes, str(rows["title"].iloc[0]), "first weight", "second weight")
    layout.legend(_handles())
    return layout.figure


def _handles() -> list[Line2D]:
    path = Line2D([], [], color=CATEGORIES[0], label="path")
    marks = (("o", "w_0"), ("*", "last measured step"))
    return [path] + [
        Line2D([], [], color=CATEGORIES[1], marker=mark, linestyle="", label=label)
        for mark, label in marks
    ]


LEVEL_SETS = FigureKind(
    name="level_sets",
    meaning="level lines of the loss in the plane of two weights, all others those of w*, with the "
    "path drawn in; at most six runs",
    table=level_sets_of,
    draw=draw_level_sets,
    paper=("P1 14", "P1 15"),
)
