"""From runs to conclusions: tidy tables, trends, figures, the report.

from analysis import load_sweep, fit_power_law, compare, verdicts, figure

sweep = load_sweep("quickstart")     # .runs, .epochs, .steps(), .columns (units, meanings)
ablations = ablations_of(sweep)      # .cells: one row per run, level, seed, means and nulls
trend_table(ablations)               # exponents, slopes and ranks along every numeric axis
"""

from analysis.cells import Ablation, ablations_of
from analysis.conclusions import figure
from analysis.export import export_table, write_frame
from analysis.fits import PowerLaw, fit_line, fit_power_law, rank_correlation
from analysis.importance import importance_table
from analysis.mixed import fit_mixed, mixed_table
from analysis.moved import Moved, compare
from analysis.pairs import fit_plane, pair_table
from analysis.report import Report, write_report
from analysis.runs import Sweep, load_sweep
from analysis.trends import trend_table, window_table

# The function takes the place of the module of that name, which the lines above have imported.
from analysis.conclusions import verdicts  # isort: skip

__all__ = [
    "Ablation",
    "Moved",
    "PowerLaw",
    "Report",
    "Sweep",
    "ablations_of",
    "compare",
    "export_table",
    "figure",
    "fit_line",
    "fit_mixed",
    "fit_plane",
    "fit_power_law",
    "importance_table",
    "load_sweep",
    "mixed_table",
    "pair_table",
    "rank_correlation",
    "trend_table",
    "verdicts",
    "window_table",
    "write_frame",
    "write_report",
]
