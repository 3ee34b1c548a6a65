"""Gradient correlation against naive sums, closed forms and quadratics of known eigenvalues."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from geometry import correlation

F64 = torch.float64


def gradients(num_steps: int = 9, size: int = 7) -> Tensor:
    return torch.randn(num_steps, size, dtype=F64, generator=torch.Generator().manual_seed(0))


def mu(first: Tensor, second: Tensor) -> float:
    return float(first @ second) / math.sqrt(float(first @ first) * float(second @ second))


def by_lag(vectors: Tensor, num_lags: int) -> Tensor:
    """lagged[t, l] = mu(t - l, t) by its definition."""
    lagged = torch.full((len(vectors), num_lags), math.nan, dtype=F64)
    for t, lag in itertools.product(range(len(vectors)), range(num_lags)):
        if lag <= t and vectors[t].any() and vectors[t - lag].any():
            lagged[t, lag] = mu(vectors[t - lag], vectors[t])
    return lagged


def descent(eigenvalues: list[float], start: list[float], num_steps: int) -> Tensor:
    """Gradients of gradient descent on 1/2 sum_i l_i x_i^2; the learning rate is in the l_i."""
    curvature, x = torch.tensor(eigenvalues, dtype=F64), torch.tensor(start, dtype=F64)
    found = []
    for _ in range(num_steps):
        found.append(curvature * x)
        x = x - found[-1]
    return torch.stack(found)


def close(values: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(values, expected, rtol=1e-12, atol=1e-12, equal_nan=True)


# -- Definitions ------------------------------------------------------------------------------


def test_correlation_is_the_cosine() -> None:
    first, second = gradients()[:2]
    value = correlation.correlation(first @ second, first @ first, second @ second)
    assert float(value) == pytest.approx(mu(first, second), rel=1e-14)


def test_correlation_of_a_zero_gradient_is_undefined_and_of_a_tiny_one_is_not() -> None:
    squared = torch.tensor([0.0, 1e-200], dtype=F64)
    values = correlation.correlation(squared, squared, squared)
    assert values.isnan().tolist() == [True, False]
    assert float(values[1]) == pytest.approx(1)


@pytest.mark.parametrize("window", [2, 3, 5, 9])
def test_mean_correlation_is_the_mean_over_the_window(window: int) -> None:
    vectors = gradients()
    adjacent = by_lag(vectors, 2)[:, 1]
    forward = correlation.mean_correlation(adjacent, window)
    causal = correlation.causal_mean_correlation(adjacent, window)
    for k in range(len(vectors)):
        pairs = [(j, j + 1) for j in range(k, k + window - 1)]
        if k + window <= len(vectors):
            expected = sum(mu(vectors[i], vectors[j]) for i, j in pairs) / (window - 1)
            assert float(forward[k]) == pytest.approx(expected, rel=1e-13)
            assert float(causal[k + window - 1]) == float(forward[k])
        else:
            assert forward[k].isnan()
    assert causal[: window - 1].isnan().all()


def test_a_run_shorter_than_the_window_has_no_mean() -> None:
    adjacent = by_lag(gradients(3), 2)[:, 1]
    assert correlation.mean_correlation(adjacent, 5).isnan().all()
    assert correlation.causal_mean_correlation(adjacent, 4).isnan().all()
    assert correlation.causal_mean_correlation(adjacent[:0], 2).shape == (0,)


def test_window_matrices_hold_every_pair() -> None:
    vectors, window = gradients(), 4
    starts = [0, 3, 5]
    matrices = correlation.window_matrices(by_lag(vectors, 6), starts, window)
    assert matrices.shape == (3, 4, 4)
    for matrix, k in zip(matrices, starts, strict=True):
        for a, b in itertools.product(range(window), repeat=2):
            assert float(matrix[a, b]) == pytest.approx(mu(vectors[k + a], vectors[k + b]))


@pytest.mark.parametrize("num_lags", [2, 4, 6])
def test_off_diagonal_means_are_those_of_the_matrices(num_lags: int) -> None:
    lagged, window = by_lag(gradients(), 6), 4
    means = correlation.off_diagonal_means(lagged[:, :num_lags], window)
    assert means.shape == (9, min(num_lags, window) - 1)
    assert means[6:].isnan().all()
    for k, matrix in enumerate(correlation.window_matrices(lagged, range(6), window)):
        expected = [matrix.diagonal(lag).mean() for lag in range(1, means.shape[1] + 1)]
        close(means[k], torch.stack(expected))
    close(means[:, 0], correlation.mean_correlation(lagged[:, 1], window))


def test_entry_variation_is_the_spread_of_the_matrices_entries() -> None:
    lagged, window = by_lag(gradients(), 6), 4
    variation = correlation.entry_variation(lagged, window)
    off_diagonal = ~torch.eye(window, dtype=torch.bool)
    for k, matrix in enumerate(correlation.window_matrices(lagged, range(6), window)):
        expected = matrix[off_diagonal].abs().std(correction=0)
        assert float(variation[k]) == pytest.approx(float(expected), rel=1e-13)
    assert variation[6:].isnan().all()


def test_a_zero_gradient_leaves_every_window_that_holds_it_undefined() -> None:
    vectors, window = gradients(), 3
    vectors[4] = 0
    lagged = by_lag(vectors, window)
    undefined = [2, 3, 4, 7, 8]  # those with step 4 in them, and those that the run cuts off
    for values in (
        correlation.mean_correlation(lagged[:, 1], window),
        correlation.off_diagonal_means(lagged, window)[:, 0],
        correlation.entry_variation(lagged, window),
    ):
        assert values.isnan().nonzero()[:, 0].tolist() == undefined


# -- Quadratics -------------------------------------------------------------------------------


@pytest.mark.parametrize(("scaled", "sign"), [(0.3, 1.0), (0.99, 1.0), (1.2, -1.0), (1.9, -1.0)])
def test_one_eigenvalue_is_smooth_below_one_and_zigzag_above(scaled: float, sign: float) -> None:
    vectors = descent([scaled] * 3, [1.0, -2.0, 0.5], 12)
    lagged = by_lag(vectors, 5)
    close(correlation.mean_correlation(lagged[:, 1], 5)[:8], torch.full((8,), sign, dtype=F64))
    (matrix,) = correlation.window_matrices(lagged, [3], 5)
    place = torch.arange(5)
    close(matrix, sign ** (place[:, None] - place).abs().double())
    assert correlation.sign_shift(vectors[4], vectors[5]) == ((0, 0) if sign > 0 else (100, 100))


def expected_adjacent(
    scaled: tuple[float, float], start: list[float], num_steps: int
) -> list[float]:
    """mu(t-1, t) in closed form: g_t = l x_0 (1 - l)^t, mode by mode."""
    values = []
    for t in range(1, num_steps):
        first, second = (
            [rate * x * (1 - rate) ** s for rate, x in zip(scaled, start, strict=True)]
            for s in (t - 1, t)
        )
        dot = sum(a * b for a, b in zip(first, second, strict=True))
        values.append(dot / (math.hypot(*first) * math.hypot(*second)))
    return values


@pytest.mark.parametrize(
    ("scaled", "before", "after"),
    [
        ((0.5, 1.9), 1, -1),  # the zigzag mode decays more slowly: smooth turns to zigzag
        ((0.1, 1.5), -1, 1),  # the smooth mode does: zigzag turns to smooth
        ((0.5, 1.5), 1, 1),  # both decay alike: nothing changes
    ],
)
def test_two_eigenvalues_change_pattern_as_their_decays_say(
    scaled: tuple[float, float], before: int, after: int
) -> None:
    start = [1.0, 1e-4] if before > 0 else [1e-4, 1.0]
    adjacent = by_lag(descent(list(scaled), start, 60), 2)[:, 1]
    expected = torch.tensor(expected_adjacent(scaled, start, 60), dtype=F64)
    torch.testing.assert_close(adjacent[1:], expected, rtol=1e-9, atol=1e-9)
    means = correlation.mean_correlation(adjacent, 5)
    assert float(means[0]) == pytest.approx(before, abs=1e-3)
    assert float(means[55]) == pytest.approx(after, abs=1e-3)


# -- Signs ------------------------------------------------------------------------------------


def test_sign_shift_counts_opposite_signs_and_zeros_never() -> None:
    first = torch.tensor([1.0, -1.0, 2.0, 0.0, 3.0, 0.0])
    second = torch.tensor([-1.0, 1.0, 2.0, 5.0, 0.0, 0.0])
    assert correlation.sign_shift(first, second) == pytest.approx((100 * 2 / 6, 100 * 2 / 3))


def test_sign_shift_sees_the_signs_of_entries_whose_product_underflows() -> None:
    tiny = torch.full((4,), 1e-30)
    assert correlation.sign_shift(tiny, -tiny) == (100, 100)
    assert correlation.sign_shift(tiny, tiny) == (0, 0)


def test_sign_shift_of_nothing_but_zeros_is_zero_of_all_and_undefined_of_the_rest() -> None:
    of_all, of_nonzero = correlation.sign_shift(torch.zeros(3), torch.ones(3))
    assert of_all == 0
    assert math.isnan(of_nonzero)


def test_gaussian_sign_shift_is_that_of_gaussian_entries() -> None:
    known = torch.tensor([1.0, 0.0, -1.0, -0.92, -0.9, 1 + 1e-15], dtype=F64)
    values = correlation.gaussian_sign_shift(known)
    assert values.tolist() == pytest.approx([0, 50, 100, 87.18, 85.64, 0], abs=0.01)
    first, other = torch.randn(2, 200_000, dtype=F64, generator=torch.Generator().manual_seed(1))
    second = -0.6 * first + 0.8 * other
    expected = correlation.gaussian_sign_shift(torch.tensor(-0.6, dtype=F64))
    # three standard deviations of a share of 200,000 draws
    assert correlation.sign_shift(first, second)[0] == pytest.approx(float(expected), abs=0.35)


# -- Noise ------------------------------------------------------------------------------------


def test_the_noise_floor_is_the_spread_of_unrelated_directions() -> None:
    vectors = gradients(800, 100)
    pairs = torch.nn.functional.cosine_similarity(vectors[0::2], vectors[1::2])
    assert float(pairs.std()) == pytest.approx(correlation.noise_floor(100), rel=0.1)
    means = pairs.view(100, 4).mean(1)
    assert float(means.std()) == pytest.approx(correlation.noise_floor(100, 4), rel=0.2)
    with pytest.raises(ValueError, match="must be positive, not 0, 1"):
        correlation.noise_floor(0)


def test_independent_minibatches_correlate_as_signal_over_signal_and_noise() -> None:
    size = 2000
    signal, *noises = gradients(201, size)
    signal = 0.5 * signal
    pairs = [mu(signal + a, signal + b) for a, b in zip(noises[0::2], noises[1::2], strict=True)]
    expected = correlation.independent_correlation(
        signal @ signal, torch.tensor(float(size), dtype=F64)
    )
    assert sum(pairs) / len(pairs) == pytest.approx(float(expected), abs=0.01)
    zero = torch.tensor(0.0, dtype=F64)
    assert correlation.independent_correlation(zero, zero).isnan()


# -- Bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "function",
    [
        lambda window: correlation.mean_correlation(torch.zeros(4), window),
        lambda window: correlation.causal_mean_correlation(torch.zeros(4), window),
        lambda window: correlation.window_matrices(torch.zeros(4, 4), [0], window),
        lambda window: correlation.off_diagonal_means(torch.zeros(4, 4), window),
        lambda window: correlation.entry_variation(torch.zeros(4, 4), window),
    ],
)
def test_a_window_below_two_is_refused(function: object) -> None:
    assert callable(function)
    with pytest.raises(ValueError, match=r"^window must be at least 2 steps, not 1$"):
        function(1)


def test_a_window_longer_than_the_run_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^window: 5 steps are more than the run has \(4\); give"):
        correlation.window_matrices(torch.zeros(4, 5), [0], 5)


@pytest.mark.parametrize("start", [-1, 3, 100])
def test_a_matrix_at_a_step_that_does_not_exist_is_refused(start: int) -> None:
    with pytest.raises(ValueError, match=f"begins at step {start}; they begin at 0 to 2$"):
        correlation.window_matrices(torch.zeros(6, 4), [0, start], 4)
