"""The Gram matrix against averages taken one by one, and noise of known covariance."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from geometry import gram
from geometry.reductions import ROW

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def vectors(num: int, size: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num, size, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("num_rows", [1, gram.ROWS_AT_A_TIME, gram.ROWS_AT_A_TIME + 3])
def test_the_matrix_holds_every_product(device: str, num_rows: int) -> None:
    x = vectors(5, num_rows * ROW).float().to(device)
    exact = x.double() @ x.double().T
    found = gram.gram_matrix(x)
    assert found.dtype == torch.float64
    scale = exact.diagonal().max()
    # one row alone is as exact as float32; over many rows the errors average out
    atol = 2e-7 / num_rows**0.5
    torch.testing.assert_close(found / scale, exact / scale, rtol=0, atol=atol)


def test_autocast_does_not_touch_it() -> None:
    x = vectors(4, 4 * ROW).float()
    alone = gram.gram_matrix(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(gram.gram_matrix(x), alone)


def test_gamma_at_k_b_is_that_of_the_averaged_gradients() -> None:
    """Of all of them exactly; of fewer, the mean of the squared norms over every choice of k."""
    x, displacement = vectors(5, 40) + 0.3, vectors(1, 40, seed=1)[0]
    squared = gram.averaged_squared(x @ x.T)
    for k in range(1, 6):
        means = [x[list(chosen)].mean(0) for chosen in itertools.combinations(range(5), k)]
        squares = torch.stack([mean @ mean for mean in means])
        torch.testing.assert_close(squared[k - 1], squares.mean())
    whole = x.mean(0)
    gamma = (x @ displacement).mean() / (squared[4].sqrt() * displacement.norm())
    expected = torch.cosine_similarity(whole, displacement, dim=0)
    torch.testing.assert_close(gamma, expected)


def test_the_noise_scale_of_known_covariance() -> None:
    mean, deviation, batch_size = torch.full((64,), 0.5, dtype=torch.float64), 2.0, 16
    examples = deviation * vectors(40 * batch_size, 64) + mean
    batches = examples.view(40, batch_size, 64).mean(1)
    matrix = batches @ batches.T
    trace = gram.noise_trace(matrix, batch_size)
    assert float(trace) == pytest.approx(64 * deviation**2, rel=0.1)
    expected = 64 * deviation**2 / float(mean @ mean)
    assert float(gram.noise_scale(matrix, batch_size)) == pytest.approx(expected, rel=0.25)


@pytest.mark.parametrize("dimension", [10, 100])
def test_isotropic_noise_has_the_dimension_of_its_space(dimension: int) -> None:
    x = vectors(40, 128)
    x[:, dimension:] = 0
    x += 7 * vectors(1, 128, seed=3)  # what all have in common cancels
    assert float(gram.effective_dimension(x @ x.T)) == pytest.approx(dimension, rel=0.1)


def test_anisotropic_noise_has_the_dimension_of_its_spectrum() -> None:
    """tr(C)^2 / tr(C^2), to first order: noise along one axis is one-dimensional."""
    x = vectors(12, 50)
    x[:, 0] *= 1000
    assert float(gram.effective_dimension(x @ x.T)) == pytest.approx(1, rel=0.05)


def test_what_is_undefined_is_nan() -> None:
    x = vectors(3, 10)
    assert gram.effective_dimension(x @ x.T).isnan(), "no two differences without a common batch"
    same = torch.ones(5, 10, dtype=torch.float64)
    assert gram.effective_dimension(same @ same.T).isnan(), "no noise"
    opposed = torch.eye(4, dtype=torch.float64) - 0.3
    assert gram.noise_scale(opposed, 1).isnan(), "the estimate of the signal is negative"


def test_packing_gives_the_matrix_back() -> None:
    x = vectors(4, 10)
    matrices = torch.stack([x @ x.T, 2 * (x @ x.T)])
    packed = gram.pack(matrices)
    assert packed.shape == (2, 10)
    assert torch.equal(gram.unpack(packed, 4), matrices)
