"""Full-batch gradients: one exact pass over a split, accumulated over fixed chunks."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from torch import Tensor, nn

from trainables.config import RunConfig
from trainables.errors import UserError
from trainables.tasks.contract import ExampleTask, ExampleTaskConfig, Task

CHUNK_BYTES = 2 * 2**30
"""Activations that `chunk: auto` lets a chunk keep; ours, untuned. The same on every machine, since
the chunk is part of a trajectory's identity, which must not depend on where it was planned."""


Autocast = Callable[[], AbstractContextManager[None]]
"""Makes the context of a forward pass: the run's precision."""


def auto_chunk(example_bytes: int, num_examples: int) -> int:
    """The chunk that `chunk: auto` stands for: the size of the largest of the fewest equal chunks.

    floor(CHUNK_BYTES / example_bytes) examples fit, at least 1; ceil(n / ceil(n / fit)) is the
    least number that gives the same chunks.
    """
    fit = max(1, min(num_examples, CHUNK_BYTES // max(1, example_bytes)))
    number = -(-num_examples // fit)
    return -(-num_examples // number)


def example_bytes(config: RunConfig, data_root: Path) -> int:
    """What one training example of a full-batch run keeps, at most; see `ExampleTaskConfig`."""
    assert isinstance(config.task, ExampleTaskConfig), "refused when the config was validated"
    return config.task.example_bytes(config, data_root)


def chunks(num_examples: int, at_most: int) -> tuple[slice, ...]:
    """The examples in order, in the fewest chunks of at most that many, as equal as can be.

    Sizes differ by one at most, so that no chunk is a remainder whose batch statistics would be
    those of a few examples. Shape: K = ceil(num_examples / at_most) slices.
    """
    number = -(-num_examples // at_most)
    bounds = [index * num_examples // number for index in range(number + 1)]
    return tuple(slice(a, b) for a, b in itertools.pairwise(bounds))


def add_gradient(
    task: ExampleTask, model: nn.Module, split: str, parts: Sequence[slice], autocast: Autocast
) -> Tensor:
    """Add the gradient of L = sum_k (n_k / n) L_k to `.grad`; L as a float64 device scalar.

    L_k is the mean loss of chunk k, n_k its size, n their sum: without batch statistics the result
    does not depend on the chunking. The backward pass of a chunk frees its activations before the
    next one begins. Source: P2 section 2; INVENTORY D6.
    """
    total = sum(part.stop - part.start for part in parts)
    mean = torch.zeros((), dtype=torch.float64, device=next(model.parameters()).device)
    for part in parts:
        with autocast():
            loss = task.loss_on(model, split, part)
        share = loss * ((part.stop - part.start) / total)
        share.backward()
        mean += share.detach()
    return mean


def training_chunks(config: RunConfig, task: Task) -> tuple[slice, ...]:
    """The chunks of a full-batch run's step; none for a run with minibatches.

    Raises:
        UserError: the chunk is still `auto`, or larger than the data.
    """
    if config.batch_size != "full":
        return ()
    assert isinstance(task, ExampleTask), "refused when the config was validated"
    num_examples = task.num_examples("train")
    check_chunk(config, num_examples)
    if config.chunk == "auto":
        raise UserError("chunk: auto is chosen when a sweep is planned; give a number here")
    return chunks(num_examples, config.chunk)


def check_chunk(config: RunConfig, num_examples: int) -> None:
    """Refuse a chunk that is larger than the data, with a UserError."""
    if config.chunk != "auto" and config.chunk > num_examples:
        raise UserError(
            f"chunk: {config.chunk} is larger than the {num_examples} training examples of "
            f"{config.data.name}; give at most {num_examples}, or auto"
        )
