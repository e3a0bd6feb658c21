"""`vidcap evaluate`"""

from __future__ import annotations

import re
import shlex
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from video_captioning.cli.caption import DECODING, SAMPLING, Sectioned, caption, given, progress
from video_captioning.cli.extras import needs, tell_warnings_plainly
from video_captioning.cli.output import complain, write_whole
from video_captioning.cli.prepare import SETS
from video_captioning.cli.score import available, tell_where_weights_come_from, warn_of_empty
from video_captioning.errors import DataError, printable

if TYPE_CHECKING:
    from video_captioning.captioner import Captioner
    from video_captioning.data.items import Item


@click.command(cls=Sectioned, params=[param for param in caption.params if param.name in (*SAMPLING, *DECODING)])
@click.argument("model", type=click.Path(readable=False, path_type=Path))
@click.argument("listing")
@click.option(
    *("-o", "--output"),
    type=click.Path(readable=False, path_type=Path),
    metavar="FOLDER",
    help="Write report.html, scores.json, captions.jsonl, refs.json and hyps.json there; it must not exist.",
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="The first N items alone.")
@click.option("--shuffle", is_flag=True, help="Give each item the caption of the next: a model that does not look.")
@click.option("--json", "as_json", is_flag=True, help="Print the scores as JSON.")
def evaluate(
    model: Path,
    listing: str,
    output: Path | None,
    limit: int | None,
    shuffle: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Caption the items of a listing and score what was said.

    \b
    vidcap evaluate default msrvtt:test -o runs/report
    vidcap evaluate runs/mine/best.ckpt captions.tsv --limit 100
    vidcap evaluate default msrvtt:test --shuffle

    MODEL is a bundle (its folder, or a name; see `vidcap models`) or a
    checkpoint, which is exported to a bundle first. LISTING is a TSV or JSONL
    listing, or a split that `vidcap prepare` made: msrvtt:test, msvd:val,
    folder:train.

    What is wrong with a clip is told on standard error, the others are scored,
    and the exit status is 1.
    """
    from video_captioning.bundle import writing
    from video_captioning.evaluation import report
    from video_captioning.evaluation.evaluate import evaluate as measure
    from video_captioning.metrics.tables import table

    chosen = items(listing)[:limit]
    command = shlex.join(["vidcap", *sys.argv[1:]])
    metrics = available(spice=False)
    captioner = opened(model)
    how = given(captioner, options)
    with writing(output) if output else nullcontext() as folder:
        with progress(len(chosen)) as advance:
            found = measure(captioner, chosen, shuffle=shuffle, metrics=metrics, advance=advance, **how)
        if folder:
            for name, content in report.written(found, listing, command).items():
                write_whole(folder / name, content)
    for error in found.failed.values():
        complain(str(error))
    tell_where_weights_come_from(None, len(found.items))
    warn_of_empty({listing: found.scores})
    if as_json:
        click.echo(report.scores_json(found, listing, command), nl=False)
    else:
        click.echo(table({printable(model): found.scores}, {}), nl=False)
        click.echo("\n".join(["", *(f" {name:30}{value}" for name, value in report.truth(found).items())]))
    if found.failed:
        complain(f"{len(found.failed)} of {len(chosen)} items could not be captioned; the others are scored")
        raise click.exceptions.Exit(1)


def items(listing: str) -> list[Item]:
    """Those of a listing, or of the split of a data set. Raises DataError."""
    from video_captioning.data.items import read_folder
    from video_captioning.data.prepare import SPLITS

    named = re.fullmatch(rf"({'|'.join(SETS)}):(.*)", listing)
    if not named or Path(listing).exists():
        return read_folder(listing)
    name, split = named.groups()
    if split not in SPLITS:
        raise DataError(listing, "no such split", f"give {name}: and one of {', '.join(SPLITS)}")
    path = SETS[name] / f"{split}.jsonl"
    if not path.exists():
        raise DataError(listing, f"is not prepared: there is no {path}", f"run vidcap prepare {name} first")
    return read_folder(path)


def opened(model: Path) -> Captioner:
    """The captioner of a bundle or checkpoint."""
    from video_captioning.evaluation.evaluate import is_checkpoint, load

    if not is_checkpoint(model):
        return load(model)
    complain(f"note: {printable(model)} is exported to a bundle first, so that what is measured is what ships")
    tell_warnings_plainly()
    with needs("vidcap evaluate with a checkpoint", "export"):
        return load(model)
