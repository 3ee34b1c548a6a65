"""Items of text: pieces of lines or of a stream of words, and minibatches of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.data.text import TextSplit


@dataclass(frozen=True)
class Items:
    """Pieces of a corpus: item i is its words starts[i] .. starts[i] + lengths[i] - 1.

    Both int64 [items]. An item of fewer than two words has nothing to predict: it is not usable.
    """

    starts: Tensor
    lengths: Tensor

    def __len__(self) -> int:
        """Number of items."""
        return len(self.starts)

    def __getitem__(self, index: slice | Tensor) -> Items:
        """Some of the items, in that order."""
        return Items(self.starts[index], self.lengths[index])

    def to(self, device: torch.device) -> Items:
        """The same on a device."""
        return Items(self.starts.to(device), self.lengths.to(device))

    def usable(self) -> Tensor:
        """Mask of the items with two words or more."""
        return self.lengths >= 2


def lines(split: TextSplit, tokens: int) -> Items:
    """Every line, blank ones included, cut to `tokens` words."""
    starts = torch.from_numpy(split.starts)
    return Items(starts[:-1], starts.diff().clamp(max=tokens))


def pieces(starts: Tensor, lengths: Tensor, tokens: int) -> Items:
    """Rows of words cut into items of `tokens` that overlap by one.

    Every word but the first of a row is predicted in exactly one of them.
    Shape: where the rows start and how many words they have, both [rows].
    """
    predicted = tokens - 1
    counts = (lengths - 1).clamp(min=0).add(predicted - 1).div(predicted, rounding_mode="floor")
    row = torch.repeat_interleave(torch.arange(len(counts)), counts)
    first = (counts.cumsum(0) - counts)[row]
    offset = (torch.arange(len(row)) - first) * predicted
    return Items(starts[row] + offset, (lengths[row] - offset).clamp(max=tokens))


def line_pieces(split: TextSplit, tokens: int) -> Items:
    """Every line whole, in pieces."""
    starts = torch.from_numpy(split.starts)
    return pieces(starts[:-1], starts.diff(), tokens)


def stream_pieces(split: TextSplit, tokens: int) -> Items:
    """All words as one row, in pieces; the last may be shorter."""
    return pieces(torch.zeros(1, dtype=torch.int64), torch.tensor([len(split.tokens)]), tokens)


class Batches:
    """Items in an order, in minibatches of `size`, from which the unusable ones are dropped.

    The last minibatch may be smaller. Drawn on the CPU, kept on the device: a minibatch is a slice.
    """

    def __init__(self, items: Items, order: Tensor, size: int, device: torch.device) -> None:
        ordered = items[order]
        usable = ordered.usable()
        lengths = F.pad(ordered.lengths, (0, -len(order) % size)).view(-1, size)
        counts = (lengths >= 2).sum(1)
        self._items = ordered[usable].to(device)
        self._ends = counts.cumsum(0).tolist()
        self._widths = lengths.amax(1).tolist()
        self.empty: list[int] = (counts == 0).nonzero().squeeze(1).tolist()
        """The minibatches in which no item is usable."""
        self.not_empty: list[int] = counts.nonzero().squeeze(1).tolist()

    def __len__(self) -> int:
        """Number of minibatches."""
        return len(self._ends)

    def __getitem__(self, index: int) -> tuple[Items, int]:
        """The usable items of a minibatch, and the length of its longest."""
        start = self._ends[index - 1] if index else 0
        return self._items[start : self._ends[index]], self._widths[index]


def gather(words: Tensor, items: Items, width: int, padding: int) -> tuple[Tensor, Tensor]:
    """The items' words, filled up with `padding`, and the mask of those that are not filling.

    Shape: words [N], items [n] -> int64 [n, width], bool [n, width].
    """
    places = torch.arange(width, device=words.device)
    inside = places < items.lengths.unsqueeze(1)
    index = (items.starts.unsqueeze(1) + places).clamp_(max=len(words) - 1)
    return torch.where(inside, words[index].long(), padding), inside


def used_words(split: TextSplit, items: Items, num_words: int) -> Tensor:
    """Mask of the words from which some usable item predicts, all but its last; bool [words]."""
    items = items[items.usable()]
    edges = torch.zeros(len(split.tokens) + 1, dtype=torch.int32)
    ones = torch.ones(len(items), dtype=torch.int32)
    edges.index_add_(0, items.starts, ones)
    edges.index_add_(0, items.starts + items.lengths - 1, -ones)
    within = edges.cumsum_(0)[:-1] > 0
    used = torch.zeros(num_words, dtype=torch.bool)
    used[torch.from_numpy(split.tokens)[within].long()] = True
    return used
