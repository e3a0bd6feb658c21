"""The advanced model: a Transformer over all places of all frames, a Transformer decoder over words.

Vaswani et al. 2017 with the norm first (Xiong et al. 2020) and the output tied to the embedding (Press & Wolf 2017).
The keys and values that the decoder attends to are computed once a clip and are the memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from video_captioning.errors import ConfigError
from video_captioning.models.interface import MASKED, CaptioningModel, Memory, Sizes, State, slot_mask


@dataclass(frozen=True)
class AdvancedConfig(Sizes):
    """Sizes of the advanced model."""

    width: int = 256
    heads: int = 4
    encoder_layers: int = 1
    decoder_layers: int = 3
    feedforward: int = 1024
    dropout: float = 0.2
    max_frames: int = 64
    """Frames with a position of their own; later ones share the last."""
    max_tokens: int = 64
    """Tokens with a position of their own, `bos` and `eos` included; later ones share the last."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_least("heads", "decoder_layers", "feedforward", "max_frames")
        self.check_least("encoder_layers", least=0)
        if self.width % self.heads:
            raise ConfigError(f"model.heads must divide model.width: {self.heads} does not divide {self.width}")


def split_heads(x: Tensor, heads: int) -> Tensor:
    """`[B, L, W]` → `[B, H, L, W/H]`."""
    batch, length, width = x.shape  # a view and not unflatten, which tracing would freeze to one size
    return x.view(batch, length, heads, width // heads).transpose(1, 2)


def attend(query: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Scaled dot-product attention: `[B, H, L, E]` over `[B, H, S, E]` → `[B, L, H·E]` and weights `[B, H, L, S]`."""
    weights = (query @ keys.transpose(2, 3) * query.shape[3] ** -0.5 + bias).softmax(3)
    return (weights @ values).transpose(1, 2).flatten(2), weights


class FeedForward(nn.Sequential):
    config: AdvancedConfig

    def __init__(self, config: AdvancedConfig) -> None:
        super().__init__(
            nn.LayerNorm(config.width),
            nn.Linear(config.width, config.feedforward),
            nn.GELU(approximate="tanh"),
            nn.Dropout(config.dropout),
            nn.Linear(config.feedforward, config.width),
            nn.Dropout(config.dropout),
        )


class EncoderLayer(nn.Module):
    config: AdvancedConfig

    def __init__(self, config: AdvancedConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.norm = nn.LayerNorm(config.width)
        self.project = nn.Linear(config.width, 3 * config.width)
        self.output = nn.Linear(config.width, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.feedforward = FeedForward(config)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        query, keys, values = (split_heads(part, self.heads) for part in self.project(self.norm(x)).chunk(3, 2))
        x = x + self.dropout(self.output(attend(query, keys, values, bias)[0]))
        x = x + self.feedforward(x)
        return x


class DecoderLayer(nn.Module):
    """Attention to the words so far, attention to the memory, a feed-forward network."""

    config: AdvancedConfig

    def __init__(self, config: AdvancedConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.norm = nn.LayerNorm(config.width)
        self.project = nn.Linear(config.width, 3 * config.width)
        self.output = nn.Linear(config.width, config.width)
        self.cross_norm = nn.LayerNorm(config.width)
        self.cross_query = nn.Linear(config.width, config.width)
        self.cross_output = nn.Linear(config.width, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.feedforward = FeedForward(config)

    def forward(
        self, x: Tensor, past: tuple[Tensor, Tensor] | None, bias: Tensor, memory: tuple[Tensor, Tensor, Tensor]
    ) -> tuple[Tensor, tuple[Tensor, Tensor], Tensor]:
        """One layer over `x [N, L, W]`.

        Args:
            past: keys and values `[N, t, W]` of the words before, or None.
            bias: added to the self-attention's logits, broadcast to `[N, H, L, t + L]`.
            memory: keys and values `[B, H, S, W/H]` and a bias `[B, 1, 1, S]`; N is a multiple of B.

        Returns:
            the new x, keys and values `[N, t + L, W]`, and weights over the memory `[N, L, S]`, the mean of the heads.
        """
        count, length, width = x.shape
        query, keys, values = self.project(self.norm(x)).chunk(3, 2)
        if past is not None:
            keys, values = torch.cat([past[0], keys], 1), torch.cat([past[1], values], 1)
        heads = self.heads
        mixed, _ = attend(split_heads(query, heads), split_heads(keys, heads), split_heads(values, heads), bias)
        x = x + self.dropout(self.output(mixed))
        # All hypotheses of a clip are queries of one attention, so that the memory is never copied.
        clips = memory[0].shape[0]
        query = self.cross_query(self.cross_norm(x)).reshape(clips, -1, width)
        mixed, weights = attend(split_heads(query, heads), *memory)
        x = x + self.dropout(self.cross_output(mixed.reshape(count, length, width)))
        return x + self.feedforward(x), (keys, values), weights.mean(1).reshape(count, length, -1)


class Advanced(CaptioningModel):
    """Places of frames attend to each other; words attend to them and to the words before."""

    config: AdvancedConfig

    def __init__(self, config: AdvancedConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.project = nn.Sequential(nn.LayerNorm(config.features), nn.Linear(config.features, width))
        self.position = nn.Parameter(torch.randn(config.positions, width) * 0.02)
        self.frame = nn.Parameter(torch.randn(config.max_frames, 1, width) * 0.02)
        self.encoder = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))
        self.encoder_norm = nn.LayerNorm(width)
        self.cross_memory = nn.Linear(width, 2 * width * config.decoder_layers)
        self.embedding = nn.Embedding(config.vocabulary, width)
        self.word_position = nn.Embedding(config.max_tokens, width)
        self.dropout = nn.Dropout(config.dropout)
        self.decoder = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))
        self.decoder_norm = nn.LayerNorm(width)
        self.bias = nn.Parameter(torch.zeros(config.vocabulary))
        nn.init.normal_(self.embedding.weight, std=width**-0.5)
        nn.init.normal_(self.word_position.weight, std=0.02)

    def encode(self, features: Tensor, frame_mask: Tensor) -> tuple[Memory, State]:
        """Memory holds the decoder layers' keys and values, `[B, T·P, 2·W·layers]`.

        State: `state_keys`, `state_values` float `[B, layers, 0, W]`, `state_position` int64 `[B]`.
        """
        batch, frames, positions = features.shape[:3]
        place = torch.arange(frames, device=features.device).clamp(max=self.config.max_frames - 1)
        x = self.project(features) + self.position + self.frame[place]
        x = self.dropout(x).flatten(1, 2)
        mask = slot_mask(frame_mask, positions)
        bias = torch.where(mask, 0.0, MASKED)[:, None, None].to(x.dtype)
        for layer in self.encoder:
            x = layer(x, bias)
        memory = {"memory": self.cross_memory(self.encoder_norm(x)), "memory_mask": mask}
        empty = x.new_zeros(batch, len(self.decoder), 0, x.shape[2])
        position = torch.zeros(batch, dtype=torch.int64, device=x.device)
        return memory, {"state_keys": empty, "state_values": empty, "state_position": position}

    def step(self, token: Tensor, state: State, memory: Memory) -> tuple[Tensor, State, Tensor]:
        place = state["state_position"].clamp(max=self.config.max_tokens - 1)
        x = (self.embedding(token) + self.word_position(place))[:, None]
        keys, values = [], []
        for index, (layer, cross) in enumerate(zip(self.decoder, self.memories(memory), strict=True)):
            past = state["state_keys"][:, index], state["state_values"][:, index]
            x, (key, value), attention = layer(x, past, x.new_zeros(()), cross)
            keys.append(key)
            values.append(value)
        following = {
            "state_keys": torch.stack(keys, 1),
            "state_values": torch.stack(values, 1),
            "state_position": state["state_position"] + 1,
        }
        return self.logits(x[:, 0]), following, attention[:, 0]

    def forward(self, features: Tensor, frame_mask: Tensor, tokens: Tensor) -> Tensor:
        memory, _ = self.encode(features, frame_mask)
        batch, captions, length = tokens.shape
        x: Tensor = self.embedding(tokens.flatten(0, 1)) + self.word_position.weight[:length]
        x = self.dropout(x)
        bias = x.new_full((length, length), MASKED).triu(1)
        for layer, cross in zip(self.decoder, self.memories(memory), strict=True):
            x, _, _ = layer(x, None, bias, cross)
        return x.view(batch, captions, length, -1)

    def memories(self, memory: Memory) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Keys, values `[B, H, S, W/H]` and bias `[B, 1, 1, S]` for each decoder layer."""
        bias = torch.where(memory["memory_mask"], 0.0, MASKED)[:, None, None].to(memory["memory"].dtype)
        parts = [split_heads(part, self.config.heads) for part in memory["memory"].chunk(2 * len(self.decoder), 2)]
        return [(keys, values, bias) for keys, values in zip(parts[::2], parts[1::2], strict=True)]

    def logits(self, outputs: Tensor) -> Tensor:
        logits: Tensor = functional.linear(self.decoder_norm(outputs), self.embedding.weight, self.bias)
        return logits
