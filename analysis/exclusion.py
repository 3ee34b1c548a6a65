"""Which end of a run a statistic leaves out, and the words that say so."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.lengths import Length, run_lengths
from trainables.store import UserError

IMAGENET_END = 25 / 180
"""P1 appendix C: in the last 25 of ImageNet's 180 epochs the distance left is negligible, and
figures 1 and 2 leave them out [1]; of another budget the same share."""
MAX_SHARE = 0.25
"""At most this share of a run is left out by default [1]; ours, untuned."""
FALLBACK_FRACTION = 0.1
"""Left out of runs of one epoch, where the last epoch would be all [1]; ours, untuned."""


@dataclass(frozen=True, kw_only=True)
class Exclusion:
    """The steps that are left out; a step stays if every one of the four rules keeps it.

    Near the end w_t - w* holds the last few updates only, so gamma is ruled by them (P1 section 4
    leaves out the final epoch, ImageNet's figures the epochs after 155 of 180).
    """

    last_epochs: int = 0
    """Number of last epochs; an epoch that the budget cuts short counts as one."""
    last_fraction: float = 0.0
    """Share of the run's steps, from the end [1], below 1."""
    last_steps: int = 0
    """Number of last steps."""
    distance_floor: float = 0.0
    """Steps whose ||w_t - w*|| is below this share of ||w_0 - w*|| [1]."""
    reason: str = ""
    """Why, in words; ends the description."""

    def __post_init__(self) -> None:
        for name in ("last_epochs", "last_fraction", "last_steps", "distance_floor"):
            if getattr(self, name) < 0:
                raise UserError(f"exclude.{name}: must not be negative, got {getattr(self, name)}")
        for name in ("last_fraction", "distance_floor"):
            if getattr(self, name) >= 1:
                raise UserError(f"exclude.{name}: a share below 1, got {getattr(self, name)}")

    def num_kept(self, length: Length) -> int:
        """Leading steps of a run that the three range rules keep, in [0, num_steps]."""
        num_steps = length.num_steps
        ends = [
            num_steps,
            # of 180 epochs 25/180 are 25, whatever the product's last bit says
            num_steps - math.ceil(self.last_fraction * num_steps - 1e-6),
            num_steps - self.last_steps,
        ]
        if self.last_epochs:
            ends.append(length.start(length.num_epochs - self.last_epochs))
        return max(0, min(ends))

    def kept_of_run(
        self,
        step: NDArray[np.int64],
        distance: NDArray[np.float64],
        length: Length,
    ) -> NDArray[np.bool_]:
        """True for the steps of one run that stay; `distance` is ‖w_t - w*‖ at each of them."""
        mask = step < self.num_kept(length)
        if self.distance_floor and len(step):
            start = distance[step == 0].sum() if (step == 0).any() else np.nan
            mask &= ~(distance < self.distance_floor * start)
        return mask

    def kept(self, steps: pd.DataFrame, runs: pd.DataFrame) -> pd.Series[bool]:
        """True for the rows of a steps table that stay.

        `runs` has every run in `steps`, as `run_lengths` reads it; a distance floor needs the
        column distance.
        """
        lengths = run_lengths(runs)
        mask = pd.Series(False, index=steps.index)
        for run_id, rows in steps.groupby("run_id", sort=False):
            distance = rows.get("distance", pd.Series(np.nan, rows.index))
            step = rows["step"].to_numpy()
            floor: NDArray[np.float64] = np.asarray(distance, dtype=np.float64)
            mask[rows.index] = self.kept_of_run(step, floor, lengths[str(run_id)])
        return mask

    def describe(self) -> str:
        """One clause that says what is left out and why."""
        parts = [
            _count(self.last_epochs, "last epoch", "last {} epochs") if self.last_epochs else "",
            f"the last {self.last_fraction:.3g} of its steps" if self.last_fraction else "",
            _count(self.last_steps, "last step", "last {} steps") if self.last_steps else "",
            f"steps with ||w_t - w*|| below {self.distance_floor:.3g} of ||w_0 - w*||"
            if self.distance_floor
            else "",
        ]
        what = " and ".join(part for part in parts if part)
        text = f"left out of every run: {what}" if what else "no step is left out"
        return f"{text} ({self.reason})" if self.reason else text


def rows_of(kept: NDArray[np.bool_]) -> slice | NDArray[np.bool_]:
    """The same choice as a slice, which copies nothing, where the kept steps are the first ones."""
    count = int(kept.sum())
    return slice(count) if kept[:count].all() else kept


def default_exclusion(runs: pd.DataFrame, *, imagenet: bool = False) -> Exclusion:
    """The exclusion for one ablation's runs, as `run_lengths` reads them.

    Runs on ImageNet lose IMAGENET_END of their steps, 25 of 180 epochs. Others of equal length in
    steps but not in epochs lose the same last steps, one epoch of the longest: with the last epoch
    left out instead, a cell with few steps per epoch keeps more of the end, and the null model
    alone gets an exponent (.07 at T = 1000). Others lose the last epoch.
    """
    if runs.empty:
        return Exclusion(reason="no finished run")
    if imagenet:
        return Exclusion(last_fraction=IMAGENET_END, reason="25 of 180 epochs, P1 appendix C")
    lengths = run_lengths(runs).values()
    calendars = {(length.steps_per_epoch, length.growth) for length in lengths}
    if len({length.num_steps for length in lengths}) == 1 and len(calendars) > 1:
        return _same_steps(max(per_epoch for per_epoch, _ in calendars), runs)
    if any(length.num_epochs == 1 for length in lengths):
        return Exclusion(last_fraction=FALLBACK_FRACTION, reason="a run has one epoch only")
    return Exclusion(last_epochs=1, reason="P1 section 4")


def exclusion_for(
    runs: pd.DataFrame, options: Mapping[str, Any], *, imagenet: bool = False
) -> Exclusion:
    """The spec's own exclusion (`analysis: {exclude: {last_epochs: 1, ...}}`), else the default.

    Raises:
        UserError: an unknown key or a value out of range.
    """
    given = options.get("exclude")
    if given is None:
        return default_exclusion(runs, imagenet=imagenet)
    known = [item.name for item in fields(Exclusion) if item.name != "reason"]
    for key in given:
        if key not in known:
            raise UserError(f"analysis.exclude: unknown key '{key}'; known: {', '.join(known)}")
    return Exclusion(**given, reason="set in the spec")


def _same_steps(longest: int, runs: pd.DataFrame) -> Exclusion:
    cap = max(1, int(MAX_SHARE * int(runs["num_steps"].min())))
    if longest <= cap:
        return Exclusion(
            last_steps=longest, reason="the same in every cell: one epoch of the longest"
        )
    return Exclusion(last_steps=cap, reason="the same in every cell: a quarter of the run")


def _count(number: int, one: str, many: str) -> str:
    return f"the {one}" if number == 1 else f"the {many.format(number)}"
