"""What the Gram matrix of K batch gradients at one w tells: the batch law, noise, its dimension.

Notation: g_1, ..., g_K are gradients of K independent batches of b examples each, at the same w;
gram[i, j] = <g_i, g_j>, float64, shape [..., K, K]; D = w - w*. With

    diagonal = mean_i ‖g_i‖^2            estimates ‖g‖^2 + tr S_b
    crossed  = mean_{i != j} <g_i, g_j>  estimates ‖g‖^2, without bias

where g is the gradient over all examples and S_b the covariance of a batch gradient.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from geometry.reductions import BLOCKS, ROW

ROWS_AT_A_TIME = 256
"""Rows of each vector in one batched product: 256 KiB of float32, which stays in cache; twice as
fast as all rows at once."""


def gram_matrix(vectors: Tensor) -> Tensor:
    """<x_i, x_j> of K long vectors, in one sweep through memory; float64, shape [K, P] -> [K, K].

    P is a multiple of `ROW`. On the CPU rows of 256 elements are multiplied in the vectors' own
    precision and added in float64, as `RowReducer` does, 10 times as fast as pair by pair. On a GPU
    blocks are multiplied in float64, which TF32 does not touch.
    """
    num = len(vectors)
    by_row = vectors.view(num, -1, ROW).transpose(0, 1)
    total = vectors.new_zeros(num, num, dtype=torch.float64)
    with torch.autocast(vectors.device.type, enabled=False):
        if vectors.device.type == "cpu":
            for rows in torch.split(by_row, ROWS_AT_A_TIME):
                total += torch.bmm(rows, rows.transpose(1, 2)).sum(0, dtype=torch.float64)
        else:
            for block in torch.split(vectors, BLOCKS[vectors.device.type], dim=1):
                exact = block.double()
                total.addmm_(exact, exact.T)
    return total


def diagonal_and_crossed(gram: Tensor) -> tuple[Tensor, Tensor]:
    """The means over i and over i != j of a Gram matrix: [..., K, K] -> [...] each; K >= 2."""
    num = gram.shape[-1]
    trace = gram.diagonal(dim1=-2, dim2=-1).sum(-1)
    return trace / num, (gram.sum((-2, -1)) - trace) / (num * (num - 1))


def averaged_squared(gram: Tensor) -> Tensor:
    """‖g at batch size k b‖^2 for k = 1..K: crossed + (diagonal - crossed) / k.

    It is the mean of ‖(1/k) sum_{i in A} g_i‖^2 over all subsets A of k of the K batches, so that
    k = K gives the squared norm of the mean of all. <g at k b, D> needs no matrix: it is the mean
    of <g_i, D> for every k, by linearity. Both at the same w (INVENTORY G05).
    Shape: [..., K, K] -> [..., K]. Range: [0, inf) up to rounding.
    """
    diagonal, crossed = diagonal_and_crossed(gram)
    counts = torch.arange(1, gram.shape[-1] + 1, dtype=gram.dtype, device=gram.device)
    return crossed.unsqueeze(-1) + (diagonal - crossed).unsqueeze(-1) / counts


def noise_trace(gram: Tensor, batch_size: int) -> Tensor:
    """The trace of the covariance S of one example's gradient: tr S = b (diagonal - crossed).

    Shape: [..., K, K] -> [...]. Range: [0, inf) up to rounding.
    Source: McCandlish et al. 2018, "An Empirical Model of Large-Batch Training", appendix A.
    """
    diagonal, crossed = diagonal_and_crossed(gram)
    return batch_size * (diagonal - crossed)


def noise_scale(gram: Tensor, batch_size: int) -> Tensor:
    """B_simple = tr S / ‖g‖^2, in examples: batches below it are dominated by noise.

    Shape: [..., K, K] -> [...]. NaN where the estimate of ‖g‖^2 is not positive.
    Source: McCandlish et al. 2018, eq. 2.9, with both parts estimated without bias.
    """
    _, crossed = diagonal_and_crossed(gram)
    return noise_trace(gram, batch_size) / crossed.masked_fill(crossed <= 0, math.nan)


def effective_dimension(gram: Tensor) -> Tensor:
    """d_eff = 1 / E cos^2(x, y) for independent noise vectors x, y of the gradients.

    The noise vectors are the differences g_i - g_j, from which g cancels; the mean is over all
    pairs of differences without a batch in common. Isotropic noise in d dimensions gives d.
    Shape: [..., K, K] -> [...]. Range: [1, inf); NaN for K < 4, or where two batches are equal.
    Source: INVENTORY G06.
    """
    first, second = torch.triu_indices(gram.shape[-1], gram.shape[-1], 1, device=gram.device)
    # <g_i - g_j, g_k - g_l> for every two pairs (i, j), (k, l)
    inner = (
        gram[..., first, :][..., first]
        - gram[..., first, :][..., second]
        - gram[..., second, :][..., first]
        + gram[..., second, :][..., second]
    )
    squares = inner.diagonal(dim1=-2, dim2=-1)
    cosines_squared = inner.square() / (squares.unsqueeze(-1) * squares.unsqueeze(-2))
    pairs = torch.stack([first, second])
    shared = (pairs[:, None, :, None] == pairs[None, :, None, :]).any(0).any(0)
    return 1 / cosines_squared[..., ~shared].mean(-1)


def pack(gram: Tensor) -> Tensor:
    """The upper triangle of symmetric matrices: [..., K, K] -> [..., K (K + 1) / 2]."""
    rows, columns = torch.triu_indices(gram.shape[-1], gram.shape[-1], device=gram.device)
    return gram[..., rows, columns]


def unpack(packed: Tensor, num: int) -> Tensor:
    """The symmetric matrices that `pack` was given: [..., K (K + 1) / 2] -> [..., K, K]."""
    rows, columns = torch.triu_indices(num, num, device=packed.device)
    gram = packed.new_empty(*packed.shape[:-1], num, num)
    gram[..., rows, columns] = packed
    gram[..., columns, rows] = packed
    return gram
