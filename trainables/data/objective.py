"""What the synthetic objectives share: a function of one weight vector, with drawn constants."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from trainables.data.contract import DataConfig, LoadedData, SplitSizes
from trainables.randomness import generator


class Objective(ABC):
    """A function f(w) of the weights w, shape [d], that a minibatch sees in part or with noise."""

    def __init__(self, num_examples: int, constants: Mapping[str, Tensor]) -> None:
        self.num_examples = num_examples
        self.constants = dict(constants)

    def __len__(self) -> int:
        """Number of examples."""
        return self.num_examples

    def move(self, device: torch.device) -> None:
        """Bring the constants to a device."""
        self.constants = {name: value.to(device) for name, value in self.constants.items()}

    @abstractmethod
    def loss(self, weights: Tensor, examples: Tensor, draw: torch.Generator) -> Tensor:
        """The minibatch's loss at w: shape [d], examples int64 [b] -> [], differentiable.

        `draw` is seeded by the step; what is drawn from it is the step's noise.
        """

    @abstractmethod
    def mean(self, weights: Tensor, examples: slice | Tensor) -> Tensor:
        """The same without noise, of chosen examples: shape [d] -> [], differentiable."""

    @abstractmethod
    def value(self, weights: Tensor) -> Tensor:
        """f(w) without noise, over all examples: shape [d] -> []; NaN where there is no such."""


@dataclass(frozen=True)
class ObjectiveData(LoadedData):
    """A loaded objective; `validation` is the same function where nothing can be held out."""

    dimension: int
    train: Objective
    validation: Objective
    test: None = None


class ObjectiveConfig(DataConfig, ABC):
    """Options of every synthetic objective; the model `vector` is its w."""

    kind: ClassVar[str] = "objective"
    licence: ClassVar[str] = "none needed: drawn numbers"
    generated: ClassVar[bool] = True

    dimension: int = Field(default=10, ge=1)
    """d, the number of weights."""
    num_examples: int = Field(default=100, ge=1)
    """Examples of an epoch; where all are equal, it only says how long an epoch is."""
    constants_seed: int = Field(default=0, ge=0)
    """Seed of the constants of the function, as far as they are drawn."""

    def sizes(self, root: Path) -> SplitSizes:
        """As many validation as training examples, none to test."""
        return SplitSizes(self.num_examples, self.num_examples, 0)

    def signature(self, root: Path) -> tuple[tuple[int, ...], int]:
        """The weights' shape, and one output: the loss."""
        return (self.dimension,), 1

    def prepare(self, root: Path) -> None:
        """Nothing to prepare."""

    def load(self, root: Path) -> ObjectiveData:
        """The function; drawn anew each time, always the same."""
        train, validation = self.objective("train"), self.objective("validation")
        content = hashlib.sha256(json.dumps([self.name, self.model_dump(mode="json")]).encode())
        for constant in (*train.constants.values(), *validation.constants.values()):
            content.update(constant.numpy().tobytes())
        return ObjectiveData(content.hexdigest(), self.dimension, train, validation)

    @abstractmethod
    def objective(self, split: str) -> Objective:
        """The function that this split sees, its constants on the CPU."""

    def drawn(self, *shape: int, what: str) -> Tensor:
        """Normal constants N(0, 1), float32, drawn from the constants' seed and their own name."""
        return torch.randn(shape, generator=generator(self.constants_seed, self.name, what))
