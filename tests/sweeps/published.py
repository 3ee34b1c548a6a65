"""Sizes of data sets as published, for plans that look at no file."""

from __future__ import annotations

from typing import Any

from trainables.config import RunConfig
from trainables.data.text import TextConfig


def published_items(config: RunConfig) -> int:
    """Training examples of a language run: lines, or items of the stream."""
    task: Any = config.task
    assert isinstance(config.data, TextConfig)
    if task.items == "stream":
        return -(-(config.data.published_tokens - 1) // (task.tokens - 1))
    lines = config.data.published_lines
    whole = lines.test if config.data.training_split == "test" else lines.train
    return config.data.train_examples or whole
