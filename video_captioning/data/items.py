"""What a data set is, whatever its source: items of media and captions, read from a listing in a folder."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from video_captioning.errors import DataError
from video_captioning.tokenizer import clean


@dataclass(frozen=True)
class Item:
    """One clip or picture with its references."""

    id: str
    path: Path
    captions: tuple[str, ...]
    weight: float = 1.0
    """How often an epoch draws it, on average."""
    frames: int = 1
    """A picture is shown as a clip that stands still for this many frames; a clip is shown as it is."""


def read_folder(listing: str | Path) -> list[Item]:
    """Items of a TSV (`file<TAB>caption`, a row a caption) or JSONL (`file`, and `captions` or `caption`) listing.

    Files are relative to the listing's folder. JSONL can also state `id`, `weight` and `frames`. Rows of one file and
    as many `frames` are one item, with the `id` and `weight` of the last. A caption of nothing but spaces and full
    stops is none.

    Raises:
        DataError: no such listing, a row that cannot be read (its line is named), or no row at all.
    """
    path = Path(listing)
    rows = read_json_lines(path) if path.suffix == ".jsonl" else read_tab_separated(path)
    items: dict[tuple[str, int], Item] = {}
    for line, file, captions, name, weight, frames in rows:
        kept = tuple(caption for caption in captions if clean(caption))
        if not kept or not file:
            raise DataError(path, f"line {line} has no {'caption' if file else 'file'}", "write one or remove the row")
        known = items.get((file, frames))
        if known is not None:
            kept = known.captions + kept
        items[file, frames] = Item(name, path.parent / file, kept, weight, frames)
    if not items:
        raise DataError(path, "no rows", "write one row a caption: file, tab, caption")
    return list(items.values())


Row = tuple[int, str, list[str], str, float, int]


def lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line.rstrip("\r\n")
    except OSError as error:
        raise DataError(path, f"cannot be read ({error.strerror})", "give a TSV or JSONL listing") from error
    except UnicodeDecodeError as error:
        raise DataError(path, "is not UTF-8 text", "save it as UTF-8") from error


def read_tab_separated(path: Path) -> Iterator[Row]:
    for number, line in lines(path):
        cells = line.split("\t")
        if len(cells) != 2:
            raise DataError(path, f"line {number} has {len(cells)} columns", "write two: file, tab, caption")
        if cells == ["file", "caption"]:  # a heading
            continue
        yield number, cells[0], [cells[1]], Path(cells[0]).stem, 1.0, 1


def read_json_lines(path: Path) -> Iterator[Row]:
    for number, line in lines(path):
        try:
            row: Any = json.loads(line)
            file = row["file"]
            captions = row["captions"] if "captions" in row else [row["caption"]]
            weight, frames = float(row.get("weight", 1.0)), row.get("frames", 1)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DataError(
                path, f"line {number} is not a row ({error})", 'write {"file": …, "captions": […]}'
            ) from error
        if not isinstance(captions, list) or not all(is_text(value) for value in (file, *captions)):
            raise DataError(path, f"line {number} holds something that is not text", "give strings, captions in a list")
        if not 0 < weight < math.inf:
            raise DataError(path, f"line {number} has the weight {weight}", "give a number above 0 or remove the row")
        if type(frames) is not int or frames < 1:
            raise DataError(path, f"line {number} has {frames} frames", "give a whole number above 0 or remove it")
        yield number, file, captions, str(row.get("id", Path(file).stem)), weight, frames


def is_text(value: object) -> bool:
    """A string that can be written as UTF-8: JSON can name halves of characters."""
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)
