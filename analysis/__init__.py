"""From runs to conclusions: tidy tables, trends, figures, the report."""

from analysis.runs import Sweep, load_sweep
from analysis.trends import PowerLaw, fit_power_law

__all__ = ["PowerLaw", "Sweep", "fit_power_law", "load_sweep"]
