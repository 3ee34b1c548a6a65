"""Sums over long vectors, exact to about 1e-8 relative, in one sweep through memory.

Rows of 256 elements are summed in the vectors' own precision, the rows in float64. The vectors are
walked in blocks with kept scratch, which stay in cache on the CPU and keep the scratch small on a
GPU. No matrix product is used: TF32 and autocast would touch it. A flat float32 norm of 11 M
weights is off by 4e-4, this by less than 2e-8.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

ROW = 256
"""Elements per row; the alignment of every parameter in the flat buffers (DESIGN section 5)."""

BLOCKS = {"cpu": 2**20, "cuda": 2**22}
"""Elements per block: 4 MiB of float32 on the CPU, the fastest of the sizes tried; 16 MiB on a GPU,
ours, untuned: three blocks of scratch are then one vector of 12 M weights, and less of longer ones.
"""


class Scratch:
    """Tensors of a block's length to build vectors in: made when first asked for, then kept."""

    def __init__(self, pool: list[Tensor], length: int) -> None:
        self._pool = pool
        self._length = length
        self._views: list[Tensor] = []

    def __getitem__(self, index: int) -> Tensor:
        """The scratch tensor of that number; all blocks share its memory."""
        while len(self._views) <= index:
            if len(self._pool) == len(self._views):
                self._pool.append(torch.empty_like(self._pool[0]))
            # views are made once: on small networks making them takes as long as the sums
            self._views.append(self._pool[len(self._views)][: self._length])
        return self._views[index]


Body = Callable[[slice, Scratch], Iterable[tuple[Tensor, Tensor]]]
"""Given a block and scratch tensors of its length, the pairs of vectors whose products to sum. Each
pair is summed before the next is asked for, and the last before the iteration ends."""


class RowReducer:
    """Computes sums sum_i x_i y_i of several pairs of vectors built on the fly, block by block.

    Memory: a block for products, one for every vector that the pairs have built, and one partial
    sum per row of 256 elements and pair.
    """

    def __init__(self, size: int, device: torch.device, dtype: torch.dtype) -> None:
        if size % ROW:
            raise ValueError(f"size {size} is not a multiple of {ROW}; use FlatLayout's size")
        self.size = size
        self.device = device
        self.dtype = dtype
        self.block = min(size, BLOCKS[device.type])
        product = torch.empty(self.block, device=device, dtype=dtype)
        pool = [torch.empty_like(product)]
        spans = [slice(i, min(i + self.block, size)) for i in range(0, size, self.block)]
        lengths = [span.stop - span.start for span in spans]
        self._blocks = [
            (span, Scratch(pool, length), product[:length])
            for span, length in zip(spans, lengths, strict=True)
        ]
        self._partials: dict[int, tuple[Tensor, list[tuple[Tensor, ...]]]] = {}

    def sums(self, num_sums: int, body: Body, out: Tensor) -> None:
        """Write the sums over the whole vectors to `out`, shape [num_sums], float64."""
        torch.sum(self._rows(num_sums, body), 1, dtype=torch.float64, out=out)

    def segment_sums(self, num_sums: int, body: Body, rows: Tensor, out: Tensor) -> None:
        """Write the sums over consecutive segments to `out`, shape [num_sums, segments], float64.

        `rows` holds the number of rows of each segment, shape [segments], on the same device.
        """
        partials = self._rows(num_sums, body).double()
        lengths = rows.expand(num_sums, -1)
        out.copy_(torch.segment_reduce(partials, "sum", lengths=lengths, axis=1, unsafe=True))

    def _rows(self, num_sums: int, body: Body) -> Tensor:
        partials, targets_of_blocks = self._targets(num_sums)
        for (span, scratch, product), targets in zip(self._blocks, targets_of_blocks, strict=True):
            for (x, y), target in zip(body(span, scratch), targets, strict=True):
                if x is y:  # one reading of x, where a product is written and read again
                    torch.linalg.vector_norm(x.view(-1, ROW), dim=1, out=target).square_()
                else:
                    torch.mul(x, y, out=product)
                    torch.sum(product.view(-1, ROW), 1, out=target)
        return partials

    def _targets(self, num_sums: int) -> tuple[Tensor, list[tuple[Tensor, ...]]]:
        """The row sums of that many pairs, and their parts by block and pair."""
        if num_sums not in self._partials:
            _, _, product = self._blocks[0]
            partials = product.new_empty(num_sums, self.size // ROW)
            parts = torch.split(partials, self.block // ROW, dim=1)
            self._partials[num_sums] = partials, [part.unbind(0) for part in parts]
        return self._partials[num_sums]
