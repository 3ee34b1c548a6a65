"""Chunked sums against exact sums, at every block boundary and at the sizes of real networks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

import pytest
import torch
from torch import Tensor

from geometry import reductions
from geometry.reductions import ROW, Body, RowReducer

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def vectors(count: int, size: int, device: str, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(count, size, generator=generator, dtype=torch.float64)
    return list(drawn.to(dtype).to(device))


def products(*pairs: tuple[Tensor, Tensor]) -> Body:
    def body(block: slice, scratch: Sequence[Tensor]) -> Sequence[tuple[Tensor, Tensor]]:
        return [(x[block], y[block]) for x, y in pairs]

    return body


def displacement(gradient: Tensor, weights: Tensor, reference: Tensor) -> Body:
    """<G, D>, ‖D‖^2 with D built in scratch."""

    def body(block: slice, scratch: Sequence[Tensor]) -> Sequence[tuple[Tensor, Tensor]]:
        moved = torch.sub(weights[block], reference[block], out=scratch[0])
        return (gradient[block], moved), (moved, moved)

    return body


def sums(device: str, reducer: RowReducer, num_sums: int, body: Body) -> Tensor:
    out = torch.full((num_sums,), math.nan, dtype=torch.float64, device=device)
    reducer.sums(num_sums, body, out)
    return out.cpu()


def exact(x: Tensor, y: Tensor) -> float:
    """The exact sum of the exact products."""
    pairs = zip(x.double().tolist(), y.double().tolist(), strict=True)
    return math.fsum(a * b for a, b in pairs)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 4 rows, so that small vectors have whole, ragged and single blocks."""
    monkeypatch.setitem(reductions.BLOCKS, "cpu", 4 * ROW)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("num_rows", [1, 3, 4, 5, 8, 11])
@pytest.mark.parametrize("device", DEVICES)
def test_sums_are_exact_in_float64_at_every_block_boundary(device: str, num_rows: int) -> None:
    size = num_rows * ROW
    x, y, z = vectors(3, size, device, torch.float64)
    reducer = RowReducer(size, torch.device(device), torch.float64)
    inner, norm, self_product = sums(device, reducer, 3, products((x, y), (z, z), (x, x))).tolist()
    assert inner == pytest.approx(exact(x, y), abs=1e-13 * size)
    assert norm == pytest.approx(exact(z, z), rel=1e-14)
    assert self_product == pytest.approx(exact(x, x), rel=1e-14)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("device", DEVICES)
def test_vectors_built_in_scratch_are_summed_block_by_block(device: str) -> None:
    size = 11 * ROW
    gradient, weights, reference = vectors(3, size, device, torch.float64)
    before = [gradient.clone(), weights.clone(), reference.clone()]
    reducer = RowReducer(size, torch.device(device), torch.float64)
    inner, distance_squared = sums(
        device, reducer, 2, displacement(gradient, weights, reference)
    ).tolist()
    moved = weights - reference
    assert inner == pytest.approx(exact(gradient, moved), abs=1e-12)
    assert distance_squared == pytest.approx(exact(moved, moved), rel=1e-14)
    for now, then in zip((gradient, weights, reference), before, strict=True):
        assert torch.equal(now, then)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("device", DEVICES)
def test_segment_sums_are_the_sums_of_each_segment_and_add_up(device: str) -> None:
    rows = [1, 5, 2, 3]
    size = sum(rows) * ROW
    x, y = vectors(2, size, device)
    reducer = RowReducer(size, torch.device(device), torch.float32)
    body = products((x, y), (x, x))
    out = torch.full((2, 4), math.nan, dtype=torch.float64, device=device)
    reducer.segment_sums(2, body, torch.tensor(rows, device=device), out)
    stops = [ROW * stop for stop in accumulate(rows)]
    for index, (num_rows, stop) in enumerate(zip(rows, stops, strict=True)):
        segment = slice(stop - ROW * num_rows, stop)
        part, other = x[segment], y[segment]
        assert float(out[0, index]) == pytest.approx(exact(part, other), abs=1e-4)
        assert float(out[1, index]) == pytest.approx(exact(part, part), rel=1e-7)
    torch.testing.assert_close(
        out.sum(1).cpu(), sums(device, reducer, 2, body), rtol=1e-13, atol=1e-10
    )


def check_accuracy(size: int, device: str) -> None:
    """Every sum 1e-7 relative and gamma 1e-8 absolute, against float64 (the project's target)."""
    gradient, weights, reference = vectors(3, size, device)
    # A reference as near as that of a real run, and a gradient that points to it a little.
    reference = weights + 0.01 * reference
    gradient = 1e-3 * gradient + 0.01 * (weights - reference)
    gradient.mul_(torch.linspace(0.1, 3, size, device=device))
    reducer = RowReducer(size, torch.device(device), torch.float32)
    measured = torch.cat(
        [
            sums(device, reducer, 2, displacement(gradient, weights, reference)),
            sums(device, reducer, 1, products((gradient, gradient))),
        ]
    )
    moved, exact_gradient = weights.double() - reference.double(), gradient.double()
    oracle = torch.stack(
        [
            (exact_gradient * moved).sum(),
            moved.square().sum(),
            exact_gradient.square().sum(),
        ]
    ).cpu()
    torch.testing.assert_close(measured, oracle, rtol=1e-7, atol=0)
    gamma, exact_gamma = (s[0] / (s[1] * s[2]).sqrt() for s in (measured, oracle))
    assert abs(gamma - exact_gamma) < 1e-8
    assert abs(exact_gamma) > 0.01


@pytest.mark.parametrize("device", DEVICES)
def test_accuracy_at_the_size_of_a_resnet18(device: str) -> None:
    check_accuracy(11_173_962 // ROW * ROW, device)


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
def test_accuracy_at_the_size_of_the_large_mlp(device: str) -> None:
    check_accuracy(46_190_602 // ROW * ROW, device)


@pytest.mark.parametrize("device", DEVICES)
def test_a_sum_is_bitwise_the_same_alone_together_and_again(device: str) -> None:
    x, y = vectors(2, 100 * ROW, device)
    reducer = RowReducer(100 * ROW, torch.device(device), torch.float32)
    alone = sums(device, reducer, 1, products((x, y)))
    together = sums(device, reducer, 3, products((x, x), (x, y), (y, y)))
    assert torch.equal(together[1:2], alone)
    assert torch.equal(sums(device, reducer, 1, products((x, y))), alone)
    assert not torch.equal(together[:1], together[2:])


@pytest.mark.parametrize("device", DEVICES)
def test_autocast_does_not_touch_the_sums(device: str) -> None:
    x, y = vectors(2, 100 * ROW, device)
    reducer = RowReducer(100 * ROW, torch.device(device), torch.float32)
    plain = sums(device, reducer, 1, products((x, y)))
    with torch.autocast(device, dtype=torch.bfloat16):
        assert torch.equal(sums(device, reducer, 1, products((x, y))), plain)


def test_writes_into_a_slice_of_a_larger_buffer_and_nowhere_else() -> None:
    (x,) = vectors(1, 2 * ROW, "cpu")
    table = torch.full((3, 6), -1.0, dtype=torch.float64)
    RowReducer(2 * ROW, torch.device("cpu"), torch.float32).sums(1, products((x, x)), table[1][2:3])
    assert float(table[1, 2]) == pytest.approx(exact(x, x), rel=1e-7)
    assert int((table == -1).sum()) == 17


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_stays_visible(value: float) -> None:
    (x,) = vectors(1, 2 * ROW, "cpu")
    x[300] = value
    total = sums(
        "cpu", RowReducer(2 * ROW, torch.device("cpu"), torch.float32), 1, products((x, x))
    )
    assert total.isnan().all() if math.isnan(value) else total.isinf().all()


def test_a_size_that_is_no_multiple_of_the_row_is_refused() -> None:
    with pytest.raises(ValueError, match=r"size 300 is not a multiple of 256; use FlatLayout"):
        RowReducer(300, torch.device("cpu"), torch.float32)
