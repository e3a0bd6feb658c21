from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests import tiny
from tests.conftest import MakeClip
from tests.serve.running import Client, running
from video_captioning.captioner import Captioner


@pytest.fixture(scope="session")
def captioner() -> Captioner:
    return Captioner(tiny.bundle(), threads=1)


@pytest.fixture(scope="session")
def client(captioner: Captioner) -> Iterator[Client]:
    """A service as it comes, that all tests share which leave it as it is."""
    with running([captioner]) as client:
        yield client


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory, make_clip: MakeClip) -> list[Path]:
    """A picture and clips of different lengths, formats and captions."""
    folder = tmp_path_factory.mktemp("media")
    Image.fromarray(tiny.pictures(1)[0]).save(folder / "still.png")
    clips = [
        make_clip(folder / f"clip {seed}.{ending}", tiny.pictures(frames, seed), fps=8)
        for seed, (frames, ending) in enumerate([(4, "mp4"), (40, "mkv"), (12, "mp4"), (20, "mov")], 1)
    ]
    return [folder / "still.png", *clips]
