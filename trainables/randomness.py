"""Counter-based randomness: every draw is seeded by a hash of its named seed and its counters.

Nothing random depends on what was drawn before, so replay, resume and "what would step 1234 have
done" are the same call.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def fold(seed: int, *counters: int | str) -> int:
    """A 63-bit seed that is a hash of (seed, counters).

    A hash and not arithmetic: torch's CPU generator uses only the low 32 bits of a seed, so
    `(seed << 32) + t` would give every seed the same draws.
    """
    text = "/".join(str(part) for part in (seed, *counters))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(seed: int, *counters: int | str) -> torch.Generator:
    """A CPU generator for one draw, seeded by `fold`."""
    return torch.Generator().manual_seed(fold(seed, *counters))


@contextmanager
def seeded(seed: int, *counters: int | str) -> Iterator[None]:
    """Run a block with torch's default CPU generator seeded by `fold`; put it back afterwards."""
    state = torch.get_rng_state()
    torch.default_generator.manual_seed(fold(seed, *counters))
    try:
        yield
    finally:
        torch.set_rng_state(state)


@contextmanager
def kept_generator(device: torch.device) -> Iterator[None]:
    """Put the default generator of that device back to where it stood, after the block."""
    cuda = device.type == "cuda"
    state = torch.cuda.get_rng_state(device) if cuda else torch.get_rng_state()
    try:
        yield
    finally:
        torch.cuda.set_rng_state(state, device) if cuda else torch.set_rng_state(state)


def reseed_default(seed: int, step: int, device: torch.device) -> None:
    """Re-seed the default generator that dropout and attention draw from on that device.

    1 us on the CPU, where `torch.manual_seed` takes 95 us because it visits every backend.
    """
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(fold(seed, step))
    else:
        torch.default_generator.manual_seed(fold(seed, step))
