"""A ring of the last vectors of a run, block by block, on the device or on the host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

KeepOn = Literal["device", "host"]


class Ring:
    """The last `length` vectors of shape [size], lag 1 the newest; zeros before the first ones.

    Block by block the oldest is read and then overwritten by the vector of now, so that no copy is
    needed beside them; `advance` makes that one lag 1. Kept on the host they cost no device memory;
    every block that is read then crosses over once, from pinned memory and in the stream's order,
    so that nothing waits. In a shorter dtype than the vectors' own they are rounded when written.
    """

    def __init__(
        self, length: int, size: int, *, dtype: torch.dtype, device: torch.device, on: KeepOn
    ) -> None:
        self._device = device
        place = torch.device("cpu") if on == "host" else device
        pinned = place.type == "cpu" and device.type == "cuda"
        self._kept = torch.zeros(length, size, dtype=dtype, device=place, pin_memory=pinned)
        self._rows = self._kept.unbind(0)
        self._oldest = 0
        self.count = 0
        """Vectors that it holds, at most `length`."""

    def read(self, lag: int, block: slice) -> Tensor:
        """A block of the vector of `lag` steps ago, on the device; lag 1 to `length`."""
        row = self._rows[(self._oldest - lag) % len(self._rows)]
        return row[block].to(self._device, non_blocking=True)

    def overwrite(self, block: slice, values: Tensor) -> None:
        """Write a block of the vector of now over the oldest one's, which has been read."""
        rounded = values.to(self._kept.dtype)  # on the device: a copy that converts would wait
        self._rows[self._oldest][block].copy_(rounded, non_blocking=True)

    def advance(self) -> None:
        """The vector of now, written in whole, becomes lag 1."""
        self._oldest = (self._oldest + 1) % len(self._rows)
        self.count = min(self.count + 1, len(self._rows))

    def state(self) -> dict[str, Tensor]:
        """The vectors, their bytes as they are, and where the oldest stands."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)  # copies to the host may be under way
        place = torch.tensor([self._oldest, self.count])
        return {"vectors": self._kept.view(torch.uint8), "place": place}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take up what `state` gave."""
        self._kept.view(torch.uint8).copy_(state["vectors"])
        self._oldest, self.count = (int(value) for value in state["place"])
