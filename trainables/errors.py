"""Errors that are for the user: one line that says what is wrong, where, and what to type."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake of the user's: the CLI prints its one line and exits with 2."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The hint that ends an error about an unknown name: the near names first, else all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"known: {', '.join(names)}"
