"""MSR-VTT (Xu et al. 2016): 10,000 clips, 20 captions each, from the Hugging Face hub or a copy of one's own."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from video_captioning.data.prepare import Clip, Splits, drawn
from video_captioning.errors import DataError
from video_captioning.metrics.files import of_json, parse, read

REPO = "friedrichor/MSR-VTT"
ARCHIVE = "MSRVTT_Videos.zip"
HUB = ("msrvtt_train_9k.json", "msrvtt_test_1k.json")
"""All 10,000 clips; those of the test list with one caption each."""
OFFICIAL = ("train_val_videodatainfo.json", "test_videodatainfo.json")
TEST_1K = ("MSRVTT_JSFUSION_test.csv", HUB[1])
"""The list of 1,000 clips of Yu et al. 2018, in either form."""

SplitName = Literal["official", "7k", "9k", "random"]
SPLIT_NAMES: tuple[SplitName, ...] = get_args(SplitName)
FIRST_VAL, FIRST_TEST = 6513, 7010
"""The official split goes by the numbers of the clips."""
CATEGORIES = (
    *("music", "people", "gaming", "sports/actions", "news/events/politics", "education", "tv shows", "movie/comedy"),
    *("animation", "vehicles/autos", "howto", "travel", "science/technology", "animals/pets", "kids/family"),
    *("documentary", "food/drink", "cooking", "beauty/fashion", "advertisement"),
)


def annotation_files(folder: Path) -> list[Path]:
    """The official files in `folder`, or those of the hub, as they are or compressed (`.gz`).

    Raises DataError where neither are there.
    """
    for names in (OFFICIAL, HUB):
        found = [path for name in names if (path := either(folder, name))]
        if found:
            return found
    raise DataError(folder, f"holds neither {OFFICIAL[0]} nor {HUB[0]}", "name the folder of the annotations")


def either(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def read_clips(paths: Iterable[Path], media: dict[str, Path]) -> list[Clip]:
    """The annotated clips in the order of their numbers; `media` are the files by id.

    Raises DataError where a file or a row of it cannot be read.
    """
    captions: dict[str, list[str]] = {}
    categories: dict[str, str] = {}
    for path in paths:
        content = parse(path, read(path), "")
        rows = content.get("videos", []) if isinstance(content, dict) else content
        for row in rows if isinstance(rows, list) else []:
            if isinstance(row, dict) and isinstance(name := row.get("video_id"), str):
                captions.setdefault(name, [])  # an official video may be without a sentence
                categories |= {name: label} if (label := category(row.get("category"))) else {}
        for place, name, caption in of_json(path, content):
            if not isinstance(caption, str):
                raise DataError(path, f"{place} holds a caption that is no text", "download the file again")
            captions.setdefault(name, []).append(caption)
    for name in captions:
        if not re.fullmatch(r"video\d+", name):
            raise DataError(path, f"has the id {name}", "ids of MSR-VTT are video0, video1, …; see `prepare folder`")
    return [
        Clip(name, tuple(captions[name]), media.get(name), {"category": categories[name]} if name in categories else {})
        for name in sorted(captions, key=number)
    ]


def number(name: str) -> int:
    return int(name.removeprefix("video"))


def category(value: Any) -> str | None:
    return CATEGORIES[value] if type(value) is int and 0 <= value < len(CATEGORIES) else None


def split(clips: Sequence[Clip], name: SplitName, seed: int, files: Sequence[Path]) -> Splits:
    """Indices into `clips`; `files` are the annotations.

    - official: 6,513 / 497 / 2,990.
    - 7k, 9k: the official train and val, or all but the 1,000 test clips, to train with. There is no val: published
      figures were chosen on the test clips, which is not to be repeated.
    - random: 80 / 10 / 10 by `seed`.

    Raises DataError where 7k or 9k lack the list of the test clips.
    """
    if name == "random":
        return drawn([clip.id for clip in clips], seed, val=0.1, test=0.1)
    numbers = [number(clip.id) for clip in clips]
    if name == "official":
        return {
            "train": [i for i, n in enumerate(numbers) if n < FIRST_VAL],
            "val": [i for i, n in enumerate(numbers) if FIRST_VAL <= n < FIRST_TEST],
            "test": [i for i, n in enumerate(numbers) if n >= FIRST_TEST],
        }
    test = test_ids(files)
    return {
        "train": [i for i, n in enumerate(numbers) if clips[i].id not in test and (name == "9k" or n < FIRST_TEST)],
        "val": [],
        "test": [i for i, clip in enumerate(clips) if clip.id in test],
    }


def test_ids(files: Sequence[Path]) -> set[str]:
    """The clips of the 1k test list, which is one of the annotations or lies beside them."""
    path = next((path for file in files for name in TEST_1K if (path := either(file.parent, name))), None)
    if path is None:
        names = " nor ".join(TEST_1K)
        raise DataError(files[0].parent, f"holds neither {names}", "7k and 9k need this list of the test clips")
    if ".csv" in path.suffixes:
        return {row["video_id"] for row in csv.DictReader(io.StringIO(read(path))) if row.get("video_id")}
    return {name for _, name, _ in of_json(path, parse(path, read(path), ""))}
