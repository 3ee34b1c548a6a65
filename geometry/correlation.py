"""Gradient correlation: how the gradients of a window of steps lie to each other.

Notation: g_t the gradient of step t, mu(j, k) = cos(g_j, g_k), h the window, l the lag.

Correlations of a run are kept by lag, since a step adds only those with the steps before it:

    lagged[t, l] = mu(t - l, t),   l = 0..h-1,   shape [T, h],   NaN where t < l

All are float64. What rests on an undefined correlation is itself NaN: a window is whole or it has
no value. Steps count from 0; a window of the paper, {k, ..., k+h-1}, reaches forward and is known
only h - 1 steps after it began.
Source: P2 = "On the Mysterious Optimization Geometry of Deep Neural Networks", sections 2 to 4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def correlation(product: Tensor, first_squared: Tensor, second_squared: Tensor) -> Tensor:
    """mu(j, k) = <g_j, g_k> / (‖g_j‖ ‖g_k‖), from the product and the two squared norms.

    Elementwise. Range: [-1, 1] up to the rounding of the sums; NaN where a gradient is zero.
    Source: P2 eq. 2.
    """
    # the roots one by one: the product of two squares underflows long before the norms do
    norms = first_squared.sqrt() * second_squared.sqrt()
    return product / norms.masked_fill(norms == 0, math.nan)


def mean_correlation(adjacent: Tensor, window: int) -> Tensor:
    """mubar_k = 1/(h-1) sum_{m=1}^{h-1} mu(k+m-1, k+m), over the window that begins at step k.

    `adjacent` holds mu(t-1, t), NaN at t = 0: lag 1 of `lagged`.
    Shape: [T] -> [T]; NaN at the last h - 1 steps, whose windows are not whole.
    Raises ValueError for h < 2. Source: P2 eq. 3.
    """
    return causal_mean_correlation(adjacent, window).roll(1 - window)


def causal_mean_correlation(adjacent: Tensor, window: int) -> Tensor:
    """m_k = mubar_{k-h+1}: the same mean over the window that ends at step k, known at step k.

    Shape: [T] -> [T]; NaN at the first h - 1 steps. Raises ValueError for h < 2.
    Source: P2 section 5.2, which acts on the mean while training (INVENTORY D7).
    """
    check_window(window)
    means = torch.full_like(adjacent, math.nan)
    if len(adjacent) >= window:
        means[window - 1 :] = adjacent[1:].unfold(0, window - 1, 1).mean(1)
    return means


def window_matrices(lagged: Tensor, starts: Sequence[int], window: int) -> Tensor:
    """M_k[a, b] = mu(k+a, k+b), a, b = 0..h-1, for the windows that begin at the steps `starts`.

    Shape: lagged [T, at least h] -> [starts, h, h], symmetric, the diagonal 1.
    Raises ValueError if a window does not lie within the run. Source: P2 section 2.
    """
    check_window(window, num_steps=len(lagged))
    for start in starts:
        if not 0 <= start <= len(lagged) - window:
            raise ValueError(
                f"no window of {window} steps begins at step {start}; "
                f"they begin at 0 to {len(lagged) - window}"
            )
    place = torch.arange(window)
    later = torch.maximum(place[:, None], place)
    lag = (place[:, None] - place).abs()
    return lagged[torch.tensor(starts, dtype=torch.int64)[:, None, None] + later, lag]


def off_diagonal_means(lagged: Tensor, window: int) -> Tensor:
    """o_l(k) = mean_a mu(k+a, k+a+l), a = 0..h-1-l: the mean of M_k's l-th off-diagonal.

    o_1 is mubar_k. Zigzag alternates in sign from lag to lag, smooth is near 1 at every lag.
    Shape: lagged [T, L] -> [T, min(L, h) - 1], the column l - 1 for lag l = 1, 2, ...; NaN at the
    last h - 1 steps. Raises ValueError for h < 2 or h > T. Source: P2 section 3.1.
    """
    num_steps, num_lags = len(lagged), min(lagged.shape[1], window)
    check_window(window, num_steps=num_steps)
    means = lagged.new_full((num_steps, num_lags - 1), math.nan)
    for lag in range(1, num_lags):
        within = lagged[lag:, lag].unfold(0, window - lag, 1)
        means[: num_steps - window + 1, lag - 1] = within.mean(1)
    return means


def entry_variation(lagged: Tensor, window: int) -> Tensor:
    """Population standard deviation of abs(M_k[a, b]), a != b, for the window that begins at k.

    Said to be larger for zigzag at small learning rates; the paper names no statistic, this one is
    ours (INVENTORY A30).
    Shape: lagged [T, at least h] -> [T], NaN at the last h - 1 steps. Raises ValueError for h < 2
    or h > T. Source: P2 section 3.3.
    """
    check_window(window, num_steps=len(lagged))
    num_windows = len(lagged) - window + 1
    entries = [
        lagged[a + lag : a + lag + num_windows, lag]
        for lag in range(1, window)
        for a in range(window - lag)
    ]
    variation = lagged.new_full((len(lagged),), math.nan)
    variation[:num_windows] = torch.stack(entries, 1).abs().std(1, correction=0)
    return variation


def sign_shift(first: Tensor, second: Tensor) -> tuple[float, float]:
    """100 #{i: g_j,i g_k,i < 0} / P, and the same over #{i: g_j,i g_k,i != 0}.

    A zero has no sign and never shifts: the second denominator leaves out what cannot.
    Shape: [P], [P]. Range: [0, 100] percent; NaN where the denominator is 0.
    Source: P2 section 4.3; the second denominator is ours (INVENTORY D8).
    """
    signs = first.sign() * second.sign()
    shifted, nonzero = int((signs < 0).sum()), int((signs != 0).sum())
    return _percent(shifted, len(first)), _percent(shifted, nonzero)


def gaussian_sign_shift(correlation: Tensor) -> Tensor:
    """100 arccos(mu) / pi: the sign shift of jointly Gaussian entries of that correlation.

    What a correlation says about signs by itself: 87.2 % at -0.92, 50 % at 0.
    Elementwise. Range: [0, 100] percent. A correlation that rounding put beyond 1 counts as 1.
    """
    return 100 * torch.arccos(correlation.clamp(-1, 1)) / math.pi


def noise_floor(dimension: float, num_pairs: int = 1) -> float:
    """1 / sqrt(d n): standard deviation of the mean of n correlations of unrelated gradients.

    For isotropic directions in d dimensions; for anisotropic noise of covariance C, d is the
    effective dimension tr(C)^2 / tr(C^2), far below P. A mean correlation within two or three of
    these of 0 says nothing.
    Raises ValueError unless both are positive.
    """
    if not (dimension > 0 and num_pairs > 0):
        raise ValueError(f"dimension and num_pairs must be positive, not {dimension}, {num_pairs}")
    return 1 / math.sqrt(dimension * num_pairs)


def independent_correlation(mean_squared: Tensor, noise_squared: Tensor) -> Tensor:
    """‖G‖^2 / (‖G‖^2 + tr(C) / b): correlation to be expected of two independent minibatches.

    Both gradients are taken at the same weights: `mean_squared` is the squared norm of their
    expectation, `noise_squared` the expected squared distance from it. Noise scales the correlation
    of two steps down by the same factor, so this is the most that minibatch correlations can reach;
    where it is below `noise_floor`, they show nothing.
    Elementwise. Range: [0, 1]; NaN where both are 0. Exact for equal norms, to first order else.
    """
    total = mean_squared + noise_squared
    return mean_squared / total.masked_fill(total == 0, math.nan)


def check_window(window: int, *, num_steps: int | None = None) -> None:
    """Raises ValueError, in one line, for a window below 2 or longer than the run."""
    if window < 2:
        raise ValueError(f"window must be at least 2 steps, not {window}")
    if num_steps is not None and window > num_steps:
        raise ValueError(
            f"window: {window} steps are more than the run has ({num_steps}); "
            f"give at most {num_steps}"
        )


def _percent(part: int, whole: int) -> float:
    return 100 * part / whole if whole else math.nan
