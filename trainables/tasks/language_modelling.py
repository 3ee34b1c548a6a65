"""Language modelling: cross-entropy of the next word, over lines or over a stream of words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.data.text import TextConfig, TextData
from trainables.errors import UserError
from trainables.randomness import generator
from trainables.tasks.contract import Task, TaskConfig
from trainables.tasks.language_items import (
    Batches,
    Items,
    gather,
    line_pieces,
    lines,
    stream_pieces,
    used_words,
)

if TYPE_CHECKING:
    from trainables.config import RunConfig

NOT_PREDICTED = -100
"""Target that a loss leaves out: torch's default `ignore_index`."""

SHAPES = {"lines": lines, "stream": stream_pieces}
"""Option `items` -> the items of a split that the training takes."""

EVALUATION_LOGITS = 2**22
"""Logits in memory at a time in an evaluation; ours, untuned: 16 MiB of float32."""


class LanguageModelling(TaskConfig):
    """Mean cross-entropy of the next word; metric: perplexity, exp of the mean over the words.

    An example is a line, as in P1's code, so that the steps of an epoch are its: 1147 at batch size
    32 on WikiText-2. Lines are cut to `tokens` words, and lines of fewer than two are dropped
    within the minibatch, which is smaller then (INVENTORY B0, E25).
    """

    name: ClassVar[str] = "language_modelling"
    data_kind: ClassVar[str] = "text"
    judged_by: ClassVar[str] = "perplexity"

    items: Literal["lines", "stream"] = "lines"
    """lines: P1's. stream: all words in one row, cut into items of `tokens` that overlap by one,
    without shuffling, as in PyTorch's word language model; the batch's items run side by side."""
    tokens: int = Field(default=33, ge=2)
    """Most words of an item, of which all but the first are predicted. P1's code: 33."""
    padding: Literal["ignored", "predicted"] = "ignored"
    """Whether the words that fill short lines up count in the loss. P1's code predicts them, in its
    evaluation too, and evaluates cut lines (INVENTORY E24)."""

    def bind(self, config: RunConfig, data_root: Path, device: torch.device) -> Task:
        """The task, with its words as int32 tensors on the device."""
        data = config.data.load(data_root)
        assert isinstance(data, TextData), "RunConfig compares the kinds"
        return LanguageModellingTask(config, self, data, device)

    def num_train(self, config: RunConfig, data_root: Path) -> int:
        """Number of lines, blank ones included, or of items in the stream."""
        if self.items == "lines":
            return config.data.sizes(data_root).train
        assert isinstance(config.data, TextConfig), "RunConfig compares the kinds"
        return -(-(config.data.num_tokens(data_root) - 1) // (self.tokens - 1))


class LanguageModellingTask(Task):
    """Minibatches gathered from the words on the device; the order drawn a whole epoch at once."""

    metrics: ClassVar[tuple[str, ...]] = ("perplexity",)

    def __init__(
        self, config: RunConfig, options: LanguageModelling, data: TextData, device: torch.device
    ) -> None:
        self._config = config
        self._options = options
        self._data = data
        self._device = device
        splits = {"train": data.train, "validation": data.validation, "test": data.test}
        self._texts = {name: split for name, split in splits.items() if split is not None}
        self._words = {
            name: torch.from_numpy(split.tokens).to(device) for name, split in self._texts.items()
        }
        self.splits = tuple(self._texts)
        self.data_digest = data.digest
        self._items = SHAPES[options.items](data.train, options.tokens)
        self._held_out_batches: dict[int, tuple[Batches, list[int]]] = {}
        self.calendar = config.calendar(len(self._items))
        self._drawn_epoch = -1

    def build_model(self) -> nn.Module:
        """The configured architecture for this vocabulary."""
        return self._config.model.build((), self._data.num_words)

    def loss(self, model: nn.Module, step: int) -> Tensor:
        """Mean cross-entropy over the predicted words of minibatch `step`."""
        return _mean_loss(model, *self.minibatch(step))

    def minibatch(self, step: int) -> tuple[Tensor, Tensor]:
        """Words and the words that follow them, int64 [items, positions]; a pure function.

        Raises:
            UserError: a minibatch of the epoch holds no line of two words.
        """
        epoch, index = self.calendar.place(step)
        if epoch != self._drawn_epoch:
            self._draw_epoch(epoch)
        return self._predictions("train", *self._batches[index])

    def num_held_out(self, size: int) -> int:
        """As many as the validation split fills; those without a line of two words do not count."""
        return len(self._held_out(size)[1])

    def held_out_loss(self, model: nn.Module, number: int, size: int) -> Tensor:
        """Of lines cut as in the training, or of pieces of the stream."""
        batches, usable = self._held_out(size)
        return _mean_loss(model, *self._predictions("validation", *batches[usable[number]]))

    def _held_out(self, size: int) -> tuple[Batches, list[int]]:
        """Minibatches of the validation split, and which of them are whole and not empty."""
        if size not in self._held_out_batches:
            items = SHAPES[self._options.items](self._texts["validation"], self._options.tokens)
            batches = Batches(items, torch.arange(len(items)), size, self._device)
            usable = [index for index in batches.not_empty if index < len(items) // size]
            self._held_out_batches[size] = batches, usable
        return self._held_out_batches[size]

    def evaluate(self, model: nn.Module, split: str) -> dict[str, float]:
        """Mean cross-entropy and perplexity over every word that has one before it in its line.

        Lines, or the stream, are cut into items that overlap by one word, so that each is predicted
        once, from at most `tokens` - 1 words before it. With `padding` predicted: over all places
        of lines cut and filled up as in the training.
        """
        total = torch.zeros((), dtype=torch.float64, device=self._device)
        count = torch.zeros((), dtype=torch.int64, device=self._device)
        batches = self._evaluation_batches(split)
        was_training = model.training
        model.eval()
        with torch.no_grad():
            for index in batches.not_empty:
                words, targets = self._predictions(split, *batches[index])
                logits = model(words).float().flatten(0, 1)
                total += F.cross_entropy(
                    logits, targets.flatten(), ignore_index=NOT_PREDICTED, reduction="sum"
                ).double()
                count += (targets != NOT_PREDICTED).sum()
        model.train(was_training)
        mean = total / count
        return {"loss": mean.item(), "perplexity": mean.exp().item()}

    def unused_rows(self, model: nn.Module) -> Mapping[str, Tensor]:
        """The embedding's rows of the words from which no training item predicts anything."""
        items = self._items
        if self._options.padding == "predicted":  # from a short line's last word as well
            filled = (items.lengths < self._options.tokens) & items.usable()
            items = Items(items.starts, items.lengths + filled)
        used = used_words(self._data.train, items, self._data.num_words)
        if self._options.padding == "predicted":
            used[self._data.padding] = True
        return {
            f"{name}.weight": (~used).nonzero().squeeze(1).to(self._device)
            for name, module in model.named_modules()
            if isinstance(module, nn.Embedding)
        }

    def _draw_epoch(self, epoch: int) -> None:
        size = self._batch_size(epoch)
        num_used = self._config.steps_per_epoch(len(self._items), epoch) * size
        if self._options.items == "stream":
            # column k of the minibatch runs through the items k S .. k S + S - 1
            order = torch.arange(num_used).view(size, -1).t().flatten()
        else:
            draw = generator(self._config.seed_for("data_order"), epoch)
            order = torch.randperm(len(self._items), generator=draw)[:num_used]
        self._batches = Batches(self._items, order, size, self._device)
        if self._batches.empty:
            raise UserError(
                f"batch_size: minibatch {self._batches.empty[0]} of epoch {epoch} holds no line of "
                f"two words, all {size} are shorter; give a larger batch size"
            )
        self._drawn_epoch = epoch

    def _batch_size(self, epoch: int) -> int:
        return self._config.examples_per_step(len(self._items), epoch)

    def _evaluation_batches(self, split: str) -> Batches:
        text, tokens = self._texts[split], self._options.tokens
        if self._options.padding == "predicted":
            items, size = lines(text, tokens), self._batch_size(epoch=0)
        else:
            cut = {"lines": line_pieces, "stream": stream_pieces}[self._options.items]
            items = cut(text, tokens)
            size = max(1, EVALUATION_LOGITS // (self._data.num_words * (tokens - 1)))
        return Batches(items, torch.arange(len(items)), size, self._device)

    def _predictions(self, split: str, items: Items, width: int) -> tuple[Tensor, Tensor]:
        words, inside = gather(self._words[split], items, width, self._data.padding)
        targets = words[:, 1:]
        if self._options.padding == "ignored":
            targets = torch.where(inside[:, 1:], targets, NOT_PREDICTED)
        return words[:, :-1], targets


def _mean_loss(model: nn.Module, words: Tensor, targets: Tensor) -> Tensor:
    logits = model(words).float().flatten(0, 1)
    return F.cross_entropy(logits, targets.flatten(), ignore_index=NOT_PREDICTED)
