"""Counting a planned run's weights without allocating them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch

from trainables.config import RunConfig
from trainables.data.contract import DataConfig
from trainables.models.contract import ModelConfig


def num_weights(config: RunConfig, data_root: Path) -> int:
    """P, the number of weights; tied ones count once."""
    return _count(config.model, config.data, data_root)


@cache
def _count(model: ModelConfig, data: DataConfig, data_root: Path) -> int:
    shape, num_classes = data.signature(data_root)
    with torch.device("meta"):
        network = model.build(shape, num_classes)
    return sum(parameter.numel() for parameter in network.parameters())
