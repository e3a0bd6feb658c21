"""`vidcap explain`"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from video_captioning.cli.caption import DECODING, SAMPLING, Sectioned, caption, given
from video_captioning.cli.output import complain
from video_captioning.errors import MissingExtraError, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from video_captioning.explain.explanation import Explanation
    from video_captioning.painter import Pixels

SHARED = ("model", "threads", *SAMPLING, *DECODING)


@click.command(cls=Sectioned, params=[param for param in caption.params if param.name in SHARED])
@click.argument("clip", type=click.Path(readable=False, path_type=Path))
@click.option(
    *("-o", "--output"),
    type=click.Path(readable=False, path_type=Path),
    metavar="FOLDER",
    help="Where to write; it must not exist.",
)
@click.option("--occlusion", is_flag=True, help="Also hide each frame and measure what that does to the caption.")
def explain(clip: Path, output: Path | None, occlusion: bool, model: str, threads: int | None, **options: Any) -> None:
    """Show which moments each word of a caption came from.

    \b
    vidcap explain clip.mp4
    vidcap explain clip.mp4 -o explained --occlusion

    Writes a page that plays the clip (index.html), all numbers
    (explanation.json) and pictures: words by frames, a film strip a word, the
    importance of the frames, and where in them for a model that sees patches.
    Without -o the folder is called NAME-explained.

    With --occlusion the rank correlation of attention with what was measured
    is printed, too. Of a single picture, parts are hidden instead of frames.
    """
    from video_captioning import load
    from video_captioning.bundle import writing
    from video_captioning.explain.explanation import explain as explained
    from video_captioning.explain.shown import pictures

    captioner = load(model, threads=threads)
    how = given(captioner, options)
    target = output or Path(f"{clip.stem}-explained")
    with writing(target) as folder:
        found = explained(captioner, clip, occlusion=occlusion, **how)
        shown = pictures(clip, how["sampling"], captioner.bundle.resize, found.caption.frames)
        made = contents(found, shown)
        for name, content in made.items():
            (folder / name).write_bytes(content)
    for warning in found.caption.warnings:
        complain(f"warning: {printable(clip)}: {warning}")
    click.echo(found.caption.text)
    if found.occlusion is not None:
        value = "undefined, attention is the same everywhere" if found.agreement is None else f"{found.agreement:.2f}"
        click.echo(f"rank correlation of attention and occlusion over {found.occlusion.of}: {value}")
    for name in made:
        click.echo(printable(target / name))


def contents(found: Explanation, shown: Sequence[Pixels]) -> dict[str, bytes]:
    """The files by name; without pictures where there is no matplotlib, which is told."""
    from video_captioning.explain.drawing import drawn
    from video_captioning.explain.page import page

    made = {
        "index.html": page(found, shown).encode(),
        "explanation.json": f"{json.dumps(found.to_dict())}\n".encode(),
    }
    try:
        return made | drawn(found, shown)
    except MissingExtraError as error:
        complain(f"no pictures are drawn: {error}")
        return made
