"""`vidcap data`"""

from __future__ import annotations

from pathlib import Path

import click

from video_captioning.cli.output import complain, write_whole


@click.group()
def data() -> None:
    """Look at a data set.

    \b
    vidcap data show data/train.jsonl
    """


@data.command()
@click.argument("listing", type=click.Path(path_type=Path))
@click.option(
    *("-o", "--output"),
    type=click.Path(path_type=Path),
    metavar="FILE",
    default=Path("sheet.html"),
    show_default=True,
    help="Where to write it.",
)
@click.option("--count", type=click.IntRange(min=1), default=24, show_default=True, help="How many items.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Another seed draws others.")
def show(listing: Path, output: Path, count: int, seed: int) -> None:
    """Write a contact sheet of random items of a listing, with captions.

    \b
    vidcap data show data/train.jsonl
    vidcap data show captions.tsv -o sheet.html --count 100

    One HTML file with the pictures in it; its name is printed.
    """
    from video_captioning.cli.prepare import tracked
    from video_captioning.data.sheet import sheet

    page, failed = sheet(listing, count, seed, tracked("drawing"))
    write_whole(output, page)
    if failed:
        complain(f"warning: {failed} items cannot be decoded; the sheet says why")
    click.echo(output)
