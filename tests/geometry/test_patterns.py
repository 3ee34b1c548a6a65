"""Patterns of planted windows and of quadratics; statistics against naive sums and closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from geometry import patterns
from geometry.correlation import mean_correlation, off_diagonal_means
from geometry.patterns import PATTERNS, Dwell, Thresholds
from tests.geometry.test_correlation import by_lag, descent

F64 = torch.float64
NAN = math.nan

WINDOWS = {
    "smooth": [[0.99, 0.97, 0.95, 0.9], [0.5, 0.5, 0.5, 0.5]],
    "zigzag": [[-0.91, 0.85, -0.8, 0.75], [-0.5, 0.5, -0.5, 0.5]],  # the first is P2 figure 1's
    "random": [[0.05, -0.1, 0.0, 0.2], [-0.2, 0.2, -0.2, 0.2]],
    "mixed": [
        [0.4, 0.4, 0.4, 0.4],
        [0.9, -0.9, 0.9, -0.9],
        [0.49, 0.9, 0.9, 0.9],
        [0.1, 0.1, 0.1, 0.3],
    ],
}


def tensor(*values: object) -> Tensor:
    return torch.tensor(values, dtype=F64)


# -- Labels -----------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", PATTERNS)
def test_planted_windows_have_their_pattern_and_no_other(pattern: str) -> None:
    found = patterns.indicators(tensor(*WINDOWS[pattern]))
    for name, values in found.items():
        assert values.tolist() == [float(name == pattern)] * len(WINDOWS[pattern])
    assert patterns.labels(found) == [pattern] * len(WINDOWS[pattern])


def test_a_window_with_an_undefined_mean_has_no_pattern() -> None:
    found = patterns.indicators(tensor([0.9, NAN], [NAN, NAN], [0.9, 0.9]))
    assert patterns.labels(found) == [None, None, "smooth"]
    for values in found.values():
        assert values.isnan().tolist() == [True, True, False]


def test_the_first_lag_alone_decides_where_no_other_was_measured() -> None:
    found = patterns.indicators(tensor([0.9], [-0.9], [0.1], [0.3]))
    assert patterns.labels(found) == ["smooth", "zigzag", "random", "mixed"]


def test_the_thresholds_are_those_that_are_given() -> None:
    window = tensor([0.7, 0.7])
    assert patterns.labels(patterns.indicators(window, Thresholds(smooth=0.8))) == ["mixed"]
    strict = Thresholds(smooth=0.8, random=0.7)
    assert patterns.labels(patterns.indicators(window, strict)) == ["random"]


@pytest.mark.parametrize(
    ("scaled", "start", "expected"),
    [
        ([0.5, 1.9], [1.0, 1e-3], ["smooth", "mixed", "zigzag"]),
        ([0.1, 1.5], [1e-3, 1.0], ["zigzag", "mixed", "smooth"]),
        ([0.5, 1.5], [1.0, 1e-3], ["smooth"]),
    ],
)
def test_quadratics_go_through_the_patterns_that_their_eigenvalues_say(
    scaled: list[float], start: list[float], expected: list[str]
) -> None:
    lagged = by_lag(descent(scaled, start, 60), 5)
    found = patterns.labels(patterns.indicators(off_diagonal_means(lagged, 5)))
    stretches = patterns.dwells(found)
    kinds = [stretch.pattern for stretch in stretches]
    assert [kind for kind in kinds if kind != "mixed"] == [k for k in expected if k != "mixed"]
    assert set(kinds) == set(expected)
    assert sum(stretch.length for stretch in stretches) == 56


# -- When -------------------------------------------------------------------------------------


def test_dwells_and_change_points_of_a_planted_sequence() -> None:
    planted = [None, *["smooth"] * 3, *["zigzag"] * 2, None, "zigzag", "mixed", None]
    stretches = patterns.dwells(planted)  # type: ignore[arg-type]
    assert stretches == [
        Dwell("smooth", 1, 3),
        Dwell("zigzag", 4, 2),
        Dwell("zigzag", 7, 1),
        Dwell("mixed", 8, 1),
    ]
    assert patterns.change_points(stretches) == [4, 8]  # what lies beyond a gap is no change
    assert patterns.dwells([]) == []
    assert patterns.change_points([]) == []


def test_first_lasting_is_the_first_that_stays() -> None:
    holds = torch.zeros(100, dtype=torch.bool)
    holds[10:20] = True  # ten, then lost
    holds[40:80] = True
    holds[[43, 47, 51]] = False
    assert patterns.first_lasting(holds) == 40
    assert patterns.first_lasting(holds, stays=25) == 52
    assert patterns.first_lasting(holds, stays=10, of=10) == 10
    assert patterns.first_lasting(holds, stays=40, of=40) is None
    assert patterns.first_lasting(holds[:20]) is None


# -- Loss -------------------------------------------------------------------------------------


def test_zigzag_share_is_the_net_decrease_under_negative_correlation() -> None:
    loss = tensor(10, 8, 9, 5, 4, 2)
    mean = tensor(0.5, -0.5, -0.5, NAN, -0.1, NAN)
    # decreases 2, -1, 4, 1, 2; those under zigzag: -1, 4, 2
    assert patterns.zigzag_share(loss, mean) == pytest.approx(5 / 8)
    assert patterns.zigzag_share(loss, tensor(*[NAN] * 6)) == 0
    assert patterns.zigzag_share(loss, tensor(*[-1] * 6)) == 1


@pytest.mark.parametrize("loss", [[], [3.0], [2.0, 1.0, 2.0]])
def test_zigzag_share_of_no_decrease_is_undefined(loss: list[float]) -> None:
    assert patterns.zigzag_share(tensor(*loss), tensor(*[-1.0] * len(loss))) is None


def quadratic(
    eigenvalues: list[float], eta: float, num_steps: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss, gradients and weights of gradient descent on 1/2 sum_i l_i x_i^2."""
    curvature, x = tensor(*eigenvalues), torch.ones(len(eigenvalues), dtype=F64)
    rows = []
    for _ in range(num_steps):
        rows.append((0.5 * (curvature * x * x).sum(), curvature * x, x))
        x = x - eta * curvature * x
    loss, gradients, weights = (torch.stack(column) for column in zip(*rows, strict=True))
    return loss, gradients, weights


def test_gradient_dominance_of_one_eigenvalue_is_half_its_inverse() -> None:
    loss, gradients, _ = quadratic([4.0, 4.0], 0.1, 60)
    ratio = patterns.gradient_dominance(loss, gradients.square().sum(1))
    # the least loss is not 0 but 0.6^118 of the first
    torch.testing.assert_close(ratio[:20], torch.full((20,), 1 / 8, dtype=F64))
    assert float(ratio[-1]) == 0


def test_gradient_dominance_lies_between_the_eigenvalues() -> None:
    loss, gradients, _ = quadratic([1.0, 3.0, 5.0], 0.3, 200)
    ratio = patterns.gradient_dominance(loss, gradients.square().sum(1))[:100]
    assert float(ratio.min()) >= 1 / 10
    assert float(ratio.max()) <= 1 / 2
    assert patterns.gradient_dominance(tensor(1, NAN), tensor(0, 1)).isnan().all()


def test_gradient_lipschitz_is_the_quotient_of_the_differences() -> None:
    _, gradients, weights = quadratic([1.0, 3.0, 5.0], 0.35, 30)
    squared = gradients.square().sum(1)
    product = torch.full((30,), NAN, dtype=F64)
    product[1:] = (gradients[1:] * gradients[:-1]).sum(1)
    found = patterns.gradient_lipschitz(squared, product, 0.35 * squared.sqrt())
    expected = (gradients[1:] - gradients[:-1]).norm(dim=1) / (weights[1:] - weights[:-1]).norm(
        dim=1
    )
    torch.testing.assert_close(found[:-1], expected, rtol=1e-6, atol=0)
    assert found[-1].isnan()
    assert float(found[0]) < float(found[-2]) == pytest.approx(5, rel=1e-3)  # sharpest mode wins


def test_gradient_lipschitz_where_the_weights_stand_still_is_undefined() -> None:
    found = patterns.gradient_lipschitz(tensor(1, 2), tensor(NAN, 1), tensor(0, 0))
    assert found.isnan().all()


def test_a_quadratic_that_oscillates_makes_its_progress_under_zigzag() -> None:
    loss, gradients, _ = quadratic([1.9], 1.0, 40)
    mean = mean_correlation(by_lag(gradients, 2)[:, 1], 2)
    share = patterns.zigzag_share(loss, mean)
    assert share == pytest.approx(1)
