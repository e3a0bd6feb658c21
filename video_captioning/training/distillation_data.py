"""Pictures for distillation, decoded once into one file that is memory-mapped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from video_captioning.data.items import Item, read_folder
from video_captioning.frames import Resize, Sampling, sample

SIDE = 224
"""Of a stored picture and of what the teacher sees, pixels."""
FRAMES_PER_CLIP = 24


def captioned(data: Path) -> list[Item]:
    """Every picture with captions but Flickr8k dev's."""
    listings = ("flickr8k/train.jsonl", "coco/captions.jsonl", "web/captions.jsonl")
    return [item for listing in listings for item in read_folder(data / listing)]


def frames(data: Path) -> Iterator[np.ndarray]:
    """Pictures with captions, those without, frames of the training clips; uint8 `[n, SIDE, SIDE, 3]` of each file."""
    resize = Resize(SIDE, filter="bicubic")
    for path in [*(item.path for item in captioned(data)), *sorted((data / "unlabelled").iterdir())]:
        yield sample(path, Sampling(frames=1), resize).pixels
    for item in read_folder(data / "clips" / "train.jsonl"):
        yield sample(item.path, Sampling(frames=FRAMES_PER_CLIP), resize).pixels


def prepare(data: Path, out: Path) -> None:
    """Write the pictures, uint8 `[N, SIDE, SIDE, 3]`, to the file `out`."""
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_suffix(".part")
    with part.open("wb") as file:
        for pixels in frames(data):
            file.write(pixels.tobytes())
    part.replace(out)


def load(path: Path) -> np.ndarray:
    """The pictures that `prepare` wrote, read from the disk as they are asked for."""
    return np.memmap(path, np.uint8, "c").reshape(-1, SIDE, SIDE, 3)
