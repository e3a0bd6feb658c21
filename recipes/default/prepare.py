"""Files that the encoder is trained on: pixels, the concepts of each caption, and what two teachers see.

The teachers are the ImageNet classifier that the encoder starts from, so that it forgets nothing that captions do not
mention, and ViT-tiny, which sees other things.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers import AutoModel

from recipes.default import concepts
from recipes.default.sources import Source, clips, picture_sentences, pictures, validation, video_sentences
from recipes.default.sources import class_names as names_of_classes
from video_captioning.files import write_whole
from video_captioning.frames import Resize, Sampling, sample
from video_captioning.models.efficientnet_lite import pretrained
from video_captioning.tokenizer import Tokenizer

SIDE = 224
"""Of a stored picture, pixels."""
FRAMES, HELD_FRAMES = 6, 4
"""Of each training clip, and of each validation clip."""
GRID = 4
"""Side of the stored map of the ViT's patches, and of the map that the captioner sees."""
VOCABULARY = 4000
BATCH = 32


def layout(data: Path) -> tuple[list[Source], list[Source]]:
    """Training sources, then those that are validated on (every second picture of dev): their frames' order."""
    held = validation(data)
    return [*pictures(data), *clips(data)], [*held["dev"][::2], *held["validation"], *held["more_validation"]]


def frames(job: tuple[Source, int]) -> np.ndarray:
    """A picture, or some frames of a clip, uint8 `[n, SIDE, SIDE, 3]`."""
    source, count = job
    return sample(source.path, Sampling(frames=count), Resize(SIDE, filter="bicubic"), threads=1).pixels


def write_pixels(data: Path, out: Path) -> None:
    """Write `pixels.bin`, uint8 `[N, SIDE, SIDE, 3]`, and `owners.npy`, the number of each frame's source."""
    training, held = layout(data)
    jobs = [(source, FRAMES) for source in training] + [(source, HELD_FRAMES) for source in held]
    owners: list[int] = []
    part = out / "pixels.part"
    with part.open("wb") as file, ProcessPoolExecutor(os.cpu_count()) as pool:
        for number, pixels in enumerate(pool.map(frames, jobs, chunksize=32)):
            file.write(pixels.tobytes())
            owners += [number] * len(pixels)
    part.replace(out / "pixels.bin")
    np.save(out / "owners.npy", np.array(owners, np.int32))


def load_pixels(folder: Path) -> np.ndarray:
    """Whoever writes into them has copies: torch takes no array that is read-only."""
    return np.memmap(folder / "pixels.bin", np.uint8, "c").reshape(-1, SIDE, SIDE, 3)


def write_words(data: Path, out: Path) -> None:
    """Write `tokenizer.model`, `concepts.json`, and `words.npy`: float16 `[sources, concepts]`.

    A concept's target is the share of a source's captions that use it.
    """
    training, held = layout(data)
    captions = [caption for source in training for caption in source.captions]
    text = [*picture_sentences(data), *video_sentences(data)]
    tokenizer = Tokenizer.train([*captions * 4, *text], VOCABULARY)
    write_whole(out / "tokenizer.model", tokenizer.model, "run again")
    found = concepts.choose([source.captions for source in training], text, names_of_classes(data))
    targets = concepts.targets([source.captions for source in [*training, *held]], found)
    np.save(out / "words.npy", targets.astype(np.float16))
    write_whole(out / "concepts.json", json.dumps([vars(concept) for concept in found]).encode(), "run again")


@torch.inference_mode()
def write_classes(out: Path, name: str) -> None:
    """Write `classes.npy`: the classifier's posterior of each frame, float16 `[N, 1000]`."""
    model = pretrained(name).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    pixels = load_pixels(out)
    with torch.autocast("cpu", torch.bfloat16):
        logits = [model.classify(model(normalised(part)).float()).float() for part in batches(pixels)]
    np.save(out / "classes.npy", torch.cat(logits).softmax(1).half().numpy())


@torch.inference_mode()
def write_teacher(out: Path, teacher: Path) -> None:
    """Write `teacher.npy`: standardised features of the ViT, class token first, float16 `[N, 1 + GRID², D]`."""
    model = AutoModel.from_pretrained(teacher, dtype=torch.bfloat16, add_pooling_layer=False).eval()
    found = []
    for part in batches(load_pixels(out)):
        pictures_ = torch.from_numpy(part).permute(0, 3, 1, 2).float() / 127.5 - 1
        found.append(pooled(model(pixel_values=pictures_.bfloat16()).last_hidden_state.float()).half())
    features = torch.cat(found).float()
    for tokens in (features[:, :1], features[:, 1:]):
        tokens -= tokens.mean((0, 1))
        tokens /= tokens.std((0, 1)) + 1e-3
    np.save(out / "teacher.npy", features.half().numpy())


def batches(pixels: np.ndarray) -> list[np.ndarray]:
    return [pixels[at : at + BATCH] for at in range(0, len(pixels), BATCH)]


def normalised(pixels: np.ndarray) -> Tensor:
    """uint8 `[N, S, S, 3]` → float32 `[N, 3, S, S]` as EfficientNet-Lite takes it, channels last in memory."""
    return ((torch.from_numpy(pixels).float() - 127) / 128).permute(0, 3, 1, 2)


def pooled(hidden: Tensor) -> Tensor:
    """Tokens `[N, 1 + G², D]` with their patches averaged to `GRID` squared."""
    side = math.isqrt(hidden.shape[1])
    patches = hidden[:, 1:].transpose(1, 2).unflatten(2, (side, side))
    return torch.cat([hidden[:, :1], functional.adaptive_avg_pool2d(patches, GRID).flatten(2).transpose(1, 2)], 1)


def prepare(data: Path, teacher: Path, name: str, out: Path) -> None:
    """Write what is missing of the files."""
    out.mkdir(parents=True, exist_ok=True)
    steps: dict[str, Callable[[], None]] = {
        "owners.npy": lambda: write_pixels(data, out),
        "concepts.json": lambda: write_words(data, out),
        "classes.npy": lambda: write_classes(out, name),
        "teacher.npy": lambda: write_teacher(out, teacher),
    }
    for file, step in steps.items():
        if not (out / file).exists():
            step()
