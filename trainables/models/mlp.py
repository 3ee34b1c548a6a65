"""Multilayer perceptron on flattened inputs."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import ClassVar

from pydantic import Field
from torch import nn

from trainables.models.contract import ModelConfig
from trainables.models.shapes import Width


class MLP(ModelConfig):
    """Linear-ReLU for every hidden width, then Linear, with torch's default initialisation.

    The output is logits: P1's Medium-MLP ends in log_softmax, which a cross entropy that applies
    log_softmax itself does not see. That network is hidden = (4096, 4096, 4096) on 3x32x32.
    """

    name: ClassVar[str] = "mlp"

    hidden: tuple[Width, ...] = (128, 128)
    """Widths of the hidden layers; () is multinomial logistic regression."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Probability of dropping a hidden unit, after each ReLU; at 0 there is no dropout module."""

    def build(self, input_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
        """The network; an input of any shape is flattened."""
        widths = (math.prod(input_shape), *self.hidden)
        layers: list[nn.Module] = [nn.Flatten()]
        for fan_in, fan_out in pairwise(widths):
            layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
            if self.dropout:
                layers.append(nn.Dropout(self.dropout))
        return nn.Sequential(*layers, nn.Linear(widths[-1], num_outputs))
