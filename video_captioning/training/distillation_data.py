"""Pictures for distillation and what the teacher makes of crops of them, in files that are memory-mapped."""

from __future__ import annotations

import math
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers import AutoConfig, AutoModel

from video_captioning.data import views
from video_captioning.data.items import Item, read_folder
from video_captioning.frames import Resize, Sampling, sample

SIDE = 224
"""Of a stored picture and of what the teacher sees, pixels."""
GRID = 10
"""Side of the stored map of patches."""
FRAMES_PER_CLIP = 24
WEIGHTS = {"flickr8k": 1.5, "coco": 1.5, "web": 1.0, "unlabelled": 1.0, "clips": 0.3}
"""How often a picture of a source is drawn, in proportion: what people took and described above the rest.

The frames of a clip are much alike, and a student that knows them by heart spoils the decoder for other clips.
"""
HELD_OUT = 50
"""Every n-th picture is not learned from, whole or in part; those of them with captions are for validation."""
SMALLEST = 0.15
"""Area of a crop, at least, as a share of the picture's."""
MIXED = 0.3
"""Share of the crops that get a part of another picture."""
TEACHER_BATCH = 32  # what stays in the caches of a processor


def captioned(data: Path) -> list[Item]:
    """Every picture with captions but Flickr8k dev's."""
    listings = ("flickr8k/train.jsonl", "coco/captions.jsonl", "web/captions.jsonl")
    return [item for listing in listings for item in read_folder(data / listing)]


def files(data: Path) -> list[Path]:
    """Pictures with captions, those without, training clips."""
    clips = [item.path for item in read_folder(data / "clips" / "train.jsonl")]
    return [*(item.path for item in captioned(data)), *sorted((data / "unlabelled").iterdir()), *clips]


def frames(path: Path) -> np.ndarray:
    """A picture, or frames of a clip, uint8 `[n, SIDE, SIDE, 3]`."""
    return sample(path, Sampling(frames=FRAMES_PER_CLIP), Resize(SIDE, filter="bicubic")).pixels


def prepare(data: Path, out: Path) -> None:
    """Write the pictures, uint8 `[N, SIDE, SIDE, 3]`, to the file `out`."""
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_suffix(".part")
    with part.open("wb") as file:
        for path in files(data):
            file.write(frames(path).tobytes())
    part.replace(out)


def weights(data: Path, count: int) -> np.ndarray:
    """How often each of the `count` pictures that `prepare` wrote is drawn, in proportion, float64 `[count]`."""
    sources = [path.relative_to(data).parts[0] for path in files(data)]
    stills = [WEIGHTS[source] for source in sources if source != "clips"]
    return np.array(stills + [WEIGHTS["clips"]] * (count - len(stills)))


def load(path: Path) -> np.ndarray:
    """The pictures that `prepare` wrote, read from the disk as they are asked for."""
    return np.memmap(path, np.uint8, "c").reshape(-1, SIDE, SIDE, 3)


def crop(pixels: np.ndarray, picture: int, number: int) -> Tensor:
    """Crop `number` of a picture, always the same, number 0 the whole of it: uint8 `[1, 3, SIDE, SIDE]`."""
    if not number:
        return torch.from_numpy(pixels[picture]).permute(2, 0, 1)[None]
    rng = np.random.default_rng((picture, number))
    part = views.crop(pixels[picture][None], SMALLEST, rng)
    if rng.random() >= MIXED:
        return part
    other = int(rng.integers(len(pixels)))
    if other % HELD_OUT == 0:  # the next one instead
        other = (other + 1) % len(pixels)
    return views.paste(part, views.crop(pixels[other][None], SMALLEST, rng), rng)


def teach(pictures: Path, teacher: Path, crops: int, out: Path) -> None:
    """Write what the teacher, a vision model, makes of the first `crops` crops of every picture to the file `out`.

    The file is fp16 `[N, crops, 1 + GRID², D]`, the class token first. One process a core, each with one thread.
    """
    count = len(load(pictures))
    part = out.with_suffix(".part")
    shape = count, crops, 1 + GRID**2, AutoConfig.from_pretrained(teacher).hidden_size
    np.memmap(part, np.float16, "w+", shape=shape)
    cores = os.cpu_count() or 1
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(cores, context, torch.set_num_threads, (1,)) as pool:
        shares = np.array_split(np.arange(count), cores)
        for job in [pool.submit(teach_some, pictures, teacher, part, shape, share) for share in shares]:
            job.result()
    part.replace(out)


@torch.inference_mode()
def teach_some(pictures: Path, teacher: Path, out: Path, shape: tuple[int, ...], share: np.ndarray) -> None:
    """The part of `teach` for the pictures of one share."""
    model = AutoModel.from_pretrained(teacher, dtype=torch.bfloat16, add_pooling_layer=False).eval()
    pixels = load(pictures)
    features = np.memmap(out, np.float16, "r+", shape=shape)
    for chosen in np.array_split(share, math.ceil(len(share) * shape[1] / TEACHER_BATCH)):
        shown = torch.cat([crop(pixels, picture, number) for picture in chosen for number in range(shape[1])])
        hidden = model(pixel_values=(shown.float() / 127.5 - 1).bfloat16()).last_hidden_state
        features[chosen] = pooled(hidden.float(), GRID).half().numpy().reshape(len(chosen), *shape[1:])


def load_features(path: Path, pictures: int, crops: int) -> np.ndarray:
    """The features that `teach` wrote."""
    return np.memmap(path, np.float16, "r").reshape(pictures, crops, 1 + GRID**2, -1)


def pooled(features: Tensor, grid: int) -> Tensor:
    """Features `[N, 1 + G², D]` with their patches averaged to `grid` squared."""
    patches = features[:, 1:].transpose(1, 2)
    side = math.isqrt(patches.shape[2])
    patches = functional.adaptive_avg_pool2d(patches.unflatten(2, (side, side)), grid)
    return torch.cat([features[:, :1], patches.flatten(2).transpose(1, 2)], 1)
