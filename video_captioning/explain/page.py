"""An explanation as one HTML page that stands alone: it plays the clip, and words light up as their moments pass."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from video_captioning.captioner import Video, sentence
from video_captioning.data.thumbnails import Thumbnail, jpeg
from video_captioning.errors import printable
from video_captioning.explain.explanation import Explanation
from video_captioning.explain.shown import SIDE
from video_captioning.painter import Pixels

LARGEST = 16_000_000  # bytes of a clip that is put into the page
PLAYED = {"video/mp4": {"h264", "av1", "vp9"}, "video/webm": {"vp8", "vp9", "av1"}}
"""What current browsers play: codecs by type of file."""
HINT = "A word is lit while the clip shows what it attended to. Choose one to see its strongest moment; Esc goes back."
LIMITS = "It says where the model looked, not why it said a word. Hiding frames (--occlusion) measures that."


def page(found: Explanation, shown: Sequence[Pixels]) -> str:
    """The text of the page.

    The clip itself is inside where it is at most LARGEST bytes and of a kind that browsers play; otherwise, and where
    a browser fails to play it, the page shows the frames one after the other.

    Args:
        shown: the frames, as of `shown.pictures`.
    """
    parts = files("video_captioning.explain")
    script = (parts / "page.js").read_text(encoding="utf-8")
    caption = found.caption
    thumbnails = [jpeg(picture, time, SIDE) for picture, time in zip(shown, caption.frames, strict=True)]
    still = caption.video.duration is None
    clip, note = embedded(caption.video)
    return Template((parts / "page.html").read_text(encoding="utf-8")).substitute(
        hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        title=escape(caption.text),
        caption=escape(caption.text, quote=True),
        words=" ".join(map(word_button, sentence(" ".join(word.text for word in caption.words)).split(" "))),
        hint=HINT if len(shown) > 1 else "Choose a word; Esc goes back.",
        video=f'<video controls playsinline preload="metadata" src="{clip}"></video>' if clip else "",
        slides_hidden=" hidden" if clip else "",
        first=thumbnails[0].uri,
        play='<button id="play">Play</button>' if len(shown) > 1 else "",
        note=escape(note),
        grids=grids(found, thumbnails[0]),
        frames="".join(frame_button(found, picture, still) for picture in thumbnails),
        facts=facts(found),
        table=table(found),
        data=json.dumps(found.to_dict()).replace("<", "\\u003c"),
        script=script,
    )


def embedded(video: Video) -> tuple[str, str]:
    """The clip as a data address, or nothing; and what is said of it."""
    frames = "the page shows the frames that the model saw"
    if video.duration is None:
        return "", "The picture as the model saw it."
    path = Path(video.path)
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            kind = kind_of(file.read(4096))
            if video.codec not in PLAYED.get(kind, ()):
                return "", f"Browsers do not play {video.codec} in this kind of file: {frames}."
            if size > LARGEST:
                return "", f"The clip has {size / 1e6:.0f} MB, too much for a page: {frames}."
            file.seek(0)
            return f"data:{kind};base64,{base64.b64encode(file.read()).decode()}", "The clip."
    except OSError:
        return "", f"The clip could not be read once more: {frames}."


def kind_of(head: bytes) -> str:
    """The media type that the first bytes of a file tell, if it is one that browsers play."""
    if head[4:8] == b"ftyp":
        return "video/mp4"
    return "video/webm" if head.startswith(b"\x1a\x45\xdf\xa3") and b"webm" in head else ""


def word_button(text: str) -> str:
    return f'<button class="word" aria-pressed="false">{escape(text)}</button>'


def frame_button(found: Explanation, picture: Thumbnail, still: bool) -> str:
    when = "the picture" if still else f"{picture.time:.1f} s"
    occlusion = found.occlusion is not None and found.occlusion.of == "frames"
    size = f'width="{picture.width}" height="{picture.height}"'
    return (
        f'<li><button class="frame"><span class="bars"><i></i>{"<i></i>" if occlusion else ""}</span>'
        f'<img src="{picture.uri}" {size} alt=""><span>{when}</span>'
        f'<span class="weight"></span>{"<span class=fall></span>" if occlusion else ""}</button>'
    )


def grids(found: Explanation, picture: Thumbnail) -> str:
    """Figures of what happens inside the frame."""
    figures = ""
    if found.grid is not None:
        text = "Attention inside this frame, bright where it is high"
        if found.class_token is not None:
            text += '; the class token has <b class="token"></b> of the frame'
        figures += grid(picture, "attention", found.grid, text)
    if found.occlusion is not None and found.occlusion.of == "regions":
        side = round(len(found.occlusion.caption) ** 0.5)
        text = "Occlusion: bright where the caption, or the word, becomes less likely when the part is hidden"
        figures += grid(picture, "fall", side, text)
    return figures


def grid(picture: Thumbnail, of: str, side: int, text: str) -> str:
    cells = "<i></i>" * side**2
    return (
        f'<figure><div class="stage"><img src="{picture.uri}" alt="">'
        f'<div class="grid" data-of="{of}" style="--side:{side}">{cells}</div></div>'
        f"<figcaption>{text}</figcaption></figure>"
    )


def facts(found: Explanation) -> str:
    """Rows of a `<dl>`."""
    caption = found.caption
    pairs: Mapping[str, object] = {
        "model": f"{caption.model.name} {caption.model.version}, bundle {caption.model.sha256[:12]}",
        "clip": printable(caption.video.path),
        "score": f"{caption.score:.2f}, mean log-probability",
        "attention": LIMITS,
    }
    if found.occlusion is not None:
        agreement = "undefined" if found.agreement is None else f"{found.agreement:.2f}"
        what = "frames left out (bars of the second colour)" if found.occlusion.of == "frames" else "parts hidden"
        pairs = {**pairs, "occlusion": f"{what}; rank correlation with attention {agreement}"}
    return "".join(f"<dt>{name}<dd>{escape(str(value))}" for name, value in pairs.items())


def table(found: Explanation) -> str:
    times = "".join(f'<th scope="col">{time:.1f} s' for time in found.caption.frames)
    rows = "".join(
        f'<tr><th scope="row">{escape(word.text)}' + "".join(f"<td>{100 * weight:.1f}%" for weight in weights)
        for word, weights in zip(found.caption.words, found.weights.tolist(), strict=True)
    )
    return f"<table><thead><tr><th>word{times}<tbody>{rows}</table>"
