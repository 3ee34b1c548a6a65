"""The contract of a model: options that build a freshly initialised network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import nn

from trainables.registry import Member


class ModelConfig(Member, ABC):
    """Options of one architecture.

    `build` draws its initial weights from torch's default generator, which the caller has seeded
    (`randomness.seeded`), and uses no other randomness. A network that gets no gradient in some
    parameters is allowed: those parameters stay outside the measured vector.
    """

    data_kind: ClassVar[str] = "images"
    """The kind of data that it takes in (`DataConfig.kind`)."""
    channels_last: ClassVar[bool] = False
    """True where channels_last was measured to be the faster memory format."""

    @abstractmethod
    def build(self, input_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
        """The network for one input of that shape (without the batch dimension), on the CPU.

        Raises:
            UserError: the architecture does not fit the input shape.
        """
