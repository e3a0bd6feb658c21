"""How much do frozen features tell of the words that people use? A linear probe for the 700 commonest caption words.

It is trained on pictures and clips with captions; of an item it gets the mean over the frames of the class token, or of
all positions where there is no class token. Stated is, for each validation set, the mean over its items of the average
precision of the words that enough of an item's captions use. Compare features by it, not models.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.report import Report, machine
from benchmarks.timing import confine
from video_captioning import bundle
from video_captioning.data.items import Item, read_folder
from video_captioning.frames import Resize, Sampling, sample
from video_captioning.models.backbone import Backbone
from video_captioning.parallel import available_cores, in_order

TRAINING = {
    "flickr8k/train.jsonl": 1,
    "coco/captions.jsonl": 1,
    "clips/train.jsonl": 4,
    "clips/more_train.jsonl": 4,
}
"""Listings, and how often an epoch shows each of their items."""
WORDS, EPOCHS, SEEDS, BATCH = 700, 6, (0, 1), 128
RATE, DECAY, DROPOUT = 7e-4, 0.05, 0.5
REFERENCES = 5
"""Of more captions no more need to agree on a word."""
PLAIN = frozenset(
    """
    a an the of in on at to and is are with his her their its it this that from for by as while two three one some there
    up out down over off through into near next front back being other another each something someone them him he she
    they who has have be
    """.split()  # noqa: SIM905
)
"""Words that are not asked for."""


@dataclass(frozen=True)
class Examined:
    """A listing that probes are examined on."""

    listing: str
    every: int
    """One item in so many."""
    share: float
    """Of up to REFERENCES captions, how many use a word that is looked for."""
    bar: float
    """Average precision to reach, percent."""


EXAMINED = {
    "validation": Examined("clips/validation.jsonl", 1, 0.25, 36.0),
    "more_validation": Examined("clips/more_validation.jsonl", 1, 0.25, 45.0),
    "Flickr8k dev": Examined("flickr8k/dev.jsonl", 2, 0.4, 42.0),
}
SAMPLING = Sampling(max_frames=8)
"""Of clips for a backbone; a bundle has its own."""

Captions = tuple[str, ...]


@dataclass(frozen=True)
class Encoder:
    """What makes the features that are probed."""

    resize: Resize
    sampling: Sampling
    encode: Callable[[np.ndarray], np.ndarray]
    """Frames uint8 `[T, S, S, 3]` → features float32 `[T, D]`."""


@dataclass(frozen=True)
class Seen:
    """Features of items, float32 `[N, D]`, and the captions of each."""

    features: Tensor
    captions: Sequence[Captions]


def measure(name: str, data: Path, threads: int) -> Report:
    """The probe of a backbone or of a bundle's encoder.

    Raises DataError for a listing, MediaError for an item, ConfigError or BundleError for what is probed.
    """
    confine(threads)
    torch.set_num_threads(threads)
    encoder = open_encoder(name, threads)
    training = see_training(encoder, data)
    validation = see_validation(encoder, data)
    found = probe(training, validation)
    rows = [
        {"set": key, "items": len(seen.captions), "average precision, %": found[key], "bar, %": EXAMINED[key].bar}
        for key, seen in validation.items()
    ]
    setting = {
        "features of": name,
        "width": training.features.shape[1],
        "training rows": len(training.captions),
        "words": WORDS,
        "seeds": len(SEEDS),
        "threads": threads,
        **machine(),
    }
    return Report("probe", setting, (rows,))


def open_encoder(name: str, threads: int) -> Encoder:
    """A bundle's encoder as it is run, or a backbone in float32."""
    if name in bundle.built_in() or (Path(name) / bundle.MANIFEST).exists():
        return bundle_encoder(bundle.read(name), threads)
    backbone = Backbone(name, positions="class")

    @torch.inference_mode()
    def encode(frames: np.ndarray) -> np.ndarray:
        features: np.ndarray = backbone(torch.from_numpy(frames))[:, 0].numpy()
        return features

    return Encoder(Resize(**backbone.resize), SAMPLING, encode)


def bundle_encoder(found: bundle.Bundle, threads: int) -> Encoder:
    runtime = bundle.Runtime(found, threads)
    without_class = found.made_by.get("backbone", {}).get("positions") == "patches"

    def encode(frames: np.ndarray) -> np.ndarray:
        features: np.ndarray = runtime.encode([frames])[0][0]
        return features.mean(1) if without_class else features[:, 0]

    return Encoder(found.resize, found.sampling, encode)


def see_training(encoder: Encoder, data: Path, every: int = 1) -> Seen:
    """What a probe learns from, or one item in `every` of it."""
    features, captions = [], []
    for listing, times in TRAINING.items():
        seen = see(encoder, read_folder(data / listing)[::every])
        features += [seen.features] * times
        captions += [*seen.captions] * times
    return Seen(torch.cat(features), captions)


def see_validation(encoder: Encoder, data: Path) -> dict[str, Seen]:
    return {
        name: see(encoder, read_folder(data / examined.listing)[:: examined.every])
        for name, examined in EXAMINED.items()
    }


def see(encoder: Encoder, items: Sequence[Item]) -> Seen:
    """Mean features of the frames of each item; files are read, a processor core each, while others are encoded."""

    def pixels(item: Item) -> np.ndarray:
        return sample(item.path, encoder.sampling, encoder.resize, threads=1).pixels

    cores = available_cores()
    features = [encoder.encode(frames).mean(0) for frames in in_order(pixels, items, cores, 2 * cores)]
    return Seen(torch.from_numpy(np.stack(features)), [item.captions for item in items])


def probe(training: Seen, validation: Mapping[str, Seen]) -> dict[str, float]:
    """Average precision, percent, on each validation set, in the best epoch by their sum; mean over the seeds."""
    known = Counter(word for captions in dict.fromkeys(training.captions) for word in words(captions))
    index = {word: place for place, (word, _) in enumerate(known.most_common(WORDS))}
    mean, std = training.features.mean(0), training.features.std(0) + 1e-3
    features, wanted = (training.features - mean) / std, targets(training.captions, index)
    tests = [
        ((seen.features - mean) / std, targets(seen.captions, index) >= EXAMINED[name].share)
        for name, seen in validation.items()
    ]
    best = [max(epochs(features, wanted, tests, seed), key=sum) for seed in SEEDS]
    return dict(zip(validation, (100 * np.mean(best, 0)).tolist(), strict=True))


def words(captions: Captions) -> Counter[str]:
    """How many of the captions use each word."""
    return Counter(word for text in captions for word in set(re.findall("[a-z]+", text.lower())) if word not in PLAIN)


def targets(items: Sequence[Captions], index: Mapping[str, int]) -> Tensor:
    """Share of each item's captions that use each word, `[N, words]`, 1 where REFERENCES do."""
    made = torch.zeros(len(items), len(index))
    for row, captions in enumerate(items):
        for word, count in words(captions).items():
            if word in index:
                made[row, index[word]] = min(1.0, count / min(len(captions), REFERENCES))
    return made


def epochs(features: Tensor, wanted: Tensor, tests: Sequence[tuple[Tensor, Tensor]], seed: int) -> list[list[float]]:
    """Mean average precision on each test after each epoch of a probe."""
    torch.manual_seed(seed)
    layer = nn.Linear(features.shape[1], wanted.shape[1])
    prior = wanted.mean(0)
    nn.init.zeros_(layer.weight)
    layer.bias.data = torch.log((prior + 1e-4) / (1 - prior).clamp(min=1e-4))
    optimizer = torch.optim.AdamW(layer.parameters(), RATE, weight_decay=DECAY)
    found = []
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(features)).split(BATCH):
            logits = layer(functional.dropout(features[rows], DROPOUT))
            loss = functional.binary_cross_entropy_with_logits(logits, wanted[rows], reduction="sum") / len(rows)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.inference_mode():
            found.append([mean_average_precision(layer(shown), asked) for shown, asked in tests])
    return found


def mean_average_precision(scores: Tensor, asked: Tensor) -> float:
    """Over rows of scores `[N, words]`, of the words that are asked for; rows without any do not count."""
    found = [average_precision(row, hits) for row, hits in zip(scores, asked, strict=True) if hits.any()]
    return float(np.mean(found)) if found else 0.0


def average_precision(scores: Tensor, asked: Tensor) -> float:
    hits = asked[scores.argsort(descending=True)].float()
    return float((hits.cumsum(0) / torch.arange(1, len(hits) + 1) * hits).sum() / hits.sum())
