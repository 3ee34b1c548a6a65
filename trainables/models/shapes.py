"""What several models say about shapes."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from trainables.errors import UserError

Width = Annotated[int, Field(ge=1)]
"""Number of units or channels of a layer."""


def image_shape(model: str, input_shape: tuple[int, ...]) -> tuple[int, int, int]:
    """The input's channels, height and width; a UserError if it is no image."""
    if len(input_shape) != 3:
        raise UserError(f"model {model} needs images [C, H, W], got {input_shape}; use model mlp")
    channels, height, width = input_shape
    return channels, height, width


def divisible_image_shape(
    model: str, input_shape: tuple[int, ...], divisor: int
) -> tuple[int, int, int]:
    """`image_shape`; a UserError too if the sides are no multiples of `divisor`."""
    channels, height, width = image_shape(model, input_shape)
    if height % divisor or width % divisor:
        raise UserError(
            f"model {model} needs sides that are multiples of {divisor}, got {height}x{width}; "
            f"set data.patch_size={max(divisor, height // divisor * divisor)}"
        )
    return channels, height, width
