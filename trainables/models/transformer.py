"""The Transformer of PyTorch's word language model, in P1's sizes."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from trainables.errors import UserError
from trainables.models.contract import ModelConfig

INIT_RANGE = 0.1
"""Embedding and output weights are uniform in [-0.1, 0.1] (PyTorch's word_language_model)."""


class Transformer(ModelConfig):
    """Embedding, sinusoidal positions, encoder layers under a causal mask, linear output.

    Layers are torch's: normalisation after the residual, ReLU. The defaults are P1's sizes:
    9,747,454 weights at WikiText-2's 33,278 words. Output and embedding share no weights.
    """

    name: ClassVar[str] = "transformer"
    data_kind: ClassVar[str] = "text"

    embedding_size: int = Field(default=128, ge=2)
    """Width of the residual stream; even, and a multiple of the number of heads. P1's code: 128."""
    num_heads: int = Field(default=4, ge=1)
    """Attention heads per layer. P1's code: 4 (INVENTORY E26)."""
    num_layers: int = Field(default=12, ge=1)
    """Encoder layers. P1's code: 12 (INVENTORY E26)."""
    hidden_size: int = Field(default=128, ge=1)
    """Units between a layer's two linear maps. P1's code: 128."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Probability of dropping, after the embedding and in every layer. P1's code: 0."""
    attention: Literal["tokens", "minibatch"] = "tokens"
    """What a token attends to: its predecessors in the line, or, as P1's code does by mistake, the
    tokens at its position in the lines before its own in the minibatch (INVENTORY E22, H3)."""
    layer_init: Literal["independent", "copied"] = "independent"
    """How layers start: each drawn by itself, or all as copies of the first, as
    torch.nn.TransformerEncoder makes them and P1's code has them (INVENTORY E31)."""
    vocabulary: int | None = Field(default=None, ge=1)
    """Rows of embedding and output layer; none: as many as the data set has words."""

    @model_validator(mode="after")
    def _heads_share(self) -> Transformer:
        size, heads = self.embedding_size, self.num_heads
        if size % heads or size % 2:
            raise ValueError(
                f"embedding_size: {size} must be even and a multiple of num_heads {heads}"
            )
        return self

    def build(self, input_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
        """The network for words numbered below `num_outputs`; `input_shape` has no say.

        Raises:
            UserError: the data set has more words than `vocabulary`.
        """
        num_words = self.vocabulary or num_outputs
        if num_outputs > num_words:
            raise UserError(
                f"model.vocabulary: {num_words} is below the {num_outputs} words of the data set; "
                f"give at least {num_outputs}, or leave it out"
            )
        return TransformerNetwork(self, num_words)


class TransformerNetwork(nn.Module):
    """Word numbers [items, positions] -> logits [items, positions, words]."""

    def __init__(self, config: Transformer, num_words: int) -> None:
        super().__init__()
        size = config.embedding_size
        self.embedding = nn.Embedding(num_words, size)
        self.dropout = nn.Dropout(config.dropout)
        self.encoder = nn.TransformerEncoder(
            _layer(config), config.num_layers, enable_nested_tensor=False
        )
        if config.layer_init == "independent":
            drawn = [_layer(config) for _ in range(config.num_layers)]
            self.encoder.layers = nn.ModuleList(drawn)
        self.output = nn.Linear(size, num_words)
        nn.init.uniform_(self.embedding.weight, -INIT_RANGE, INIT_RANGE)
        nn.init.uniform_(self.output.weight, -INIT_RANGE, INIT_RANGE)
        nn.init.zeros_(self.output.bias)
        self._scale = math.sqrt(size)
        self._axis = 1 if config.attention == "tokens" else 0

    def forward(self, words: Tensor) -> Tensor:
        """Logits of the word that follows each position."""
        embedded = self.embedding(words) * self._scale
        length = words.shape[self._axis]
        place = positions(length, embedded.shape[2], embedded.device)
        embedded = self.dropout(embedded + place.unsqueeze(1 - self._axis))
        mask = nn.Transformer.generate_square_subsequent_mask(length, device=embedded.device)
        logits: Tensor = self.output(self.encoder(embedded, mask=mask, is_causal=True))
        return logits


def _layer(config: Transformer) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(
        config.embedding_size,
        config.num_heads,
        config.hidden_size,
        config.dropout,
        # false is P1's mistake: the first axis, the minibatch, is taken for the sequence
        batch_first=config.attention == "tokens",
    )


def positions(length: int, size: int, device: torch.device) -> Tensor:
    """p[i, 2k] = sin(i / 10000^(2k/size)), p[i, 2k + 1] = cos of the same.

    Shape: [length, size], float32. Source: Vaswani et al. 2017, section 3.5.
    """
    rates = torch.exp(torch.arange(0, size, 2, device=device) * (-math.log(10_000.0) / size))
    angles = torch.arange(length, device=device).unsqueeze(1) * rates
    return torch.stack((angles.sin(), angles.cos()), dim=2).view(length, size)
