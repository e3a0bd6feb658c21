"""Items and their features as batches for training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, distributed
from torch.utils.data import Dataset, Sampler

from video_captioning.data.features import Source
from video_captioning.data.items import Item
from video_captioning.metrics.cider import Consensus, document_frequency
from video_captioning.metrics.tokenization import tokenize
from video_captioning.tokenizer import Tokenizer


class Draw(NamedTuple):
    """What a batch takes of an item."""

    item: int
    captions: tuple[int, ...]
    mirror: bool
    view: int


class Example(NamedTuple):
    """A drawn item, by its number in the dataset."""

    item: int
    features: np.ndarray
    tokens: list[list[int]]
    weights: list[float]


@dataclass(frozen=True)
class Batch:
    """Clips with captions, padded to the longest of each."""

    features: Tensor
    """float32 `[B, T, P, D]`"""
    frame_mask: Tensor
    """bool `[B, T]`, true at real frames"""
    tokens: Tensor
    """int64 `[B, C, L]`: `bos`, the caption, `eos`, then `pad`; a missing caption is all `pad`"""
    weights: Tensor
    """float32 `[B, C]`: how much each caption counts, 1 on average"""
    items: Tensor
    """int64 `[B]`: numbers of the items in their dataset"""

    def to(self, device: torch.device) -> Batch:
        return Batch(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


class CaptionDataset(Dataset[Example]):
    """Features and token lists of drawn captions. Features are read when asked for, those of a batch together."""

    def __init__(
        self,
        items: Sequence[Item],
        source: Source,
        tokenizer: Tokenizer,
        max_tokens: int,
        grid: int,
        consensus: float = 0.0,
    ) -> None:
        """Those of `items` that the source has.

        Args:
            max_tokens: longest caption, `bos` and `eos` included; longer ones are cut.
            grid: side of the map of patches that is turned when a picture is mirrored.
            consensus: how much captions that agree with the other ones of their item count above those that do not.
        """
        self.items = [item for item in items if item in source]
        self.source = source
        self.captions = [
            [[tokenizer.bos, *tokenizer.encode(caption)[: max_tokens - 2], tokenizer.eos] for caption in item.captions]
            for item in self.items
        ]
        stored = [source.frames(item) for item in self.items]
        self.frames = [item.frames if frames == 1 else frames for frames, item in zip(stored, self.items, strict=True)]
        self.mirror = mirrored_places(grid)
        self.weights = [[1.0] * len(item.captions) for item in self.items]
        if consensus:
            self.weights = consensus_weights(self.items, consensus)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, draw: Draw) -> Example:
        return self.__getitems__([draw])[0]

    def __getitems__(self, draws: Sequence[Draw]) -> list[Example]:
        """What the loader asks for: a whole batch."""
        read = self.source.read([(self.items[draw.item], draw.view) for draw in draws])
        return [self.example(draw, features) for draw, features in zip(draws, read, strict=True)]

    def example(self, draw: Draw, features: np.ndarray) -> Example:
        item = draw.item
        if len(features) == 1:  # a picture that stands still
            features = np.repeat(features, self.items[item].frames, 0)
        if draw.mirror and features.shape[1] == len(self.mirror):
            features = features[:, self.mirror]
        tokens = [self.captions[item][number] for number in draw.captions]
        return Example(item, features, tokens, [self.weights[item][number] for number in draw.captions])


def consensus_weights(items: Sequence[Item], strength: float) -> list[list[float]]:
    """How much each caption counts: its CIDEr-D against the other captions of its item over their mean.

    Phan et al. 2017 (arXiv 1712.09532), section 3.2, mixed with equal weights by `strength` from 0 to 1.
    """
    said = [[tokenize(caption) for caption in item.captions] for item in items]
    several = [captions for captions in said if len(captions) > 1]
    if not several:
        return [[1.0] * len(captions) for captions in said]
    alone = [caption for captions in several for caption in captions]
    others = [captions[:at] + captions[at + 1 :] for captions in several for at in range(len(captions))]
    scores = iter(Consensus(others, document_frequency(said)).score(range(len(alone)), alone))
    weights = []
    for captions in said:
        found = np.array([next(scores) for _ in captions]) if len(captions) > 1 else np.ones(1)
        share = found / found.mean() if found.any() else np.ones(len(found))
        weights.append((1 - strength + strength * share).tolist())
    return weights


def mirrored_places(grid: int) -> np.ndarray:
    """Where each place's features come from when the picture is mirrored: the class token stays, columns swap."""
    columns = np.arange(grid * grid).reshape(grid, grid)[:, ::-1].ravel()
    return np.concatenate([[0], columns + 1])


def collate(clips: Sequence[Example]) -> Batch:
    frames = max(len(clip.features) for clip in clips)
    captions = max(len(clip.tokens) for clip in clips)
    length = max(len(caption) for clip in clips for caption in clip.tokens)
    features = torch.zeros(len(clips), frames, *clips[0].features.shape[1:])
    mask = torch.zeros(len(clips), frames, dtype=torch.bool)
    tokens = torch.full((len(clips), captions, length), Tokenizer.pad)
    weights = torch.zeros(len(clips), captions)
    for row, clip in enumerate(clips):
        features[row, : len(clip.features)] = torch.from_numpy(clip.features)
        mask[row, : len(clip.features)] = True
        weights[row, : len(clip.weights)] = torch.tensor(clip.weights)
        for column, caption in enumerate(clip.tokens):
            tokens[row, column, : len(caption)] = torch.tensor(caption)
    return Batch(features, mask, tokens, weights, torch.tensor([clip.item for clip in clips]))


class CaptionSampler(Sampler[list[Draw]]):
    """Batches of draws: items by weight, captions at random, clips of like length together so that little is padded.

    What epoch n draws depends on the seed and n alone. Of several processes each takes every so many-th batch; the
    first batches are drawn again where the batches are not a multiple of the processes.
    """

    def __init__(
        self, data: CaptionDataset, batch_size: int, captions: int, mirror: bool, seed: int, views: bool = True
    ) -> None:
        """Whether items are mirrored half the time, and whether their views are drawn or only themselves."""
        self.data, self.batch_size, self.captions, self.mirror, self.seed = data, batch_size, captions, mirror, seed
        self.views = data.source.views if views else 1
        self.epoch = 0

    @property
    def sampler(self) -> CaptionSampler:
        """Where Lightning looks for the `set_epoch` of a batch sampler."""
        return self

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.count() // (self.batch_size * world()[1]))

    def count(self) -> int:
        return max(1, round(sum(item.weight for item in self.data.items)))

    def __iter__(self) -> Iterator[list[Draw]]:
        rng = np.random.default_rng((self.seed, self.epoch))
        draws = [self.draw(index, rng) for index in self.chosen(rng)]
        draws.sort(key=lambda draw: self.cost(draw) + rng.uniform(0, 2))
        batches = [draws[at : at + self.batch_size] for at in range(0, len(draws), self.batch_size)]
        order = rng.permutation(len(batches))
        rank, size = world()
        for place in np.resize(order, len(self) * size)[rank::size]:
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
        mirror = self.mirror and bool(rng.integers(2))
        view = int(rng.integers(self.views)) if self.views > 1 else 0
        return Draw(int(index), tuple(int(caption) for caption in captions), mirror, view)

    def cost(self, draw: Draw) -> int:
        longest = max(len(self.data.captions[draw.item][caption]) for caption in draw.captions)
        return 1000 * self.data.frames[draw.item] + 100 * len(draw.captions) + longest


def world() -> tuple[int, int]:
    """The number of this process, and how many train together."""
    return (distributed.get_rank(), distributed.get_world_size()) if distributed.is_initialized() else (0, 1)
