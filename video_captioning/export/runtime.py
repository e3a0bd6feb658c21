"""A torch model behind the NumPy arrays of `decoding.decode` and the methods of `bundle.Runtime`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from video_captioning.decoding import Arrays, Special
from video_captioning.models.backbone import Backbone
from video_captioning.models.interface import CaptioningModel
from video_captioning.tokenizer import Tokenizer

SPECIAL = Special(Tokenizer.bos, Tokenizer.eos, Tokenizer.pad, Tokenizer.unk)


class Stepper:
    """A model as a step function, wherever its weights are."""

    def __init__(self, model: CaptioningModel) -> None:
        self.model = model

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @torch.no_grad()
    def start(self, features: Tensor, frame_mask: Tensor) -> tuple[Arrays, Arrays]:
        """Memory and first state of features `[B, T, P, D]` and a mask `[B, T]`."""
        memory, state = self.model.encode(features.to(self.device), frame_mask.to(self.device))
        return arrays(memory), arrays(state)

    @torch.no_grad()
    def step(self, tokens: np.ndarray, state: Arrays, memory: Arrays) -> tuple[np.ndarray, Arrays, np.ndarray]:
        """The step function of `decoding.decode`."""
        token = torch.from_numpy(tokens).to(self.device)
        logits, following, attention = self.model.step(token, self.tensors(state), self.tensors(memory))
        return array(logits), arrays(following), array(attention)

    def tensors(self, values: Arrays) -> dict[str, Tensor]:
        return {name: torch.from_numpy(value).to(self.device) for name, value in values.items()}


class TorchRuntime(Stepper):
    """A model and its backbone."""

    def __init__(self, backbone: Backbone, model: CaptioningModel) -> None:
        super().__init__(model)
        self.backbone = backbone

    @torch.no_grad()
    def encode(self, clips: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Frames uint8 `[T, H, W, 3]` of each clip → features `[B, T, P, D]` and mask `[B, T]`."""
        features = [self.backbone(torch.from_numpy(clip)) for clip in clips]
        mask = pad_sequence([torch.ones(len(clip), dtype=torch.bool) for clip in clips], True)
        return pad_sequence(features, True).numpy(), mask.numpy()

    def remember(self, features: np.ndarray, frame_mask: np.ndarray) -> tuple[Arrays, Arrays]:
        """Features and mask → memory and the state before the first word."""
        return self.start(torch.from_numpy(features), torch.from_numpy(frame_mask))


def array(tensor: Tensor) -> np.ndarray:
    """On the CPU, in a precision that NumPy has."""
    values: np.ndarray = (tensor.float() if tensor.is_floating_point() else tensor).cpu().numpy()
    return values


def arrays(tensors: dict[str, Tensor]) -> Arrays:
    return {name: array(tensor) for name, tensor in tensors.items()}
