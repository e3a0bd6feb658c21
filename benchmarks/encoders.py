"""Which EfficientNet-Lite, on pictures of what size? Cost in int8 beside a bundle's encoder, and quality.

All are quantized alike: statically, per channel, calibrated on a few pictures. Quality is how many of ImageNet's
classes its own classifier tells, and what a linear probe finds in its features (`python -m benchmarks probe`), both on
a part of the data.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np
import torch

from benchmarks.probe import SAMPLING, TRAINING, Encoder, bundle_encoder, probe, see_training, see_validation
from benchmarks.report import Report, machine
from benchmarks.timing import in_turns, median_ratio
from video_captioning import bundle
from video_captioning.data.items import read_folder
from video_captioning.errors import DataError
from video_captioning.export.onnx import write
from video_captioning.export.quantize import quantize_operators
from video_captioning.frames import Resize, Sampling, sample
from video_captioning.models.backbone import Backbone, LiteMap
from video_captioning.models.efficientnet_lite import CLASSES, VARIANTS, EfficientNetLite

SIDES = (160, 192, 224, 260)
"""Of the pictures, pixels."""
CALIBRATION = 40
"""Pictures in which ranges are found."""
FRAMES, CALLS = 8, 5
"""Frames of a timed call, and calls of a round."""


@dataclass(frozen=True)
class Tried:
    """An encoder, and the network whose classifier tells what it sees, if there is one."""

    name: str
    encoder: Encoder
    network: EfficientNetLite | None = None


def measure(model: str, data: Path, every: int, repeat: int) -> Report:
    """A bundle's encoder and all sizes of EfficientNet-Lite at all resolutions, on one thread.

    Args:
        every: one in so many training items of the probe, and of ImageNet's classes.

    Raises DataError for a listing or the pictures of the classes, MediaError for an item, BundleError for the bundle,
    ConfigError for weights that are not installed.
    """
    torch.set_num_threads(1)
    found = bundle.read(model)
    pictures = class_pictures(data)
    with TemporaryDirectory(prefix="vidcap-") as folder:
        tried = [Tried(f"bundle {found.name}", bundle_encoder(found, 1))]
        for name in VARIANTS:
            backbone = Backbone(name, positions="class")
            assert isinstance(backbone.model, LiteMap)
            for side in SIDES:
                encoder = quantized(backbone, side, data, Path(folder) / f"{name}-{side}.onnx")
                tried.append(Tried(name, encoder, backbone.model.network))
        seconds = in_turns({str(n): partial(timed, one.encoder) for n, one in enumerate(tried)}, repeat)
        rows = []
        for one, measured in zip(tried, seconds.values(), strict=True):
            rows.append(
                {
                    "encoder, int8": one.name,
                    "pixels": one.encoder.resize.size,
                    "ms a frame": 1000 * median(measured) / (FRAMES * CALLS),
                    "ratio": median_ratio(measured, seconds["0"]),
                    **quality(one, pictures, data, every),
                }
            )
    setting = {
        "calibrated on": CALIBRATION,
        "quality": f"with 1 in {every} training items and classes",
        "threads": 1,
        "rounds": repeat,
        **machine(),
    }
    return Report("encoders", setting, (rows,))


def class_pictures(data: Path) -> list[Path]:
    """A picture of each of ImageNet's classes, in the order of their WordNet ids. Raises DataError."""
    folder = data / "unlabelled"
    found = sorted(folder.glob("imagenet_*"))
    if len(found) != CLASSES:
        problem = f"holds {len(found)} files imagenet_*, not one for each of {CLASSES} classes"
        raise DataError(folder, problem, "name another folder with --data")
    return found


def quantized(backbone: Backbone, side: int, data: Path, graph: Path) -> Encoder:
    """A backbone in int8, written to `graph`, for pictures of `side` pixels."""
    resize = Resize(**backbone.resize | {"size": side})
    frames = torch.zeros(1, side, side, 3, dtype=torch.uint8)
    write(graph, backbone, {"frames": frames}, {"frames": {0: "N"}}, {"features": {0: "N"}})
    items = [item for listing in TRAINING for item in read_folder(data / listing)]
    chosen = items[:: max(1, len(items) // CALIBRATION)][:CALIBRATION]
    quantize_operators(graph, [picture(item.path, resize) for item in chosen], [])
    session = bundle.session(graph, 1, arithmetic=True)

    def encode(frames: np.ndarray) -> np.ndarray:
        features: np.ndarray = session.run(None, {"frames": frames})[0]
        return features[:, 0]

    return Encoder(resize, SAMPLING, encode)


def picture(path: Path, resize: Resize) -> np.ndarray:
    """The middle frame, uint8 `[1, S, S, 3]`."""
    return sample(path, Sampling(frames=1), resize).pixels


def timed(encoder: Encoder) -> float:
    """Seconds of a round."""
    side = encoder.resize.size
    frames = np.random.default_rng(0).integers(0, 256, (FRAMES, side, side, 3), np.uint8)
    start = perf_counter()
    for _ in range(CALLS):
        encoder.encode(frames)
    return perf_counter() - start


def quality(one: Tried, pictures: list[Path], data: Path, every: int) -> dict[str, Any]:
    """Percent of ImageNet's classes that are told, and the probe's average precision, percent, on each set."""
    told = None if one.network is None else top_1(one.encoder, one.network, pictures, every)
    found = probe(see_training(one.encoder, data, every), see_validation(one.encoder, data))
    return {"top-1, %": told, **{f"{name}, %": value for name, value in found.items()}}


@torch.inference_mode()
def top_1(encoder: Encoder, network: EfficientNetLite, pictures: list[Path], every: int) -> float:
    """Percent of one in `every` classes whose picture the network's classifier takes for it."""
    classes = range(0, len(pictures), every)
    features = np.concatenate([encoder.encode(picture(pictures[n], encoder.resize)) for n in classes])
    guesses = network.classify(torch.from_numpy(features)[:, :, None, None]).argmax(1)
    return 100 * float((guesses == torch.tensor(classes)).float().mean())
