"""Batches computed ahead by threads: the same ones whatever the number of threads."""

from __future__ import annotations

import os
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

import torch

from trainables.errors import UserError

DECODERS_VARIABLE = "OPTPATH_DECODERS"
"""Number of decoding threads per run; 0 decodes in the training thread. It changes no result."""

BATCHES_AHEAD = 4
"""Batches in the making while one is trained on; ours, untuned: 150 MB at 256x3x224x224."""

RECENT = 8
"""Requests remembered to tell a training's own, one after the other, from a probe's; ours."""


def num_decoders() -> int:
    """Decoding threads: as OPTPATH_DECODERS says, else as many as the run computes with."""
    text = os.environ.get(DECODERS_VARIABLE, "")
    if not text:
        return torch.get_num_threads()
    if not text.isdecimal():
        raise UserError(f"{DECODERS_VARIABLE}: {text!r} is no number of threads; give 0, 1, 2, ...")
    return int(text)


Item = TypeVar("Item")
Made = TypeVar("Made")


class Prefetch(Generic[Item, Made]):
    """`batch(k)` is [make(item) for item in items(k)], some of it made before it was asked for.

    `make` must be a pure function that threads may call at once, `items` cheap and pure. Batches
    after k are begun when batch k - 1 was asked for shortly before: a training walks through them
    in order, what looks elsewhere does not. An exception of `make` is raised by the `batch` that it
    belongs to.
    """

    def __init__(
        self, items: Callable[[int], Sequence[Item]], make: Callable[[Item], Made], num_threads: int
    ) -> None:
        self._items = items
        self._make = make
        self._begun: dict[int, list[Future[Made]]] = {}
        self._recent: deque[int] = deque(maxlen=RECENT)
        self._pool: ThreadPoolExecutor | None = None
        if num_threads:
            pool = ThreadPoolExecutor(num_threads, thread_name_prefix="decode")
            self._pool = pool
            weakref.finalize(self, pool.shutdown, wait=False, cancel_futures=True)

    def batch(self, index: int) -> list[Made]:
        """The batch of that index, at any time and in any order."""
        if self._pool is None:
            return [self._make(item) for item in self._items(index)]
        self._begin(index)
        futures = self._begun.pop(index)
        if index - 1 in self._recent:
            self._begin_after(index)
        self._recent.append(index)
        return [future.result() for future in futures]

    def made(self, items: Sequence[Item]) -> list[Made]:
        """Those items, made now, by all threads."""
        if self._pool is None:
            return [self._make(item) for item in items]
        return list(self._pool.map(self._make, items))

    def _begin_after(self, index: int) -> None:
        wanted = range(index + 1, index + 1 + BATCHES_AHEAD)
        for other in self._begun.keys() - set(wanted):
            for future in self._begun.pop(other):
                future.cancel()
        for later in wanted:
            self._begin(later)

    def _begin(self, index: int) -> None:
        if index not in self._begun and self._pool is not None:
            pool = self._pool
            self._begun[index] = [pool.submit(self._make, item) for item in self._items(index)]
