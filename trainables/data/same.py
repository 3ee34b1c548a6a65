"""Results belong to the content of the data that they were computed from.

A config names files, and other files may go by the same names: another subset, edited images, other
words. Results of both are never mixed.
"""

from __future__ import annotations

from pathlib import Path

from trainables.data.contract import DataConfig
from trainables.errors import UserError

SHOWN = 12
"""Hexadecimal digits of a digest in a line for the user; ours."""


def check_same(what: str, data: DataConfig, root: Path, used: str, found: str) -> None:
    """Refuse to go on with results of other data than those in the data folder.

    `what` are the results, `used` is the digest of the data that they were computed from, `found`
    that of those in `root`.

    Raises:
        UserError: they differ.
    """
    if used != found:
        raise UserError(
            f"{what}: computed from data {data.name} with digest {used[:SHOWN]}, and those in "
            f"{root} have {found[:SHOWN]} now; point OPTPATH_DATA at the former, or keep the "
            "results of these apart: --storage DIR"
        )
