"""The advanced model: a Transformer over all places of all frames, a Transformer decoder over words.

Vaswani et al. 2017 with the norm first (Xiong et al. 2020) and the output tied to the embedding (Press & Wolf 2017).
The keys and values that the decoder attends to are computed once per clip and are the memory.

Where the backbone's class token tells which concepts a frame shows, the likeliest of them stand in the memory, too, as
vectors of the decoder's own words (semantic attention, You et al. 2016, arXiv 1603.03925): the decoder can then name a
thing that no captioned picture showed, and sentences alone can teach it to (ViECap, Fei et al. 2023, arXiv 2307.16525).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from video_captioning.errors import ConfigError
from video_captioning.models.interface import MASKED, CaptioningModel, Memory, Sizes, State, slot_mask

NAME_TOKENS = 4
"""Tokens of a concept's name, at most."""
LEAST_LOGIT = 12.0
"""A concept with a logit below the negative of this is not there."""


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
    concepts: int = 0
    """Concepts that the class token tells of; 0: none."""
    concept_slots: int = 16
    """How many of them, the likeliest of a clip, stand in the memory."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_least("heads", "decoder_layers", "feedforward", "max_frames", "concept_slots")
        self.check_least("encoder_layers", "concepts", least=0)
        if self.width % self.heads:
            raise ConfigError(f"model.heads must divide model.width: {self.heads} does not divide {self.width}")
        if 0 < self.concepts < self.concept_slots:
            raise ConfigError(f"model.concept_slots must be at most model.concepts, which is {self.concepts}")


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


class Shown(NamedTuple):
    """Concepts of clips: what stands in the concept slots."""

    concepts: Tensor
    """int64 `[B, K]`: numbers of concepts"""
    logits: Tensor
    """float `[B, K]`: how sure it is that the clip shows them; -inf where there is none"""


class Concepts(nn.Module):
    """Which concepts a frame shows, and the likeliest of a clip as vectors of the decoder's own words."""

    names: Tensor

    def __init__(self, config: AdvancedConfig) -> None:
        super().__init__()
        self.count = config.concept_slots
        self.head = nn.Linear(config.features, config.concepts).requires_grad_(False)  # learned with the encoder
        self.sure = nn.Linear(1, config.width)
        self.norm = nn.LayerNorm(config.width)
        self.register_buffer("names", torch.zeros(config.concepts, NAME_TOKENS, dtype=torch.int64))  # 0 is `pad`

    def forward(self, classes: Tensor) -> Tensor:
        """Class tokens `[B, T, D]` → logits of the concepts `[B, T, C]`."""
        logits: Tensor = self.head(classes)
        return logits

    def likeliest(self, logits: Tensor, frame_mask: Tensor) -> Shown:
        """The likeliest concepts of each clip, by the mean of their logits over its frames."""
        real = frame_mask[:, :, None].to(logits.dtype)
        mean = (logits * real).sum(1) / real.sum(1).clamp(min=1)
        top = mean.detach().topk(self.count)
        return Shown(top.indices, top.values)

    def slots(self, shown: Shown, embedding: nn.Embedding) -> tuple[Tensor, Tensor]:
        """Vectors `[B, K, W]` of concepts, and a mask `[B, K]` that is false where there is none."""
        tokens = self.names[shown.concepts]
        real = (tokens != 0)[..., None]
        words = (embedding(tokens) * real).sum(2) / real.sum(2).clamp(min=1)
        sure = shown.logits.clamp(min=-LEAST_LOGIT, max=LEAST_LOGIT)[..., None] / LEAST_LOGIT
        return self.norm(words * words.shape[2] ** 0.5 + self.sure(sure)), shown.logits > -LEAST_LOGIT


class Advanced(CaptioningModel):
    """Positions of frames attend to each other; words attend to them, to concepts, and to the words before."""

    config: AdvancedConfig
    concepts: Concepts
    """Only where the configuration has some."""

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
        if config.concepts:
            self.concepts = Concepts(config)

    def encode(self, features: Tensor, frame_mask: Tensor, shown: Shown | None = None) -> tuple[Memory, State]:
        """Memory holds the decoder layers' keys and values, `[B, S, 2·W·layers]`.

        A model with concepts has `concept_slots` more slots than there are positions, at the end, and the logits of
        all concepts in each frame as `concepts` `[B, T, C]` in its memory.
        State: `state_keys`, `state_values` float `[B, layers, 0, W]`, `state_position` int64 `[B]`.

        Args:
            shown: concepts to put in place of what the features tell of.
        """
        batch, frames, positions = features.shape[:3]
        place = torch.arange(frames, device=features.device).clamp(max=self.config.max_frames - 1)
        x = self.project(features) + self.position + self.frame[place]
        x = self.dropout(x).flatten(1, 2)
        mask = slot_mask(frame_mask, positions)
        bias = torch.where(mask, 0.0, MASKED)[:, None, None].to(x.dtype)
        for layer in self.encoder:
            x = layer(x, bias)
        x = self.encoder_norm(x)
        memory = {}
        if self.config.concepts:
            memory["concepts"] = self.concepts(features[:, :, 0])
            found, real = self.concepts.slots(
                shown or self.concepts.likeliest(memory["concepts"], frame_mask), self.embedding
            )
            x, mask = torch.cat([x, found], 1), torch.cat([mask, real], 1)
        memory |= {"memory": self.cross_memory(x), "memory_mask": mask}
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
        seen = attention[:, 0]
        if self.config.concepts:  # what was attended to in the frames
            seen = seen[:, : seen.shape[1] - self.config.concept_slots]
        return self.logits(x[:, 0]), following, seen

    def forward(self, features: Tensor, frame_mask: Tensor, tokens: Tensor, shown: Shown | None = None) -> Tensor:
        memory, _ = self.encode(features, frame_mask, shown)
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
