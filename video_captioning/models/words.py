"""Word embeddings that are also the output layer (Press & Wolf 2017), as the recurrent models use them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class TiedWords(nn.Module):
    """Tokens to vectors and vectors to logits with one matrix."""

    def __init__(self, vocabulary: int, width: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.output = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, width), nn.LayerNorm(width))
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        self.dropout = nn.Dropout(dropout)
        nn.init.normal_(self.embedding.weight, std=width**-0.5)

    def embed(self, tokens: Tensor) -> Tensor:
        """Tokens `[...]` → `[..., W]`, of variance about 1: an LSTM hardly hears what is fainter."""
        embedded: Tensor = self.dropout(self.embedding(tokens) * self.embedding.embedding_dim**0.5)
        return embedded

    def logits(self, outputs: Tensor) -> Tensor:
        """Outputs `[..., W]` → logits `[..., V]`."""
        logits: Tensor = functional.linear(self.output(outputs), self.embedding.weight, self.bias)
        return logits
