"""Anyone's media and captions, as listings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from video_captioning.data.items import Item, read_folder
from video_captioning.data.prepare import SPLITS, Clip, Split, Splits, drawn

SHARE = 0.1
"""What val and test each get of a listing from which they are drawn."""


def read_clips(listings: Mapping[Split, Path | None], seed: int) -> tuple[list[Clip], Splits]:
    """The items of all listings, and the split: val and test are drawn from `train` by `seed` where they have none.

    Items of one file stay together. Raises DataError where a listing or a row of it cannot be read.
    """
    read = {split: read_folder(path) for split in SPLITS if (path := listings.get(split))}
    items = [item for part in read.values() for item in part]
    shares = {split: 0.0 if split in read else SHARE for split in ("val", "test")}
    splits = drawn([item.path for item in read["train"]], seed, **shares)
    at = len(read["train"])
    for split, part in read.items():
        if split != "train":
            splits[split] = list(range(at, at + len(part)))
            at += len(part)
    return [clip_of(item) for item in items], splits


def clip_of(item: Item) -> Clip:
    usual = Item(item.id, item.path, item.captions)
    fields = {name: getattr(item, name) for name in ("weight", "frames") if getattr(item, name) != getattr(usual, name)}
    return Clip(item.id, item.captions, item.path, fields)
