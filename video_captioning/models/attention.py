"""The attention model: a bidirectional LSTM over frames, additive attention, an LSTM over words.

Bahdanau et al. 2015 as applied to video by Yao et al. 2015; the output sees the attended context and the word, too
(Xu et al. 2015, equation 7). Padded frames are neither read by the encoder nor attended to.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from video_captioning.models.interface import MASKED, CaptioningModel, Memory, Sizes, State, slot_mask
from video_captioning.models.words import TiedWords


@dataclass(frozen=True)
class AttentionConfig(Sizes):
    """Sizes of the attention model; `width` is that of embeddings and of the decoder's LSTM."""

    encoder_width: int = 512
    """Of each direction of the encoder's LSTM."""
    attention_width: int = 256
    """Of the layer that compares a state with a slot."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_least("encoder_width", "attention_width")


class Attention(CaptioningModel):
    """Each place of the frames is followed through time; a word attends to all places of all frames."""

    config: AttentionConfig

    def __init__(self, config: AttentionConfig) -> None:
        super().__init__()
        self.config = config
        width, context = config.width, 2 * config.encoder_width
        self.project = nn.Sequential(
            nn.LayerNorm(config.features), nn.Linear(config.features, width), nn.Dropout(config.dropout)
        )
        self.onward = nn.LSTM(width, config.encoder_width, batch_first=True)
        self.backward_ = nn.LSTM(width, config.encoder_width, batch_first=True)
        self.keys = nn.Linear(context, config.attention_width)
        self.query = nn.Linear(width, config.attention_width, bias=False)
        self.energy = nn.Linear(config.attention_width, 1, bias=False)
        self.first_hidden, self.first_cell = nn.Linear(context, width), nn.Linear(context, width)
        self.words = TiedWords(config.vocabulary, width, config.dropout)
        self.recurrent = nn.LSTMCell(width + context, width)
        self.combine = nn.Linear(2 * width + context, width)

    def encode(self, features: Tensor, frame_mask: Tensor) -> tuple[Memory, State]:
        """Memory holds keys and values, `[B, T·P, A + 2·E]`. State: `state_hidden`, `state_cell` float `[B, W]`."""
        batch, frames, positions = features.shape[:3]
        x = self.project(features).transpose(1, 2).reshape(batch * positions, frames, -1)
        mask = frame_mask[:, None].expand(batch, positions, frames).reshape(batch * positions, frames)
        backward = turned(frame_mask)[:, None].expand(batch, positions, frames).reshape(batch * positions, frames)
        onward, _ = self.onward(x)
        returned, _ = self.backward_(take_frames(x, backward))
        values = torch.cat([onward, take_frames(returned, backward)], 2) * mask[:, :, None]
        values = values.view(batch, positions, frames, -1).transpose(1, 2).reshape(batch, frames * positions, -1)
        real = slot_mask(frame_mask, positions)
        mean = values.sum(1) / real.sum(1, keepdim=True).clamp(min=1)
        memory = {"memory": torch.cat([self.keys(values), values], 2), "memory_mask": real}
        return memory, {"state_hidden": self.first_hidden(mean).tanh(), "state_cell": self.first_cell(mean).tanh()}

    def attend(self, hidden: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """States `[N, W]` → contexts `[N, 2·E]` and weights `[N, S]`."""
        clips, slots, width = memory["memory"].shape
        keys, values = memory["memory"].split([self.config.attention_width, width - self.config.attention_width], 2)
        # All hypotheses of a clip are compared with one copy of its memory.
        query = self.query(hidden).view(clips, -1, 1, self.config.attention_width)
        energy = self.energy((keys[:, None] + query).tanh())[..., 0]
        bias = torch.where(memory["memory_mask"], 0.0, MASKED).to(energy.dtype)
        weights = (energy + bias[:, None]).softmax(2)
        return (weights @ values).view(hidden.shape[0], -1), weights.view(hidden.shape[0], slots)

    def advance(self, token: Tensor, state: State, memory: Memory) -> tuple[Tensor, State, Tensor]:
        """As `step`, but outputs `[N, W]` and not logits."""
        word = self.words.embed(token)
        context, attention = self.attend(state["state_hidden"], memory)
        hidden, cell = self.recurrent(torch.cat([word, context], 1), (state["state_hidden"], state["state_cell"]))
        output = self.combine(torch.cat([hidden, context, word], 1)).tanh()
        return output, {"state_hidden": hidden, "state_cell": cell}, attention

    def step(self, token: Tensor, state: State, memory: Memory) -> tuple[Tensor, State, Tensor]:
        output, following, attention = self.advance(token, state, memory)
        return self.logits(output), following, attention

    def forward(self, features: Tensor, frame_mask: Tensor, tokens: Tensor) -> Tensor:
        memory, state = self.encode(features, frame_mask)
        batch, captions, _ = tokens.shape
        state = {name: value.repeat_interleave(captions, 0) for name, value in state.items()}
        outputs = []
        for token in tokens.flatten(0, 1).T:
            output, state, _ = self.advance(token, state, memory)
            outputs.append(output)
        return torch.stack(outputs, 1).view(batch, captions, len(outputs), -1)

    def logits(self, outputs: Tensor) -> Tensor:
        return self.words.logits(outputs)


def turned(frame_mask: Tensor) -> Tensor:
    """Mask `[B, T]` → for each place the frame that stands there when the real frames are read backwards."""
    place = torch.arange(frame_mask.shape[1], device=frame_mask.device)
    mirrored = frame_mask.sum(1, keepdim=True) - 1 - place
    return torch.where(mirrored >= 0, mirrored, place)


def take_frames(x: Tensor, order: Tensor) -> Tensor:
    """`x [N, T, W]` in another order of frames, `[N, T]`."""
    return x.gather(1, order[:, :, None].expand(x.shape))
