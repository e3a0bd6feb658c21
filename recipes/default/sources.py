"""What the embedded model learns from: pictures and clips with plain captions, and sentences alone."""

from __future__ import annotations

import gzip
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Row = dict[str, Any]

PICTURES = (
    ("flickr8k", "train.jsonl"),
    ("coco", "captions.jsonl", "captions_more.jsonl"),
    ("web", "captions_plain.jsonl"),
    ("unlabelled", "captions.jsonl"),
)
"""Folders and listings; of the web's pictures the careful captions, not the alt texts."""
CLIPS = ("train.jsonl", "more_train.jsonl", "captions_more.jsonl")
VALIDATION = (("flickr8k", "dev.jsonl"), ("clips", "validation.jsonl"), ("clips", "more_validation.jsonl"))
TEXT = ("flickr30k", "coco_val2017", "charades", "activitynet")
TIMES = re.compile(r"^\[[\d.]+-[\d.]+\]\s*")
"""ActivityNet's sentences tell when they hold."""


@dataclass(frozen=True)
class Source:
    """A picture or a clip and what people said of it."""

    id: str
    path: Path
    captions: tuple[str, ...]
    kind: str
    """Name of its folder, `clips` for clips."""
    dataset: str = ""
    """Where a clip is from."""


def rows(listing: Path) -> list[Row]:
    return [json.loads(line) for line in listing.read_text().splitlines()]


def read(folder: Path, *listings: str) -> list[Source]:
    """Items of the listings of one folder; captions of one file are put together."""
    captions: dict[str, list[str]] = defaultdict(list)
    first: dict[str, Row] = {}
    for listing in listings:
        for row in rows(folder / listing):
            captions[row["file"]] += [TIMES.sub("", caption) for caption in row["captions"]]
            first.setdefault(row["file"], row)
    return [
        Source(row["id"], folder / file, tuple(captions[file]), folder.name, row.get("dataset", ""))
        for file, row in first.items()
    ]


def pictures(data: Path) -> list[Source]:
    """Every training picture."""
    return [source for folder, *listings in PICTURES for source in read(data / folder, *listings)]


def clips(data: Path) -> list[Source]:
    """Every training clip."""
    return read(data / "clips", *CLIPS)


def validation(data: Path) -> dict[str, list[Source]]:
    """Pictures and clips that are chosen on, by the name of their listing."""
    return {listing.removesuffix(".jsonl"): read(data / folder, listing) for folder, listing in VALIDATION}


def class_names(data: Path) -> list[str]:
    """Plain names of ImageNet's 1,000 classes in their order, from the names of one picture of each."""
    files = sorted(path.stem for path in (data / "unlabelled").glob("imagenet_*"))
    return [" ".join(file.split("_")[2:]).lower() for file in files]


def video_sentences(data: Path) -> list[str]:
    """What was said of MSR-VTT's and MSVD's training videos, but of none that is validated or tested on."""
    held = {row["id"].partition("_")[2] for row in rows(data / "clips" / "validation.jsonl")}
    with gzip.open(data / "msrvtt" / "train_val_videodatainfo.json.gz") as file:
        msrvtt = json.load(file)
    train = {video["video_id"] for video in msrvtt["videos"] if video["split"] == "train"} - held
    found = [row["caption"] for row in msrvtt["sentences"] if row["video_id"] in train]
    train = set(json.loads((data / "msvd" / "official_split.json").read_text())["train"]) - held
    with gzip.open(data / "msvd" / "AllVideoDescriptions.txt.gz", "rt") as lines:
        found += [text for name, _, text in (line.strip().partition(" ") for line in lines) if name in train]
    return [" ".join(sentence.lower().split()) for sentence in found]


def picture_sentences(data: Path) -> Iterator[str]:
    """Captions alone."""
    for name in TEXT:
        with gzip.open(data / "text" / f"{name}.txt.gz", "rt") as lines:
            for line in lines:
                yield " ".join(line.lower().split())
