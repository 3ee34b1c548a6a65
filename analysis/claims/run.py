"""One run as a claim sees it: its kept steps as arrays, and the same run under the null model."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.claims.facts import Facts
from analysis.exclusion import rows_of

Array = NDArray[np.float64]
Statistic = Literal["mean", "std", "min", "max"]
"""std is that of the population."""

NULL_COLUMNS = {
    "gamma": "null_gamma",
    "rsi": "null_rsi",
    "error_bound": "null_error_bound",
    "local_lr": "null_local_lr",
    "distance": "null_distance",
}
"""Measured column of the steps table -> the null model's own."""
NULL_CORRELATION = 1e-3
"""Standard deviation of the correlation of unrelated gradients in a million dimensions; ours. To
rules with thresholds of .2 and more any value this small is the same."""
UNRELATED_DIMENSION = 1e6
"""Dimension of the null model's noise where no probe has measured it; ours, untuned."""


class ClaimRun:
    """A run's tables; `null()` is the same run with the null model's columns in their place.

    Under the null model gamma is null_gamma plus, where the effective dimension d of the gradient
    noise was measured, normal noise of variance 1/d: the closed forms are means over the noise.
    Held-out gradients and gradients of different steps are unrelated to anything; what the null
    model says nothing of (loss, accuracy) stays as it was measured.
    """

    def __init__(
        self,
        facts: Facts,
        steps: Mapping[str, Array],
        tables: Mapping[str, pd.DataFrame],
        kept: NDArray[np.bool_],
    ) -> None:
        self.facts = facts
        self.steps = steps
        self.tables = tables
        self.mask = kept
        self._at_kept: dict[str, Array] = {}
        self._epochs: dict[tuple[str, Statistic], Array] = {}

    def whole(self, name: str) -> Array:
        """A column at every step, kept or not."""
        return self.steps[name]

    def kept(self, name: str) -> Array:
        """A column at the kept steps, in order."""
        if name not in self._at_kept:
            self._at_kept[name] = self.steps[name][rows_of(self.mask)]
        return self._at_kept[name]

    @cached_property
    def kept_steps(self) -> NDArray[np.intp]:
        """The numbers of the kept steps."""
        return np.flatnonzero(self.mask)

    def by_epoch(self, name: str, how: Statistic = "mean") -> Array:
        """A statistic of the defined kept values of every kept epoch, NaN where there is none."""
        if (name, how) not in self._epochs:
            values = _by_group(self.kept(name), self._epoch_starts, how)
            values.flags.writeable = False
            self._epochs[name, how] = values
        return self._epochs[name, how]

    @cached_property
    def _epoch_starts(self) -> NDArray[np.intp]:
        """Where in the kept steps an epoch begins."""
        return np.flatnonzero(np.diff(self.facts.length.epochs_of(self.kept_steps), prepend=-1))

    @cached_property
    def kept_epochs(self) -> NDArray[np.intp]:
        """The numbers of the kept epochs."""
        return self.facts.length.epochs_of(self.kept_steps[self._epoch_starts])

    @cached_property
    def epoch_middles(self) -> Array:
        """The step at the middle of every kept epoch, as many steps after it begins as follow."""
        length = self.facts.length
        starts = np.array([length.start(int(epoch)) for epoch in self.kept_epochs], dtype=float)
        return starts + length.sizes[self.kept_epochs] / 2

    def middle(self, values: Array) -> Array:
        """Of one value per kept epoch those of epochs within 5 to 90 % of the run."""
        place = self.epoch_middles / self.facts.num_steps
        return values[(place > 0.05) & (place < 0.9)]

    def lagged(self, lag: int) -> Array:
        """mu(t - lag, t) at every step t, NaN where it is not known."""
        return self._labelled("correlation", "correlation", str(lag))

    def sign_shift(self, lag: int) -> Array:
        """Share of the entries of g_t whose sign is not that of g_{t-lag}, NaN if unknown [1]."""
        return self._labelled("sign_shift", "sign_shift", str(lag)) / 100

    def noise_dimension(self) -> float:
        """Median effective dimension of the gradient noise; NaN where it was not measured."""
        table = self.tables.get("probe_batches")
        if table is None or "effective_dimension" not in table.columns:
            return math.nan
        values = table["effective_dimension"].to_numpy(float)
        known = values[np.isfinite(values)]
        return float(np.median(known)) if len(known) else math.nan

    def null(self) -> ClaimRun:
        """The same run under the null model."""
        return _NullRun(self.facts, self._null_steps(), self._null_tables(), self.mask)

    def _labelled(self, table: str, column: str, label: str) -> Array:
        found = np.full(self.facts.num_steps, math.nan)
        rows = self.tables[table]
        if column in rows.columns:
            rows = rows[rows["label"].astype(str) == label]
            found[rows["step"].to_numpy(int)] = rows[column].to_numpy(float)
        return found

    def _draws(self) -> np.random.Generator:
        """The null model's draws: the same at every look, others for every run."""
        return np.random.default_rng(zlib.crc32(self.facts.run_id.encode()))

    def _null_steps(self) -> dict[str, Array]:
        steps = dict(self.steps)
        steps |= {own: steps[null] for own, null in NULL_COLUMNS.items() if null in steps}
        dimension = self.noise_dimension()
        if "null_gamma" in steps and math.isfinite(dimension):
            noise = self._draws().standard_normal(len(self.mask)) / math.sqrt(dimension)
            gamma = steps["gamma"] + noise
            scale = gamma / steps["gamma"]
            steps |= {name: steps[name] * scale for name in ("rsi", "local_lr") if name in steps}
            steps["gamma"] = gamma
        return steps | _unrelated(steps, self._draws())

    def _null_tables(self) -> dict[str, pd.DataFrame]:
        tables = dict(self.tables)
        draws = self._draws()
        dimension = self.noise_dimension()
        spread = 1 / math.sqrt(dimension if math.isfinite(dimension) else UNRELATED_DIMENSION)
        for name, column, width in (
            ("correlation", "correlation", NULL_CORRELATION),
            ("held_out", "gamma", spread),
        ):
            if name in tables:
                noise = draws.standard_normal(len(tables[name])) * width
                tables[name] = tables[name].assign(**{column: noise})
        for name in ("full_batch", "probe_batches"):
            if name in tables and "null_gamma" in self.steps:
                gamma = self.steps["null_gamma"][tables[name]["step"].to_numpy(int)]
                tables[name] = tables[name].assign(gamma=gamma)
        return tables


class _NullRun(ClaimRun):
    """A run under the null model, which supposes more dimensions than any run has steps."""

    def noise_dimension(self) -> float:
        return 1e12


def _unrelated(steps: Mapping[str, Array], draws: np.random.Generator) -> dict[str, Array]:
    """The columns of windows of gradients, for gradients that are unrelated to each other."""
    length = max(map(len, steps.values()), default=0)
    patterns = {"is_smooth": 0.0, "is_zigzag": 0.0, "is_random": 1.0, "is_mixed": 0.0}
    columns = {name: np.full(length, patterns[name]) for name in patterns if name in steps}
    if "mean_correlation" in steps or "entry_variation" in steps:
        noise = draws.standard_normal(length) * NULL_CORRELATION
        columns |= {"mean_correlation": noise, "entry_variation": np.abs(noise)}
    return {name: values for name, values in columns.items() if name in steps}


def _by_group(values: Array, starts: NDArray[np.intp], how: Statistic) -> Array:
    if not len(values):
        return np.empty(0)
    fine, lengths = np.isfinite(values), np.diff(starts, append=len(values))
    known, filled, counts = values, values, lengths.astype(float)
    if not fine.all():
        known, filled = np.where(fine, values, math.nan), np.where(fine, values, 0.0)
        counts = np.add.reduceat(fine.astype(float), starts)
        counts[counts == 0] = math.nan
    if how in ("min", "max"):
        extreme = np.fmin if how == "min" else np.fmax
        return np.asarray(extreme.reduceat(known, starts), dtype=float)
    means = np.add.reduceat(filled, starts) / counts
    if how == "mean":
        return np.asarray(means, dtype=float)
    squares = np.nan_to_num((known - np.repeat(means, lengths)) ** 2)
    return np.asarray(np.sqrt(np.add.reduceat(squares, starts) / counts), dtype=float)
