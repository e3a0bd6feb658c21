"""Items and their stored features as batches for training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from video_captioning.data.items import Item
from video_captioning.data.store import FeatureStore
from video_captioning.tokenizer import Tokenizer

Draw = tuple[int, tuple[int, ...], bool]
"""An item's index, the indices of its captions, and whether its frames are mirrored."""


@dataclass(frozen=True)
class Batch:
    """Clips with captions, padded to the longest of each."""

    features: Tensor
    """float32 `[B, T, P, D]`"""
    frame_mask: Tensor
    """bool `[B, T]`, true at real frames"""
    tokens: Tensor
    """int64 `[B, C, L]`: `bos`, the caption, `eos`, then `pad`; a missing caption is all `pad`"""

    def to(self, device: torch.device) -> Batch:
        return Batch(self.features.to(device), self.frame_mask.to(device), self.tokens.to(device))


class CaptionDataset(Dataset[tuple[np.ndarray, list[list[int]]]]):
    """Features and token lists of drawn captions. Features are read from the store when asked for."""

    def __init__(
        self,
        items: Sequence[Item],
        keys: dict[Path, bytes],
        store: FeatureStore,
        tokenizer: Tokenizer,
        max_tokens: int,
        grid: int,
    ) -> None:
        self.items = [item for item in items if item.path in keys]
        self.keys = [keys[item.path] for item in self.items]
        self.store = store
        self.captions = [
            [[tokenizer.bos, *tokenizer.encode(caption)[: max_tokens - 2], tokenizer.eos] for caption in item.captions]
            for item in self.items
        ]
        stored = [store.shape(key)[0] for key in self.keys]
        self.frames = [item.frames if frames == 1 else frames for frames, item in zip(stored, self.items, strict=True)]
        self.mirror = mirrored_places(grid)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, draw: Draw) -> tuple[np.ndarray, list[list[int]]]:
        index, captions, mirror = draw
        features = self.store.get(self.keys[index])
        features = np.repeat(features, self.frames[index] // len(features), 0)  # a picture that stands still
        if mirror and features.shape[1] == len(self.mirror):
            features = features[:, self.mirror]
        return features, [self.captions[index][caption] for caption in captions]


def mirrored_places(grid: int) -> np.ndarray:
    """Where each place's features come from when the picture is mirrored: the class token stays, columns swap."""
    columns = np.arange(grid * grid).reshape(grid, grid)[:, ::-1].ravel()
    return np.concatenate([[0], columns + 1])


def collate(clips: Sequence[tuple[np.ndarray, list[list[int]]]]) -> Batch:
    frames = max(len(features) for features, _ in clips)
    captions = max(len(drawn) for _, drawn in clips)
    length = max(len(caption) for _, drawn in clips for caption in drawn)
    features = torch.zeros(len(clips), frames, *clips[0][0].shape[1:])
    mask = torch.zeros(len(clips), frames, dtype=torch.bool)
    tokens = torch.full((len(clips), captions, length), Tokenizer.pad)
    for row, (values, drawn) in enumerate(clips):
        features[row, : len(values)] = torch.from_numpy(values)
        mask[row, : len(values)] = True
        for column, caption in enumerate(drawn):
            tokens[row, column, : len(caption)] = torch.tensor(caption)
    return Batch(features, mask, tokens)


class CaptionSampler(Sampler[list[Draw]]):
    """Batches of draws: items by weight, captions at random, clips of like length together so that little is padded.

    What epoch n draws depends on the seed and n alone.
    """

    def __init__(self, data: CaptionDataset, batch_size: int, captions: int, mirror: bool, seed: int) -> None:
        self.data, self.batch_size, self.captions, self.mirror, self.seed = data, batch_size, captions, mirror, seed
        self.epoch = 0

    @property
    def sampler(self) -> CaptionSampler:
        """Where Lightning looks for the `set_epoch` of a batch sampler."""
        return self

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.count() // self.batch_size)

    def count(self) -> int:
        return max(1, round(sum(item.weight for item in self.data.items)))

    def __iter__(self) -> Iterator[list[Draw]]:
        rng = np.random.default_rng((self.seed, self.epoch))
        draws = [self.draw(index, rng) for index in self.chosen(rng)]
        draws.sort(key=lambda draw: self.cost(draw) + rng.uniform(0, 2))
        batches = [draws[at : at + self.batch_size] for at in range(0, len(draws), self.batch_size)]
        for place in rng.permutation(len(batches)):
            yield batches[place]

    def chosen(self, rng: np.random.Generator) -> np.ndarray:
        """Item indices, each as often as its weight says; fractions by systematic sampling."""
        weights = np.array([item.weight for item in self.data.items])
        order = rng.permutation(len(weights))
        ends = np.cumsum(weights[order]) * self.count() / weights.sum()
        points = np.arange(self.count()) + rng.uniform(0, 1)
        return order[np.minimum(np.searchsorted(ends, points, side="right"), len(order) - 1)]

    def draw(self, index: int, rng: np.random.Generator) -> Draw:
        available = len(self.data.captions[index])
        captions = rng.permutation(available)[: self.captions]
        return int(index), tuple(int(caption) for caption in captions), self.mirror and bool(rng.integers(2))

    def cost(self, draw: Draw) -> int:
        index, captions, _ = draw
        longest = max(len(self.data.captions[index][caption]) for caption in captions)
        return 1000 * self.data.frames[index] + 100 * len(captions) + longest
