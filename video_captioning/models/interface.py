"""What all captioning models have in common, so that decoding, export, training and explanation serve all of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn

from video_captioning.errors import ConfigError

MASKED = -1e4  # finite, and survives fp16

State = dict[str, Tensor]
Memory = dict[str, Tensor]


@dataclass(frozen=True)
class Sizes:
    """What every model's configuration states. Raises ConfigError for a value out of range."""

    features: int
    """Width of the backbone's features."""
    positions: int
    """Places a frame: the class token and the pooled patches."""
    vocabulary: int
    width: int = 512
    dropout: float = 0.3
    max_tokens: int = 64
    """Longest caption in training, `bos` and `eos` included."""

    def __post_init__(self) -> None:
        self.check_least("width")
        if self.max_tokens < 3:
            raise ConfigError(f"model.max_tokens must be at least 3: start, a word, end; not {self.max_tokens}")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"model.dropout must be from 0 to below 1, not {self.dropout}")

    def check_least(self, *names: str, least: int = 1) -> None:
        for name in names:
            if getattr(self, name) < least:
                raise ConfigError(f"model.{name} must be at least {least}, not {getattr(self, name)}")


class CaptioningModel(nn.Module, ABC):
    """Features of frames → words. `encode` and `step` serve decoding; `forward` is teacher forcing.

    Slots of the memory are the positions of all frames, `T·P`, real frames first, and then what else a model remembers.
    """

    config: Sizes

    @abstractmethod
    def encode(self, features: Tensor, frame_mask: Tensor) -> tuple[Memory, State]:
        """Features `[B, T, P, D]` and a mask `[B, T]`, true at real frames → memory, the state before the first word.

        Memory: `memory` float `[B, S, M]` and `memory_mask` bool `[B, S]`. State: tensors `state_*` `[B, …]`.
        """

    @abstractmethod
    def step(self, token: Tensor, state: State, memory: Memory) -> tuple[Tensor, State, Tensor]:
        """One word further: tokens `[N]` → logits `[N, V]`, state, attention `[N, T·P]`. N is a multiple of B."""

    @abstractmethod
    def forward(self, features: Tensor, frame_mask: Tensor, tokens: Tensor) -> Tensor:
        """Teacher forcing: tokens `[B, C, L]`, C captions a clip → outputs `[B, C, L, W]` for `logits`."""

    @abstractmethod
    def logits(self, outputs: Tensor) -> Tensor:
        """Outputs `[..., W]` → logits `[..., V]`."""


def slot_mask(frame_mask: Tensor, positions: int) -> Tensor:
    """Mask of frames `[B, T]` → of their places `[B, T·P]`."""
    batch, frames = frame_mask.shape
    return frame_mask[:, :, None].expand(batch, frames, positions).flatten(1)
