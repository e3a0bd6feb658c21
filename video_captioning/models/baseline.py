"""The baseline: one look at the picture, then an LSTM over words (Vinyals et al. 2015, Show and Tell).

The mean of all real places is shown before the first word and again with every word.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from video_captioning.models.interface import CaptioningModel, Memory, Sizes, State, slot_mask
from video_captioning.models.words import TiedWords


@dataclass(frozen=True)
class BaselineConfig(Sizes):
    """Sizes of the baseline; `width` is that of embeddings and of the LSTM."""


class Baseline(CaptioningModel):
    """An image's mean feature and an LSTM decoder; its attention is the same for all real places."""

    config: BaselineConfig

    def __init__(self, config: BaselineConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.project = nn.Sequential(nn.LayerNorm(config.features), nn.Linear(config.features, width))
        self.words = TiedWords(config.vocabulary, width, config.dropout)
        self.recurrent = nn.LSTM(width, width, batch_first=True)

    def encode(self, features: Tensor, frame_mask: Tensor) -> tuple[Memory, State]:
        """State: `state_hidden`, `state_cell` float `[B, W]`."""
        memory = {
            "memory": self.project(features).flatten(1, 2),
            "memory_mask": slot_mask(frame_mask, features.shape[2]),
        }
        seen, _ = self.look(memory)
        _, (hidden, cell) = self.recurrent(seen[:, None])
        return memory, {"state_hidden": hidden[0], "state_cell": cell[0]}

    def look(self, memory: Memory) -> tuple[Tensor, Tensor]:
        """The mean of the memory `[B, W]`, and the weights of its slots `[B, S]`."""
        real = memory["memory_mask"].to(memory["memory"].dtype)
        weights = real / real.sum(1, keepdim=True).clamp(min=1)
        return (weights[:, None] @ memory["memory"])[:, 0], weights

    def step(self, token: Tensor, state: State, memory: Memory) -> tuple[Tensor, State, Tensor]:
        seen, weights = self.look(memory)
        outputs, hidden, cell = self.read(token[:, None], state["state_hidden"], state["state_cell"], seen)
        attention = each_hypothesis(weights, token.shape[0])
        return self.logits(outputs[:, 0]), {"state_hidden": hidden, "state_cell": cell}, attention

    def read(self, tokens: Tensor, hidden: Tensor, cell: Tensor, seen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens `[N, L]` → outputs `[N, L, W]`, hidden and cell `[N, W]`."""
        x = self.words.embed(tokens) + each_hypothesis(seen, tokens.shape[0])[:, None]
        outputs, (hidden, cell) = self.recurrent(x, (hidden[None], cell[None]))
        return outputs, hidden[0], cell[0]

    def forward(self, features: Tensor, frame_mask: Tensor, tokens: Tensor) -> Tensor:
        memory, state = self.encode(features, frame_mask)
        batch, captions, length = tokens.shape
        rows = {name: value.repeat_interleave(captions, 0) for name, value in state.items()}
        seen, _ = self.look(memory)
        outputs, _, _ = self.read(tokens.flatten(0, 1), rows["state_hidden"], rows["state_cell"], seen)
        return outputs.view(batch, captions, length, -1)

    def logits(self, outputs: Tensor) -> Tensor:
        return self.words.logits(outputs)


def each_hypothesis(clips: Tensor, rows: int) -> Tensor:
    """Values of clips `[B, W]`, repeated for each of their hypotheses `[rows, W]`; rows is a multiple of B."""
    batch, width = clips.shape
    wide = torch.zeros(rows, dtype=clips.dtype, device=clips.device).view(batch, -1, 1)
    return (clips[:, None] + wide).view(rows, width)
