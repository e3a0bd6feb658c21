"""A contact sheet: random items of a listing with their frames and captions on one page, to look at before training."""

from __future__ import annotations

import html
import random
from base64 import b64encode
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path

import av
from av.video.frame import VideoFrame

from video_captioning.data.items import Item, read_folder
from video_captioning.errors import MediaError, printable
from video_captioning.frames import Pixels, Sampling, sample

FRAMES = 3
HEIGHT = 144
"""Pixels of a thumbnail."""
QUALITY = "5"
"""FFmpeg's scale of JPEG: 2 is best, 31 is worst."""
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
img {{ height: {height}px; margin-right: 4px }}
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
    page = PAGE.format(title=title, height=HEIGHT, count=len(chosen), all=len(items), seed=seed, items="".join(parts))
    return page, failed


def article(item: Item, pictures: str) -> str:
    captions = "".join(f"<li>{html.escape(caption)}</li>" for caption in item.captions)
    heading = html.escape(f"{printable(item.id)} · {printable(item.path)}")
    return f"<article><h2>{heading}</h2>{pictures}<ul>{captions}</ul></article>\n"


def strip(path: Path) -> str:
    """A few frames of a clip as images. Raises MediaError."""
    frames = sample(path, Sampling(frames=FRAMES))
    return "".join(
        f'<img src="data:image/jpeg;base64,{b64encode(jpeg(pixels)).decode()}" alt="at {time:.1f} s">'
        for pixels, time in zip(frames.pixels, frames.times, strict=True)
    )


def jpeg(pixels: Pixels) -> bytes:
    """A thumbnail of a picture uint8 RGB `[height, width, 3]`."""
    height, width, _ = pixels.shape
    size = max(2, round(width * HEIGHT / height / 2) * 2)
    frame = VideoFrame.from_ndarray(pixels, "rgb24").reformat(min(size, 16 * HEIGHT), HEIGHT, "yuvj420p")
    encoder = av.CodecContext.create("mjpeg", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = frame.width, frame.height, "yuvj420p"
    encoder.time_base = Fraction(1, 25)
    encoder.options = {"qmin": QUALITY, "qmax": QUALITY}
    return b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])
