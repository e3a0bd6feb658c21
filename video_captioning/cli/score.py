"""`vidcap score`"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from video_captioning.cli.output import complain, write_whole
from video_captioning.errors import DataError, printable

if TYPE_CHECKING:
    from video_captioning.metrics.score import Scores

FEW = 1000
"""Below so many ids it is said that the weights of words in CIDEr-D are not those of a benchmark."""
FILE = click.Path(path_type=Path)


@click.command()
@click.argument("references", type=FILE)
@click.argument("hypotheses", type=FILE)
@click.option("--compare", "other", type=FILE, metavar="FILE", help="Captions of another system: which is better?")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "markdown", "latex"]),
    default="table",
    show_default=True,
    help="How the scores are written.",
)
@click.option("-o", "--output", type=FILE, metavar="FILE", help="Write them there, not to the terminal.")
@click.option("--per-item", type=FILE, metavar="FILE", help="Write the scores of each caption there, as CSV.")
@click.option("--common", is_flag=True, help="Score the ids that all files have; else a missing id is an error.")
@click.option(
    "--idf", type=FILE, metavar="FILE", help="References whose weights of words CIDEr-D takes; for small sets."
)
@click.option("--known", type=FILE, metavar="FILE", help="Captions of the training set: how many are novel?")
@click.option("--spice", is_flag=True, help="SPICE as well, by the COCO tool and Java where they are installed.")
def score(
    references: Path,
    hypotheses: Path,
    other: Path | None,
    form: str,
    output: Path | None,
    per_item: Path | None,
    common: bool,
    idf: Path | None,
    known: Path | None,
    spice: bool,
) -> None:
    """Score captions: BLEU, METEOR, ROUGE-L and CIDEr-D with 95% intervals, and how varied they are.

    REFERENCES holds the sentences of people for each id, HYPOTHESES one caption
    an id: JSON, JSON lines or TSV, as the COCO caption tool, MSR-VTT, listings
    of data sets and `vidcap caption --format jsonl` have them.

    \b
    vidcap score references.json captions.json
    vidcap score references.json captions.jsonl --compare others.json
    """
    from video_captioning.metrics import files
    from video_captioning.metrics.score import borrowed, compare
    from video_captioning.metrics.score import score as measure
    from video_captioning.metrics.tables import FORMS

    wanted = files.read_captions(references)
    said = {path: files.one_each(path, files.read_captions(path)) for path in (hypotheses, other) if path}
    ids = shared_ids({references: wanted, **said}, common)
    options: dict[str, Any] = {"metrics": available(spice)}
    if idf:
        options["frequency"] = borrowed(files.read_captions(idf))
    tell_where_weights_come_from(idf, len(ids))
    if known:
        options["known"] = [caption for captions in files.read_captions(known).values() for caption in captions]
    chosen = {path: {name: captions[name] for name in ids} for path, captions in said.items()}
    systems = {str(path): measure(wanted, captions, **options) for path, captions in chosen.items()}
    warn_of_empty(systems)
    chances = compare(*systems.values()) if len(systems) == 2 else {}
    deliver(FORMS[form](systems, chances), output)
    if per_item:
        write_whole(per_item, items(systems[str(hypotheses)], chosen[hypotheses]))


def shared_ids(files: Mapping[Path, Mapping[str, Any]], common: bool) -> list[str]:
    """The ids of the first file that all have. Raises DataError where one has more or fewer, or none is left."""
    first, *others = files
    ids = [name for name in files[first] if all(name in files[other] for other in others)]
    for other in others:
        for here, there in ((first, other), (other, first)):
            lacking = [name for name in files[here] if name not in files[there]]
            if lacking and not (common and ids):
                some = f"{len(lacking)} of the {len(files[here])} ids of {printable(here)}, such as {lacking[0]}"
                way_out = "add them, or score the ids that all files have with --common"
                raise DataError(there, f"has no caption for {some}", way_out if ids else "give files with the same ids")
    if any(len(captions) > len(ids) for captions in files.values()):
        complain(f"note: {len(ids)} ids are scored, those that all files have")
    return ids


def available(spice: bool) -> list[type[Any]]:
    """The metrics that can be had here; it is said which cannot."""
    from video_captioning.metrics import meteor, meteor_data
    from video_captioning.metrics import spice as java
    from video_captioning.metrics.score import USUAL

    found: list[type[Any]] = [*USUAL]
    if meteor_data.to_be_made():
        complain("note: METEOR's tables are made ready for all later calls: some ten seconds")
    if reason := meteor.why_not():
        complain(f"note: METEOR is left out, {reason}")
        found.remove(meteor.Meteor)
    if spice and (reason := java.why_not()):
        complain(f"note: SPICE is left out, {reason}")
    elif spice:
        found.append(java.Spice)
    return found


def tell_where_weights_come_from(idf: Path | None, count: int) -> None:
    if idf:
        complain(f"note: CIDEr-D has its weights of words from {idf}: not comparable with published figures")
    elif count < FEW:
        complain(f"note: CIDEr-D has its weights of words from these {count} ids: comparable on this very set alone")


def warn_of_empty(systems: Mapping[str, Scores]) -> None:
    for path, scores in systems.items():
        if empty := scores.empty:
            some = f"{len(empty)} captions without a word are scored as such, such as that of {empty[0]}"
            complain(f"warning: {path}: {some}")


def deliver(text: str, output: Path | None) -> None:
    if output:
        write_whole(output, text)
    else:
        click.echo(text, nl=False)


def items(scores: Scores, captions: Mapping[str, str]) -> str:
    """CSV: id, caption, score by score."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["id", "caption", *scores.segments])
    for row, name in enumerate(scores.ids):
        values = [f"{segments[row]:.6f}" for segments in scores.segments.values()]
        writer.writerow([name, captions[name], *values])
    return file.getvalue()
