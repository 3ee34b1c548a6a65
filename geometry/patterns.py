"""Geometric patterns along a run: smooth, zigzag, random, mixed; when they change, what they earn.

A pattern is that of a window of steps, told from the off-diagonal means o_1, o_2, ... of its
correlation matrix (correlation.py), by thresholds that stand in `Thresholds`:

    smooth   every o_l at least `smooth`
    zigzag   (-1)^l o_l at least `zigzag` for every l: neighbours opposed, those at lag 2 alike
    random   every abs(o_l) at most `random`
    mixed    none of these

A window with an undefined mean has no pattern. Where only o_1 was measured, it alone decides.
Source: P2 = "On the Mysterious Optimization Geometry of Deep Neural Networks", section 3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

Pattern = Literal["smooth", "zigzag", "random", "mixed"]
PATTERNS: tuple[Pattern, ...] = get_args(Pattern)


@dataclass(frozen=True)
class Thresholds:
    """Where a pattern begins; the paper shows patterns and names no numbers."""

    smooth: float = 0.5
    """Ours (INVENTORY C31); the paper's smooth windows are near 1."""
    zigzag: float = 0.5
    """Ours (INVENTORY C31); the paper's zigzag window has -.91, .85 and strongly negative."""
    random: float = 0.2
    """Ours (INVENTORY C33); the paper's random windows are near 0."""


DEFAULT = Thresholds()


class Dwell(NamedTuple):
    """A maximal stretch of windows of one pattern; they begin at steps `start`, `start` + 1, ..."""

    pattern: Pattern
    start: int
    length: int


def indicators(off_diagonal: Tensor, thresholds: Thresholds = DEFAULT) -> dict[Pattern, Tensor]:
    """1 where the window that begins at a step has the pattern, 0 where not, NaN where undefined.

    Exactly one of the four is 1 where o_1, o_2, ... are defined.
    Shape: off_diagonal [T, lags], the column l - 1 for lag l -> each [T]. Source: P2 section 3.1.
    """
    signs = torch.ones(off_diagonal.shape[1], dtype=off_diagonal.dtype)
    signs[::2] = -1
    smooth = (off_diagonal >= thresholds.smooth).all(1)
    zigzag = (signs * off_diagonal >= thresholds.zigzag).all(1)
    random = (off_diagonal.abs() <= thresholds.random).all(1)
    holds = (smooth, zigzag, random, ~(smooth | zigzag | random))
    undefined = off_diagonal.isnan().any(1)
    return {
        name: held.to(off_diagonal.dtype).masked_fill(undefined, math.nan)
        for name, held in zip(PATTERNS, holds, strict=True)
    }


def labels(found: Mapping[Pattern, Tensor]) -> list[Pattern | None]:
    """The pattern of every window from its indicators, None where undefined."""
    held = torch.stack([found[name] == 1 for name in PATTERNS])
    which = torch.where(held.any(0), held.int().argmax(0), -1).tolist()
    return [PATTERNS[index] if index >= 0 else None for index in which]


def dwells(patterns: Sequence[Pattern | None]) -> list[Dwell]:
    """The maximal stretches of equal pattern, in order; an undefined window ends one."""
    found, start = [], 0
    for pattern, group in groupby(patterns):
        length = len(list(group))
        if pattern is not None:
            found.append(Dwell(pattern, start, length))
        start += length
    return found


def change_points(stretches: Sequence[Dwell]) -> list[int]:
    """The steps at which a window of another pattern begins than the one before it has."""
    return [
        after.start
        for before, after in pairwise(stretches)
        if before.start + before.length == after.start
    ]


def first_lasting(holds: Tensor, *, stays: int = 20, of: int = 25) -> int | None:
    """The first k at which `holds` is true and at least `stays` of k, ..., k + of - 1 are.

    None if there is none, or the run ends before `of` values. The defaults are INVENTORY C31's.
    Shape: holds [T], bool.
    """
    if len(holds) < of:
        return None
    lasting = holds.long().unfold(0, of, 1).sum(1) >= stays
    found = (lasting & holds[: len(lasting)]).nonzero()
    return int(found[0]) if len(found) else None


def zigzag_share(loss: Tensor, mean_correlation: Tensor) -> float | None:
    """sum_k (L_k - L_{k+1}) 1[mubar_k < 0] / (L_0 - L_end): net decrease made under zigzag.

    Net: increases count against it, so that an oscillating loss cannot give more than it gained.
    Steps whose mubar is undefined count as not under zigzag.
    Shape: loss [T], mean_correlation [T]. Range: the real numbers, None where L_0 = L_end, or for
    fewer than two steps. Source: P2 section 1.1 says "a substantial part"; the statistic is ours
    (INVENTORY A31).
    """
    if len(loss) < 2 or float(loss[0]) == float(loss[-1]):
        return None
    decrease = loss[:-1] - loss[1:]
    under = mean_correlation[:-1] < 0
    return float(decrease[under].sum() / (loss[0] - loss[-1]))


def summary(
    steps: Tensor,
    loss: Tensor,
    mean_correlation: Tensor,
    found: Mapping[Pattern, Tensor],
    thresholds: Thresholds = DEFAULT,
) -> dict[str, float | None]:
    """What the patterns of a run earned and when they changed; None where it is undefined.

    zigzag_share_of_decrease  see `zigzag_share`
    pattern_changes           number of `change_points`
    <pattern>_share           windows of the pattern, among those that have one
    <pattern>_longest_dwell   most windows in a row
    first_zigzag_step, first_smooth_step   the step from which the mean correlation stays beyond the
                              pattern's threshold; see `first_lasting`
    Shape: `steps`, `loss`, `mean_correlation` and every indicator [T], of the measured steps.
    """
    stretches = dwells(labels(found))
    total = sum(stretch.length for stretch in stretches)
    values: dict[str, float | None] = {
        "zigzag_share_of_decrease": zigzag_share(loss, mean_correlation),
        "pattern_changes": len(change_points(stretches)),
    }
    for name in PATTERNS:
        lengths = [stretch.length for stretch in stretches if stretch.pattern == name]
        values[f"{name}_share"] = sum(lengths) / total if total else None
        values[f"{name}_longest_dwell"] = max(lengths, default=0)
    beyond = {
        "first_zigzag_step": mean_correlation < -thresholds.zigzag,
        "first_smooth_step": mean_correlation > thresholds.smooth,
    }
    for key, holds in beyond.items():
        first = first_lasting(holds)
        values[key] = None if first is None else float(steps[first])
    return values


def gradient_dominance(loss: Tensor, gradient_squared: Tensor) -> Tensor:
    """(L_k - L_min) / ‖g_k‖^2, the gradient-dominance (PL) constant along the path.

    L_min is the least loss of the run, so it is 0 at that step. For gradient descent on a quadratic
    that reaches its minimum it lies in [1/(2 l_max), 1/(2 l_min)], l the eigenvalues.
    Shape: [T], [T] -> [T]. Range: [0, inf); NaN where the gradient is zero or the loss undefined.
    Source: P2 section 4.1 (INVENTORY A34).
    """
    defined = loss[~loss.isnan()]
    least = defined.min() if len(defined) else math.nan
    return (loss - least) / gradient_squared.masked_fill(gradient_squared == 0, math.nan)


def gradient_lipschitz(squared: Tensor, adjacent_product: Tensor, step_length: Tensor) -> Tensor:
    """‖g_{k+1} - g_k‖ / ‖w_{k+1} - w_k‖, the gradient's local Lipschitz constant along the path.

    By ‖g_{k+1}‖^2 - 2 <g_{k+1}, g_k> + ‖g_k‖^2: differences below about 1e-4 of the gradients'
    norms are lost in the rounding of sums of float32.
    squared[k] = ‖g_k‖^2, adjacent_product[k] = <g_{k-1}, g_k>, step_length[k] = ‖w_{k+1} - w_k‖,
    which is eta_k ‖g_k‖ for plain gradient descent.
    Shape: each [T] -> [T]. Range: [0, inf); NaN at the last step and where the weights stand still.
    Source: P2 sections 3.3, 4.1 (INVENTORY A35).
    """
    constants = torch.full_like(squared, math.nan)
    difference = squared[1:] - 2 * adjacent_product[1:] + squared[:-1]
    length = step_length[:-1]
    constants[:-1] = difference.clamp(min=0).sqrt() / length.masked_fill(length == 0, math.nan)
    return constants
