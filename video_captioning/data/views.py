"""Views of pictures: crops and other colours."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

GREY = np.full((3, 3), 1 / 3)


def crop(frames: np.ndarray, smallest: float, rng: np.random.Generator) -> Tensor:
    """A stretched part of all frames of a clip, the same of each: `[N, T, T, 3]` → uint8 `[N, 3, T, T]`.

    Args:
        smallest: area of the part, at least, as a share of the whole.
    """
    side = frames.shape[1]
    scale, stretch = np.sqrt(rng.uniform(smallest, 1)), np.exp(rng.uniform(-0.25, 0.25))
    height, width = (min(side, round(side * edge)) for edge in (scale * stretch, scale / stretch))
    top, left = rng.integers(side - height + 1), rng.integers(side - width + 1)
    part = torch.from_numpy(frames[:, top : top + height, left : left + width]).permute(0, 3, 1, 2)
    return shrink(part, side)


def shrink(pictures: Tensor, size: int) -> Tensor:
    return functional.interpolate(pictures, size, mode="bilinear", antialias=True)


def recolour(pictures: Tensor, rng: np.random.Generator) -> Tensor:
    """Other brightness, contrast, saturation and tint: bytes `[N, 3, S, S]` → float32 in [-1, 1]."""
    count = len(pictures)
    saturation, contrast, light = rng.uniform(0.7, 1.3, (3, count, 1, 1))
    light = (light + 2) / 3  # a smaller range than the other two
    gain = light * rng.uniform(0.92, 1.08, (count, 3, 1))
    matrices = gain * contrast * (saturation * np.eye(3) + (1 - saturation) * GREY) / 127.5
    offsets = gain * (1 - contrast) - 1
    colours, shift = (torch.from_numpy(values.astype(np.float32)) for values in (matrices, offsets))
    return torch.baddbmm(shift, colours, pictures.flatten(2).float()).clamp_(-1, 1).view_as(pictures)
