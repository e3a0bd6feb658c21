"""A contact sheet: random items of a listing with their frames and captions on one page, to look at before training."""

from __future__ import annotations

import html
import random
from collections.abc import Callable, Iterable
from pathlib import Path

from video_captioning.data.items import Item, read_folder
from video_captioning.data.thumbnails import thumbnails
from video_captioning.errors import MediaError, printable

FRAMES = 3
PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
body {{ font: 15px/1.4 system-ui, sans-serif; margin: 2rem; color: #222; background: #fff }}
article {{ border-top: 1px solid #ccc; padding: 1rem 0 }}
h2 {{ font-size: 1rem; margin: 0 0 .5rem; overflow-wrap: anywhere }}
img {{ margin-right: 4px }}
.error {{ color: #b00020 }}
</style>
<h1>{title}</h1>
<p>{count} of {all} items, drawn with seed {seed}</p>
{items}
</html>
"""


def sheet(
    listing: Path, count: int, seed: int, progress: Callable[[list[Item]], Iterable[Item]] = iter
) -> tuple[str, int]:
    """HTML that stands alone, with `count` items (or all) in the order of the listing, and how many lack a picture.

    An item that cannot be decoded is shown with the reason. `progress` wraps the items while they are decoded.

    Raises DataError where the listing cannot be read.
    """
    items = read_folder(listing)
    chosen = sorted(random.Random(seed).sample(range(len(items)), min(count, len(items))))
    parts, failed = [], 0
    for item in progress([items[index] for index in chosen]):
        try:
            pictures = strip(item.path)
        except MediaError as error:
            failed += 1
            pictures = f'<p class="error">{html.escape(printable(error.problem))}</p>'
        parts.append(article(item, pictures))
    title = html.escape(printable(listing))
    page = PAGE.format(title=title, count=len(chosen), all=len(items), seed=seed, items="".join(parts))
    return page, failed


def article(item: Item, pictures: str) -> str:
    captions = "".join(f"<li>{html.escape(caption)}</li>" for caption in item.captions)
    heading = html.escape(f"{printable(item.id)} · {printable(item.path)}")
    return f"<article><h2>{heading}</h2>{pictures}<ul>{captions}</ul></article>\n"


def strip(path: Path) -> str:
    """A few frames of a clip as images. Raises MediaError."""
    shown = thumbnails(path, FRAMES)
    return "".join(f'<img src="{picture.uri}" alt="at {picture.time:.1f} s">' for picture in shown)
