"""Random views of pictures for distillation: crop, stretch, mirror, colours, mixture."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

GREY = np.full((3, 3), 1 / 3)


class Views(NamedTuple):
    """The same views for both, float32 in [-1, 1]: `teacher [N, 3, T, T]`, `student [N, 3, S, S]`."""

    teacher: Tensor
    student: Tensor


def whole(pixels: np.ndarray, size: int) -> Views:
    """Pictures `[N, T, T, 3]` as they are."""
    pictures = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    return Views(*(values.float().div_(127.5).sub_(1) for values in (pictures, shrink(pictures, size))))


def draw(pixels: np.ndarray, size: int, smallest_crop: float, mixed: float, rng: np.random.Generator) -> Views:
    """Random views of pictures `[N, T, T, 3]`.

    Args:
        size: side of the student's, pixels.
        smallest_crop: smallest area of a crop, as a share of the picture's.
        mixed: share of the views that another one shines through.
    """
    views = torch.cat([crop(picture, smallest_crop, rng) for picture in pixels])
    colours, offsets = draw_colours(len(pixels), rng)
    others = np.where(rng.random(len(pixels)) < mixed, rng.uniform(0, 0.5, len(pixels)), 0).astype(np.float32)

    def finish(pictures: Tensor) -> Tensor:
        flat = torch.baddbmm(offsets, colours, pictures.flatten(2).float()).clamp_(-1, 1)
        where = np.flatnonzero(others)
        share = torch.from_numpy(others[where])[:, None, None]
        flat[where] = torch.lerp(flat[where], flat[where - 1], share)
        return flat.view_as(pictures)

    return Views(finish(views), finish(shrink(views, size)))


def crop(picture: np.ndarray, smallest: float, rng: np.random.Generator) -> Tensor:
    """A stretched part of a picture `[T, T, 3]`, mirrored half the time, uint8 `[1, 3, T, T]`."""
    side = len(picture)
    scale, stretch = np.sqrt(rng.uniform(smallest, 1)), np.exp(rng.uniform(-0.25, 0.25))
    height, width = (min(side, round(side * edge)) for edge in (scale * stretch, scale / stretch))
    top, left = rng.integers(side - height + 1), rng.integers(side - width + 1)
    part = torch.from_numpy(picture[top : top + height, left : left + width]).permute(2, 0, 1)[None]
    part = shrink(part, side)
    return part.flip(3) if rng.integers(2) else part


def shrink(pictures: Tensor, size: int) -> Tensor:
    return functional.interpolate(pictures, size, mode="bilinear", antialias=True)


def draw_colours(count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Brightness, contrast, saturation and tint as matrices `[N, 3, 3]` and offsets `[N, 3, 1]`: bytes → [-1, 1]."""
    saturation, contrast, light = rng.uniform(0.6, 1.4, (3, count, 1, 1))
    light = (light + 2) / 3  # a smaller range than the other two
    gain = light * rng.uniform(0.9, 1.1, (count, 3, 1))
    matrices = gain * contrast * (saturation * np.eye(3) + (1 - saturation) * GREY) / 127.5
    offsets = gain * (1 - contrast) - 1
    return torch.from_numpy(matrices.astype(np.float32)), torch.from_numpy(offsets.astype(np.float32))
