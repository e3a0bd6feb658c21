"""Pictures and teacher features for distillation, decoded once and memory-mapped.

Every picture but Flickr8k dev's, and frames of the training clips, go through the frozen teacher once. The whole
patch map is kept, so that a crop or flip of the picture can be paired with the same crop or flip of the map.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers import AutoModel

from video_captioning.frames import Resize, Sampling, sample

TEACHER_SIZE = 224
PICTURE_SIZE = 160
FRAMES_PER_CLIP = 24


def listed(folder: Path, listing: str) -> list[Path]:
    """Files named by the rows of a JSONL listing, in its order."""
    with (folder / listing).open() as rows:
        return [folder / json.loads(row)["file"] for row in rows]


def pictures(data: Path) -> list[Path]:
    """Every picture that may be learned from: all of them but Flickr8k dev."""
    return [
        *listed(data / "flickr8k", "train.jsonl"),
        *listed(data / "coco", "captions.jsonl"),
        *listed(data / "web", "captions.jsonl"),
        *sorted((data / "unlabelled").iterdir()),
    ]


def frames(data: Path) -> Iterator[np.ndarray]:
    """Pictures, then frames of the training clips, uint8 `[224, 224, 3]` each."""
    resize = Resize(TEACHER_SIZE, filter="bicubic")
    for path in pictures(data):
        yield from sample(path, Sampling(frames=1), resize).pixels
    for path in listed(data / "clips", "train.jsonl"):
        yield from sample(path, Sampling(frames=FRAMES_PER_CLIP), resize).pixels


def batches(items: Iterator[np.ndarray], size: int) -> Iterator[np.ndarray]:
    batch: list[np.ndarray] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield np.stack(batch)
            batch = []
    if batch:
        yield np.stack(batch)


def normalise(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


@torch.inference_mode()
def prepare(data: Path, weights: Path, out: Path, batch_size: int = 32) -> None:
    """Write `pictures.npy` (uint8 `[N, 160, 160, 3]`) and `teacher.npy` (fp16 `[N, 197, 192]`) under `out`."""
    out.mkdir(parents=True, exist_ok=True)
    teacher = AutoModel.from_pretrained(weights, dtype=torch.float32, add_pooling_layer=False).eval()
    count = 0
    with (out / "pictures.part").open("wb") as small, (out / "teacher.part").open("wb") as features:
        for pixels in batches(frames(data), batch_size):
            inputs = normalise(pixels)
            features.write(teacher(inputs).last_hidden_state.half().numpy().tobytes())
            shrunk = functional.interpolate(inputs, PICTURE_SIZE, mode="bilinear", antialias=True)
            shrunk = shrunk.add_(1).mul_(127.5).round_().clamp_(0, 255).byte().permute(0, 2, 3, 1)
            small.write(shrunk.contiguous().numpy().tobytes())
            count += len(pixels)
            if count % 3200 == 0:
                print(count, flush=True)
    (out / "pictures.part").rename(out / "pictures.bin")
    (out / "teacher.part").rename(out / "teacher.bin")
    print("done", count)
