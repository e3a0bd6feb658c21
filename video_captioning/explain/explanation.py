"""Where each word of a caption came from, as numbers.

Sizes in the docstrings: W words, F frames, P positions a frame, G x G patches a frame.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from video_captioning.captioner import Caption, Captioner
from video_captioning.decoding import Decoding, Floats, Hypothesis, Ints
from video_captioning.errors import VidcapError
from video_captioning.explain.occlusion import Occlusion, hide_frames, hide_regions, rank_correlation
from video_captioning.frames import Sampling
from video_captioning.painter import Pixels

TOP = 5  # frames that are singled out
GRID = 5  # squares a side that are hidden of a single frame where the model has no patches
DIGITS = 6  # of the numbers in JSON


@dataclass(frozen=True, eq=False)
class Explanation:
    """A caption, and how much each of its words attended to each place of each frame."""

    caption: Caption
    attention: Floats
    """`[W, F, P]`; that of a word of several pieces is their mean. A word's weights sum to one."""
    pieces: tuple[tuple[int, ...], ...]
    """For each word the places of its pieces among the tokens."""
    occlusion: Occlusion | None

    @property
    def weights(self) -> Floats:
        """Of each word on each frame, `[W, F]`."""
        weights: Floats = self.attention.sum(2)
        return weights

    @property
    def importance(self) -> Floats:
        """Of each frame: the mean of its weights over the words, `[F]`."""
        importance: Floats = self.weights.mean(0)
        return importance

    @property
    def top(self) -> Ints:
        """The most important frames, that one first; of equal ones the earlier."""
        return np.argsort(-self.importance, kind="stable")[:TOP]

    @property
    def grid(self) -> int | None:
        """G; None for a model that has but one position a frame."""
        return grid_of(self.attention.shape[2])

    @property
    def patches(self) -> Floats | None:
        """Weights inside the frames, from the top left, `[W, F, G, G]`; None where there is but one position."""
        if (grid := self.grid) is None:
            return None
        return self.attention[:, :, -(grid**2) :].reshape(*self.attention.shape[:2], grid, grid)

    @property
    def class_token(self) -> Floats | None:
        """Weights on the class token of each frame, which stands for all of it, `[W, F]`; None where there is none."""
        grid = self.grid
        return self.attention[:, :, 0] if grid and self.attention.shape[2] > grid**2 else None

    @property
    def falls(self) -> Floats | None:
        """How far each word's log-probability falls, `[W, places]`, as `occlusion` has it for tokens."""
        if self.occlusion is None:
            return None
        return np.stack([self.occlusion.tokens[:, list(places)].sum(1) for places in self.pieces])

    @property
    def attended(self) -> Floats | None:
        """What occlusion is compared with: each word's weights on the places that were hidden, `[W, places]`."""
        if self.occlusion is None or self.occlusion.of == "frames":
            return self.weights
        return None if self.patches is None else self.patches[:, 0].reshape(len(self.pieces), -1)

    @property
    def agreement(self) -> float | None:
        """Rank correlation of attention (mean of the words) with occlusion (of the caption) over the places.

        None without occlusion, and where one of them is the same everywhere or nothing can be compared.
        """
        if self.occlusion is None or self.attended is None:
            return None
        return rank_correlation(self.attended.mean(0), self.occlusion.caption)

    def to_dict(self) -> dict[str, Any]:
        """All numbers, for JSON."""
        return {
            "caption": self.caption.to_dict(),
            "importance": numbers(self.importance),
            "top_frames": self.top.tolist(),
            "patches": self.grid,
            "words": [
                {
                    "text": word.text,
                    "logprob": word.logprob,
                    "weights": numbers(self.weights[place]),
                    "class_token": numbers(self.class_token[place]) if self.class_token is not None else None,
                    "patches": numbers(self.patches[place]) if self.patches is not None else None,
                }
                for place, word in enumerate(self.caption.words)
            ],
            "occlusion": self._occlusion(),
        }

    def _occlusion(self) -> dict[str, Any] | None:
        if self.occlusion is None or (falls := self.falls) is None:
            return None
        attended = self.attended
        return {
            "of": self.occlusion.of,
            "fall": numbers(self.occlusion.caption),
            "rank_correlation": self.agreement,
            "words": [
                {
                    "fall": numbers(fall),
                    "rank_correlation": None if attended is None else rank_correlation(attended[place], fall),
                }
                for place, fall in enumerate(falls)
            ],
        }


def explain(
    captioner: Captioner,
    path: str | Path,
    *,
    occlusion: bool = False,
    sampling: Sampling | None = None,
    decoding: Decoding | None = None,
) -> Explanation:
    """Caption one clip and keep what the words attended to.

    Args:
        occlusion: also hide each frame, or each part of a single frame, and see what that does to the caption.

    Raises:
        MediaError: the file gives no picture.
        VidcapError: the caption has no words.
    """
    found = captioner.examine(path, sampling=sampling, decoding=decoding)
    words = captioner.tokenizer.words(found.hypothesis.tokens)
    if not words:
        raise VidcapError("the caption has no words that could be explained; ask for some with --min-tokens")
    tokens = found.hypothesis.attention.reshape(-1, *found.features.shape[:2])  # a batch of one has no padding
    attention = np.stack([tokens[places].mean(0) for _, places in words])
    hidden = None
    if occlusion:
        hidden = hide(captioner, found.features, found.frames.pixels, found.hypothesis)
    return Explanation(
        found.caption,
        attention / attention.sum((1, 2), keepdims=True),
        tuple(tuple(places) for _, places in words),
        hidden,
    )


def hide(captioner: Captioner, features: Floats, pixels: Pixels, hypothesis: Hypothesis) -> Occlusion:
    """Frame after frame; or part after part where there is one frame."""
    special = captioner.tokenizer
    said = [special.bos, *hypothesis.tokens, *([special.eos] if hypothesis.finished else [])]
    if len(pixels) > 1:
        return hide_frames(captioner.runtime, features, said)
    return hide_regions(captioner.runtime, pixels[0], said, grid_of(features.shape[1]) or GRID)


def grid_of(positions: int) -> int | None:
    """G of G² patches, or of 1 + G² places with a class token; None where a frame is one place, or they are no square.

    No number is both, except 1.
    """
    side = math.isqrt(positions)
    return side if positions > 1 and side**2 in (positions, positions - 1) else None


def numbers(values: Floats) -> Any:
    """Nested lists, rounded."""
    return np.round(values.astype(float), DIGITS).tolist()
