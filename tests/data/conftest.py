"""A miniature of MSR-VTT in the forms of the hub and of its authors, with clips that are made here."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import MakeClip
from tests.data.hub_server import Hub, serving

NUMBERS = {"train": (0, 1, 6512), "val": (6513,), "test": (7010, 7020)}
"""Clips of each official split; 7020 is of the 1k list, and video1 has no clip."""
PAD = b"\0" * (24 << 20)
"""Makes the archive longer than what the hub's client takes at once."""


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory, make_clip: MakeClip) -> Path:
    """A folder with the clips of the miniature; the content of each is its own."""
    folder = tmp_path_factory.mktemp("clips")
    for place, number in enumerate(n for numbers in NUMBERS.values() for n in numbers if n != 1):
        make_clip(folder / f"video{number}.mp4", frames=4 + place)
    return folder


def hub_row(number: int) -> dict[str, object]:
    one = f"clip {number} is shown"
    captions: object = one if number == 7020 else [one, f"Clip {number} is shown.", f"a man plays clip {number}"]
    return {
        "video_id": f"video{number}",
        "video": f"video{number}.mp4",
        "caption": captions,
        "category": 1,
        "id": number,
    }


@pytest.fixture(scope="session")
def hub_files(clips: Path) -> dict[str, bytes]:
    numbers = [number for group in NUMBERS.values() for number in group]
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for clip in sorted(clips.iterdir()):
            file.write(clip, f"video/{clip.name}")
        file.writestr("video/pad.bin", PAD)
    return {
        "msrvtt_train_9k.json": json.dumps([hub_row(number) for number in numbers if number != 7020]).encode(),
        "msrvtt_test_1k.json": json.dumps([hub_row(7020)]).encode(),
        "MSRVTT_Videos.zip": archive.getvalue(),
    }


@pytest.fixture
def hub(hub_files: dict[str, bytes]) -> Iterator[Hub]:
    with serving(dict(hub_files)) as server:
        yield server
