"""Captions in the forms in which the field keeps them."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from video_captioning.errors import DataError

IDS = "image_id", "video_id", "id"
CAPTIONS = "captions", "caption", "text"
ROWS = "annotations", "sentences"
"""Where the COCO tool and MSR-VTT keep their rows."""
FORMS = 'give {"id": ["caption", …]}, the COCO tool\'s JSON, JSON lines with id and caption, or id, tab, caption'

Captions = dict[str, list[str]]


def read_captions(path: str | Path) -> Captions:
    """Captions of each id.

    - JSON: `{id: caption or captions}`; a list of rows, or one under `annotations` or `sentences`.
    - JSONL (`.jsonl`): rows.
    - TSV (any other ending): id, tab, caption; as many rows as there are captions.

    A row has `image_id`, `video_id` or `id` and `caption`, `captions` or `text`. Listings of data sets and what
    `vidcap caption` writes can do without: the name of the file without its ending is the id. Any of them can be
    compressed (`.gz`).

    Raises:
        DataError: the file cannot be read or holds anything else; the place is named.
    """
    path = Path(path)
    ending = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    text = read(path)
    if ending == ".json":
        found = of_json(path, parse(path, text, ""))
    elif ending == ".jsonl":
        found = of_rows(path, (("line", n, parse(path, line, f"line {n} ")) for n, line in lines(text)))
    else:
        found = of_table(path, text)
    captions: Captions = {}
    for place, name, caption in found:
        if not isinstance(caption, str):
            raise DataError(path, f"{place} holds {kind(caption)} for a caption", "give text")
        captions.setdefault(name, []).append(caption)
    if not captions:
        raise DataError(path, "holds no captions", FORMS)
    return captions


def one_each(path: str | Path, captions: Captions) -> dict[str, str]:
    """What a system said: one caption an id. Raises DataError where an id has several."""
    for name, said in captions.items():
        if len(said) > 1:
            raise DataError(path, f"{len(said)} captions of id {name}", "give one caption an id")
    return {name: said[0] for name, said in captions.items()}


Found = Iterator[tuple[str, str, Any]]
"""Place, id and caption."""


def read(path: Path) -> str:
    opening: Callable[..., Any] = gzip.open if path.suffix == ".gz" else open
    try:
        with opening(path, "rt", encoding="utf-8-sig", newline="") as file:
            text: str = file.read()
            return text
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(path, f"cannot be read ({reason})", "name a file of captions") from error
    except UnicodeDecodeError as error:
        raise DataError(path, "is not UTF-8 text", "save it as UTF-8") from error


def lines(text: str) -> Iterator[tuple[int, str]]:
    return ((number, line.rstrip("\r")) for number, line in enumerate(text.split("\n"), 1) if line.strip())


def parse(path: Path, text: str, place: str) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in found if names.count(name) > 1)
            raise DataError(path, f"{place}has {twice} twice", "keep one, or put all captions of an id in a list")
        return found

    try:
        return json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise DataError(path, f"{place}is not JSON ({error})", FORMS) from error


def of_json(path: Path, content: Any) -> Found:
    if isinstance(content, dict):
        rows = next((content[name] for name in ROWS if isinstance(content.get(name), list)), None)
        if rows is None:
            return of_object(path, content)
        content = rows
    if not isinstance(content, list):
        raise DataError(path, f"holds {kind(content)}", FORMS)
    return of_rows(path, (("row", number, row) for number, row in enumerate(content, 1)))


def of_object(path: Path, content: dict[str, Any]) -> Found:
    for name, captions in content.items():
        yield from each(path, f"id {name}", name, captions)


def of_rows(path: Path, rows: Iterable[tuple[str, int, Any]]) -> Found:
    for what, number, row in rows:
        place = f"{what} {number}"
        if not isinstance(row, dict):
            raise DataError(path, f"{place} is {kind(row)}, no row", FORMS)
        name = next((row[key] for key in IDS if key in row), None)
        video = row.get("video")
        file = video.get("path") if isinstance(video, dict) else row.get("file")
        if name is None and isinstance(file, str):
            name = Path(file).stem
        if isinstance(name, bool) or not isinstance(name, str | int):
            raise DataError(path, f"{place} has no id", f"name it one of {', '.join(IDS)}")
        key = next((key for key in CAPTIONS if key in row), None)
        if key is None:
            raise DataError(path, f"{place} has no caption", f"name it one of {', '.join(CAPTIONS)}")
        yield from each(path, place, str(name), row[key])


def each(path: Path, place: str, name: str, captions: Any) -> Found:
    """One caption, or a list of captions or of rows with one."""
    if not isinstance(captions, list):
        captions = [captions]
    elif not captions:
        raise DataError(path, f"{place} has no captions", "give one or remove it")
    for caption in captions:
        yield place, name, caption.get("caption") if isinstance(caption, dict) else caption


def of_table(path: Path, text: str) -> Found:
    for number, line in lines(text):
        cells = line.split("\t")
        if len(cells) != 2:
            raise DataError(path, f"line {number} has {len(cells)} columns, not 2", FORMS)
        if number > 1 or cells not in (["id", "caption"], ["file", "caption"]):
            yield f"line {number}", cells[0], cells[1]


def kind(value: Any) -> str:
    """What a value of JSON is, to people."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "nothing"}
    return names.get(type(value), "a number")
