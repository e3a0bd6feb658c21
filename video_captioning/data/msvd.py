"""MSVD (Chen & Dolan 2011): 1,970 clips of YouTube, about 41 captions each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from video_captioning.data.prepare import Clip, Splits, drawn
from video_captioning.errors import DataError
from video_captioning.metrics.files import lines, read

DESCRIPTIONS = "AllVideoDescriptions.txt"
CLIPS = "YouTubeClips"
"""The folder of the clips beside the descriptions."""

SplitName = Literal["official", "random"]
SPLIT_NAMES: tuple[SplitName, ...] = get_args(SplitName)
LAST_TRAIN, LAST_VAL = "bQJQGoJF7_k_145_153", "eyMYc-37Sk4_0_10"
"""The official split cuts the sorted ids after the 1,200th and the 1,300th."""


def read_clips(folder: Path, media: dict[str, Path]) -> list[Clip]:
    """The described clips in the order of their ids; `media` are the files by id.

    Raises DataError where the descriptions are not there, or a row is not `video_id caption`.
    """
    path = next((path for path in (folder / DESCRIPTIONS, folder / f"{DESCRIPTIONS}.gz") if path.is_file()), None)
    if path is None:
        raise DataError(folder, f"holds no {DESCRIPTIONS}", "name the folder that does")
    captions: dict[str, list[str]] = {}
    for number, line in lines(read(path)):
        if line.startswith("#"):
            continue
        name, _, caption = line.strip().partition(" ")
        if not caption.strip():
            raise DataError(path, f"line {number} has no caption", "write `video_id caption`, or remove the row")
        captions.setdefault(name, []).append(caption.strip())
    return [Clip(name, tuple(captions[name]), media.get(name)) for name in sorted(captions)]


def split(clips: Sequence[Clip], name: SplitName, seed: int) -> Splits:
    """Indices into `clips`: official 1,200 / 100 / 670, or 70 / 15 / 15 by `seed`."""
    if name == "random":
        return drawn([clip.id for clip in clips], seed, val=0.15, test=0.15)
    ids = [clip.id for clip in clips]
    return {
        "train": [i for i, name in enumerate(ids) if name <= LAST_TRAIN],
        "val": [i for i, name in enumerate(ids) if LAST_TRAIN < name <= LAST_VAL],
        "test": [i for i, name in enumerate(ids) if name > LAST_VAL],
    }
