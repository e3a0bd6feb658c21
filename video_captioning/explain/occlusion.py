"""What a caption loses when a part of what it was made from is hidden (Zeiler & Fergus 2014, section 4.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from video_captioning.bundle import Runtime
from video_captioning.decoding import Floats, log_softmax
from video_captioning.painter import Pixels

MOST_SLOTS = 16_384  # of the memories that are compared in one call, which bounds the room that they take


@dataclass(frozen=True, eq=False)
class Occlusion:
    """How far log-probabilities fall when a place is hidden; below 0, they rise. L tokens, the end's included."""

    of: Literal["frames", "regions"]
    """What is hidden: one frame after the other or, of a clip of one frame, one square of it after the other."""
    tokens: Floats
    """`[places, L]`"""

    @property
    def caption(self) -> Floats:
        """Of the whole caption, `[places]`."""
        falls: Floats = self.tokens.sum(1)
        return falls


def hide_frames(runtime: Runtime, features: Floats, tokens: Sequence[int]) -> Occlusion:
    """Leave out one frame after the other.

    Args:
        features: `[frames, positions, width]` of two frames or more.
        tokens: of the caption, from `bos` on.
    """
    places = range(len(features))
    others = np.stack([np.delete(features, place, axis=0) for place in places])
    return Occlusion("frames", logprobs(runtime, features[None], tokens) - logprobs(runtime, others, tokens))


def hide_regions(runtime: Runtime, pixels: Pixels, tokens: Sequence[int], grid: int) -> Occlusion:
    """Paint one square of a picture after the other in the picture's mean colour.

    Args:
        pixels: uint8 RGB `[S, S, 3]`.
        tokens: of the caption, from `bos` on.
        grid: squares a side.
    """
    bounds = np.linspace(0, len(pixels), grid + 1).round().astype(int)
    painted = np.repeat(pixels[None], grid * grid, axis=0)
    for place, picture in enumerate(painted):
        row, column = divmod(place, grid)
        picture[bounds[row] : bounds[row + 1], bounds[column] : bounds[column + 1]] = pixels.mean((0, 1)).round()
    features, _ = runtime.encode([picture[None] for picture in (pixels, *painted)])
    found = logprobs(runtime, features, tokens)
    return Occlusion("regions", found[:1] - found[1:])


def logprobs(runtime: Runtime, features: Floats, tokens: Sequence[int]) -> Floats:
    """The log-probability of each token but the first, given those before it: teacher forcing, `[B, L]`.

    Args:
        features: of B clips that have the same number of frames, `[B, frames, positions, width]`.
    """
    at_once = max(1, MOST_SLOTS // (features.shape[1] * features.shape[2]))
    parts = [features[start : start + at_once] for start in range(0, len(features), at_once)]
    return np.concatenate([_logprobs(runtime, part, tokens) for part in parts])


def _logprobs(runtime: Runtime, features: Floats, tokens: Sequence[int]) -> Floats:
    memory, state = runtime.remember(features, np.ones(features.shape[:2], bool))
    found = np.empty((len(features), len(tokens) - 1), np.float32)
    for place, token in enumerate(tokens[:-1]):
        logits, state, _ = runtime.step(np.full(len(features), token), state, memory)
        found[:, place] = log_softmax(logits)[:, tokens[place + 1]]
    return found


def rank_correlation(one: Floats, other: Floats) -> float | None:
    """Spearman's, of two lists of numbers; None where all numbers of a list are the same, or there are too few."""
    ranks = [_ranks(values) - (len(values) - 1) / 2 for values in (one, other)]
    size = float(np.prod([np.linalg.norm(values) for values in ranks]))
    return float(ranks[0] @ ranks[1] / size) if size else None


def _ranks(values: Floats) -> NDArray[np.float64]:
    """The place of each number in order, from 0; equal ones share the mean of their places."""
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = (np.cumsum(counts) - (counts + 1) / 2)[group]
    return ranks
