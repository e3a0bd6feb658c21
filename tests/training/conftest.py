"""Eight pictures and clips with a caption each, and runs on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Protocol

import pytest
from PIL import Image

from tests import tiny
from tests.conftest import MakeClip
from video_captioning.training.run import train

CAPTIONS = (
    "a red ball rolls over the grass",
    "two dogs run on a beach",
    "a man plays the guitar",
    "the sea at night",
    "a woman slices an onion",
    "a car drives down a road",
    "children sing on a stage",
    "a cat sleeps",
)


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory, make_clip: MakeClip) -> dict[Path, str]:
    """Files and what is said of each: a picture, a clip, a picture, …"""
    folder = tmp_path_factory.mktemp("media")
    captions = {}
    for number, caption in enumerate(CAPTIONS):
        [picture] = tiny.pictures(1, number)
        if number % 2:
            path = make_clip(folder / f"{number}.mp4", [picture] * 8, fps=4)
        else:
            path = folder / f"{number}.png"
            Image.fromarray(picture).save(path)
        captions[path] = caption
    return captions


def listing(path: Path, media: dict[Path, str], weight: float = 1.0) -> Path:
    """A JSONL listing of the media."""
    rows = [{"file": str(file), "captions": [caption], "weight": weight} for file, caption in media.items()]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


class Run(Protocol):
    def __call__(self, *overrides: str, out: str = ..., weight: float = ..., kind: str = ...) -> Path: ...


@pytest.fixture
def run(tmp_path: Path, media: dict[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A function that trains a tiny model on the media, one epoch unless told otherwise."""
    store = tmp_path_factory.getbasetemp() / "features"  # of all runs

    def start(*overrides: str, out: str = "run", weight: float = 1.0, kind: str = "advanced") -> Path:
        return train(kind, [*settings(tmp_path, media, store, out, weight, kind), *overrides])

    return start


SIZES = {
    "baseline": ["model.min_count=1", "model.backbone.positions=both"],
    "attention": ["model.min_count=1", "model.encoder_width=32", "model.attention_width=32", "model.sampling.frames=4"],
    "advanced": ["model.vocabulary=60", "model.heads=2", "model.decoder_layers=2", "model.feedforward=128"],
}


def settings(
    folder: Path,
    media: dict[Path, str],
    store: Path,
    out: str = "run",
    weight: float = 1.0,
    kind: str = "advanced",
) -> list[str]:
    """Overrides of a run in `folder / out` that is as small as can be and leaves nothing to chance."""
    return [
        *SIZES[kind],
        f"dataset.train={listing(folder / 'train.jsonl', media, weight)}",
        f"dataset.validation={listing(folder / 'validation.jsonl', media)}",
        f"out={folder / out}",
        f"training.store={store}",
        f"model.backbone.name={tiny.backbone()}",
        "model.backbone.grid=2",
        "model.width=64",
        "model.dropout=0",
        "training.label_smoothing=0",
        "training.feature_dropout=0",
        "training.mirror=false",
        "training.batch_size=8",
        "training.learning_rate=3e-3",
        "training.max_epochs=1",
        "logging=none",
    ]
