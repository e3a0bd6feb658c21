"""Features for training: extraction against the usual notebook way, and epochs from the store against live decoding.

The usual way seeks to every frame, decodes from the key frame before it and gives the backbone one frame a call. The
other baseline decodes in one pass and still gives one frame a call, to tell apart what the two faults cost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import av
import numpy as np
import torch
from torch.utils.data import DataLoader

from benchmarks.report import Report, machine
from benchmarks.timing import confine, in_turns, median_ratio
from video_captioning.data.dataset import CaptionDataset, CaptionSampler, collate
from video_captioning.data.features import LiveFeatures, Source, StoredFeatures, extract
from video_captioning.data.items import Item, read_folder
from video_captioning.data.store import FeatureStore
from video_captioning.frames import Resize, Sampling, sample
from video_captioning.models import registry
from video_captioning.models.backbone import Backbone
from video_captioning.tokenizer import Tokenizer

FRAMES = 40
BATCH = 16
BATCHED, SEEKING, SINGLE = "one pass, full batches", "a seek and a call a frame", "one pass, a call a frame"
STORED, LIVE = "epoch from the store", "epoch decoding live"
BARS = {SEEKING: 5.0, LIVE: 30.0}


@dataclass(frozen=True)
class Tried:
    """What the passes share."""

    items: Sequence[Item]
    backbone: Backbone
    sampling: Sampling
    resize: Resize


def measure(listing: Path, backbone: str, threads: int, repeat: int, count: int) -> Report:
    """The attention model on the first `count` items of a listing.

    Raises DataError for the listing, ConfigError for the backbone, MediaError for a clip.
    """
    confine(threads)
    torch.set_num_threads(threads)
    made = Backbone(backbone, positions="class")
    tried = Tried(read_folder(listing)[:count], made, Sampling(frames=FRAMES), Resize(**made.resize))
    seconds = in_turns(
        {
            BATCHED: partial(timed, extract_all, tried),
            SEEKING: partial(timed, seek_all, tried),
            SINGLE: partial(timed, call_all, tried),
        },
        repeat,
    )
    with TemporaryDirectory() as folder, FeatureStore(folder) as store:
        stored = StoredFeatures(store, extract(tried.items, made, tried.sampling, store).keys)
        live = LiveFeatures(made, tried.sampling, tried.items, vary=False)
        seconds |= in_turns({STORED: epoch(tried, stored), LIVE: epoch(tried, live)}, repeat)
    setting = {"clips": len(tried.items), "frames a clip": FRAMES, "threads": threads, "rounds": repeat, **machine()}
    return Report("features", setting, (rows(seconds, BATCHED), rows(seconds, STORED)))


def rows(seconds: dict[str, list[float]], base: str) -> list[dict[str, Any]]:
    """A row for the base, and one for each pass that is compared with it: how many times longer it takes."""
    compared = (STORED, LIVE) if base == STORED else (BATCHED, SEEKING, SINGLE)
    return [
        {
            "pass": name,
            "seconds": median(seconds[name]),
            "times longer": median_ratio(seconds[name], seconds[base]),
            "bar": BARS.get(name),
        }
        for name in compared
    ]


def timed(work: Callable[[Tried], None], tried: Tried) -> float:
    start = perf_counter()
    work(tried)
    return perf_counter() - start


def extract_all(tried: Tried) -> None:
    with TemporaryDirectory() as folder, FeatureStore(folder) as store:
        extract(tried.items, tried.backbone, tried.sampling, store)


@torch.inference_mode()
def call_all(tried: Tried) -> None:
    for item in tried.items:
        for pixels in sample(item.path, tried.sampling, tried.resize).pixels:
            tried.backbone(torch.from_numpy(pixels[None]))


@torch.inference_mode()
def seek_all(tried: Tried) -> None:
    for item in tried.items:
        with av.open(str(item.path)) as container:
            stream = container.streams.video[0]
            assert stream.time_base is not None and stream.duration is not None
            for moment in np.linspace(0, stream.duration, FRAMES, endpoint=False).astype(int).tolist():
                container.seek(moment, stream=stream)
                frame = next(frame for frame in container.decode(stream) if (frame.pts or 0) >= moment)
                side = tried.resize.size
                pixels = frame.to_ndarray(format="rgb24", width=side, height=side)
                tried.backbone(torch.from_numpy(pixels[None]))


def epoch(tried: Tried, source: Source) -> Callable[[], float]:
    """A function that trains the attention model for an epoch and returns the seconds it took."""
    tokenizer = Tokenizer.train([caption for item in tried.items for caption in item.captions], 2000, "word")
    data = CaptionDataset(tried.items, source, tokenizer, 40, tried.backbone.grid)
    sampler = CaptionSampler(data, BATCH, 5, False, 0)
    loader = DataLoader(data, batch_sampler=sampler, collate_fn=collate)
    model = registry.create("attention", features=tried.backbone.width, positions=1, vocabulary=len(tokenizer))
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)

    def train() -> float:
        start = perf_counter()
        for batch in loader:
            real = batch.tokens[:, :, 1:] != tokenizer.pad
            logits = model.logits(model(batch.features, batch.frame_mask, batch.tokens[:, :, :-1])[real])
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(logits, batch.tokens[:, :, 1:][real]).backward()
            optimizer.step()
        return perf_counter() - start

    return train
