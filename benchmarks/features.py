"""Features for training: extraction against the usual notebook way, and epochs from the store against live decoding.

The usual way seeks to every frame, decodes from the key frame before it and gives a float32 backbone one frame a call.
The other rows tell apart what its faults cost. The attention model is tried with the backbone it was made for, a
ResNet-152; its weights are random unless a folder is given, since time does not depend on them.
"""

from __future__ import annotations

import json
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
from transformers import ResNetConfig, ResNetModel

from benchmarks.report import Report, machine
from benchmarks.timing import confine, in_turns, median_ratio
from video_captioning.data.dataset import CaptionDataset, CaptionSampler, collate
from video_captioning.data.features import LiveFeatures, Source, StoredFeatures, extract
from video_captioning.data.items import Item, read_folder
from video_captioning.data.store import FeatureStore
from video_captioning.frames import Resize, Sampling, sample
from video_captioning.models import registry
from video_captioning.models.backbone import Backbone, Precision
from video_captioning.tokenizer import Tokenizer

FRAMES = 40
BATCH = 16
BATCHED, PLAIN = "one pass, full batches", "one pass, full batches, float32"
SEEKING, SINGLE = "a seek and a call a frame, float32", "one pass, a call a frame, float32"
STORED, LIVE = "epoch from the store", "epoch decoding live"
BARS = {SEEKING: 5.0, LIVE: 30.0}
DEPTHS = [3, 8, 36, 3]
"""Blocks in the stages of a ResNet-152."""


@dataclass(frozen=True)
class Tried:
    """What the passes share."""

    items: Sequence[Item]
    backbone: Backbone
    plain: Backbone
    """The same in float32."""
    sampling: Sampling
    resize: Resize


def measure(listing: Path, backbone: str | None, precision: Precision, threads: int, repeat: int, count: int) -> Report:
    """The attention model on the first `count` items of a listing.

    Raises DataError for the listing, ConfigError for the backbone, MediaError for a clip.
    """
    confine(threads)
    torch.set_num_threads(threads)
    items = read_folder(listing)[:count]
    with TemporaryDirectory() as folder:
        name = backbone or random_resnet(Path(folder) / "resnet-152 of random weights")
        fast, plain = (Backbone(str(name), positions="class", precision=kind) for kind in (precision, "float32"))
        tried = Tried(items, fast, plain, Sampling(frames=FRAMES), Resize(**fast.resize))
        seconds = in_turns(
            {
                BATCHED: partial(timed, extract_all, tried, fast),
                PLAIN: partial(timed, extract_all, tried, plain),
                SEEKING: partial(timed, seek_all, tried),
                SINGLE: partial(timed, call_all, tried),
            },
            repeat,
        )
        with FeatureStore(Path(folder) / "store") as store:
            stored = StoredFeatures(store, extract(items, fast, tried.sampling, store).keys)
            live = LiveFeatures(fast, tried.sampling, items, vary=False)
            epochs = in_turns({STORED: epoch(tried, stored), LIVE: epoch(tried, live)}, repeat)
    setting = {
        "backbone": fast.identity["name"],
        "precision": precision,
        "clips": len(items),
        "frames a clip": FRAMES,
        "threads": threads,
        "rounds": repeat,
        **machine(),
    }
    return Report("features", setting, (rows(seconds), rows(epochs)))


def random_resnet(folder: Path) -> Path:
    """A ResNet-152 in Hugging Face form."""
    ResNetModel(ResNetConfig(depths=DEPTHS)).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"size": 224, "crop_pct": 0.875, "resample": 3}))
    return folder


def rows(seconds: dict[str, list[float]]) -> list[dict[str, Any]]:
    """A row a pass, and how many times longer than the first it takes."""
    base = next(iter(seconds.values()))
    return [
        {
            "pass": name,
            "seconds": median(measured),
            "times longer": median_ratio(measured, base),
            "bar": BARS.get(name),
        }
        for name, measured in seconds.items()
    ]


def timed(work: Callable[..., None], *given: Any) -> float:
    start = perf_counter()
    work(*given)
    return perf_counter() - start


def extract_all(tried: Tried, backbone: Backbone) -> None:
    with TemporaryDirectory() as folder, FeatureStore(folder) as store:
        extract(tried.items, backbone, tried.sampling, store)


@torch.inference_mode()
def call_all(tried: Tried) -> None:
    for item in tried.items:
        for pixels in sample(item.path, tried.sampling, tried.resize).pixels:
            tried.plain(torch.from_numpy(pixels[None]))


@torch.inference_mode()
def seek_all(tried: Tried) -> None:
    for item in tried.items:
        with av.open(str(item.path)) as container:
            stream = container.streams.video[0]
            assert stream.time_base is not None and stream.duration is not None
            for moment in np.linspace(0, stream.duration, FRAMES, endpoint=False).astype(int).tolist():
                container.seek(moment, stream=stream)
                frame = next((frame for frame in container.decode(stream) if (frame.pts or 0) >= moment), None)
                if frame is None:  # some clips end before they say
                    continue
                side = tried.resize.size
                pixels = frame.to_ndarray(format="rgb24", width=side, height=side)
                tried.plain(torch.from_numpy(pixels[None]))


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
            with torch.autocast("cpu", torch.bfloat16, enabled=tried.backbone.precision == torch.bfloat16):
                logits = model.logits(model(batch.features, batch.frame_mask, batch.tokens[:, :, :-1])[real])
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(logits.float(), batch.tokens[:, :, 1:][real]).backward()
            optimizer.step()
        return perf_counter() - start

    return train
