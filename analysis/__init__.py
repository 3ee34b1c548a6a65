"""From runs to conclusions: tidy tables, trends, figures, the report."""

from analysis.report import Report, write_report
from analysis.runs import Sweep, export_table, load_sweep
from analysis.trends import PowerLaw, fit_power_law

__all__ = [
    "PowerLaw",
    "Report",
    "Sweep",
    "export_table",
    "fit_power_law",
    "load_sweep",
    "write_report",
]
