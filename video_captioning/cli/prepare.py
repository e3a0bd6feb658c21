"""`vidcap prepare`"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from video_captioning.cli.extras import needs
from video_captioning.cli.output import complain
from video_captioning.errors import OutputError

if TYPE_CHECKING:
    from video_captioning.data.hub import Download
    from video_captioning.data.prepare import Clip, Splits

Thing = TypeVar("Thing")
FOLDER = click.Path(path_type=Path)
SETS = {"msrvtt": Path("data"), "msvd": Path("data/msvd"), "folder": Path("data/folder")}
"""Where the listings of each data set go, unless told otherwise."""
SEED = click.option("--seed", type=int, default=0, show_default=True, help="Of what is drawn at random.")
EMPTY = {
    "train": "there is nothing to train on",
    "val": "train with dataset.validation=null, which keeps back a twentieth of train",
    "test": "there is nothing to evaluate on",
}
"""What an empty split means."""
CLEAN = click.option("--clean", is_flag=True, help="Mend spelling, run-on sentences and duplicates, but for test.")


def into(name: str) -> Callable[[Any], Any]:
    return click.option(
        "--out",
        type=FOLDER,
        default=SETS[name],
        show_default=True,
        metavar="FOLDER",
        help="What is written goes there.",
    )


@click.group()
def prepare() -> None:
    """Make a data set ready for training: clips, captions and splits.

    \b
    vidcap prepare msrvtt
    vidcap prepare folder captions.tsv

    Each writes train.jsonl, val.jsonl and test.jsonl with the clips that can
    be decoded, the splits, and dataset_summary.json, which counts the others.
    """


@prepare.command()
@click.option("--split", type=click.Choice(["official", "7k", "9k", "random"]), default="official", show_default=True)
@click.option("--annotations", type=FOLDER, metavar="FOLDER", help="With the official files; else from the hub.")
@click.option("--videos", type=FOLDER, metavar="FOLDER", help="With the clips; else from the hub: some gigabytes.")
@click.option("--revision", default="main", show_default=True, help="Of the hub's data set: a commit, to be exact.")
@into("msrvtt")
@SEED
@CLEAN
def msrvtt(
    split: Any, annotations: Path | None, videos: Path | None, revision: str, out: Path, seed: int, clean: bool
) -> None:
    """MSR-VTT: 10,000 clips, from the Hugging Face hub or a local copy.

    \b
    vidcap prepare msrvtt
    vidcap prepare msrvtt --annotations msrvtt --videos clips

    A download that was stopped goes on where it was. Clips that are missing
    are counted and left out.
    """
    from video_captioning.data import msrvtt as dataset
    from video_captioning.data.claim import claim
    from video_captioning.data.prepare import media_by_id
    from video_captioning.data.unpack import unpack

    with claim(out):
        wanted = [*(dataset.HUB if annotations is None else ()), *((dataset.ARCHIVE,) if videos is None else ())]
        got = fetched(dataset.REPO, wanted, revision, out / "download")
        files = dataset.annotation_files(annotations) if annotations else [got[name].path for name in dataset.HUB]
        if videos is None:
            videos = out / "videos"
            unpack(got[dataset.ARCHIVE].path, videos, tracked("unpacking"))
        media = media_by_id(videos, "msrvtt")
        clips = dataset.read_clips(files, media)
        splits = dataset.split(clips, split, seed, files)
        hub = {name: asdict(file) | {"path": str(file.path)} for name, file in got.items()}
        about = {"name": "msrvtt", "split": split, "seed": seed, "hub": hub or None}
        finish(out, clips, splits, about | unannotated(media, clips), clean)


@prepare.command()
@click.option("--annotations", type=FOLDER, metavar="FOLDER", required=True, help="With AllVideoDescriptions.txt.")
@click.option("--videos", type=FOLDER, metavar="FOLDER", help="With the clips.  [default: YouTubeClips in the former]")
@click.option("--split", type=click.Choice(["official", "random"]), default="official", show_default=True)
@into("msvd")
@SEED
@CLEAN
def msvd(annotations: Path, videos: Path | None, split: Any, out: Path, seed: int, clean: bool) -> None:
    """MSVD: 1,970 clips, from a local copy.

    \b
    vidcap prepare msvd --annotations msvd
    vidcap prepare msvd --annotations msvd --videos clips --split random
    """
    from video_captioning.data import msvd as dataset
    from video_captioning.data.claim import claim
    from video_captioning.data.prepare import media_by_id

    with claim(out):
        media = media_by_id(videos or annotations / dataset.CLIPS, "msvd")
        clips = dataset.read_clips(annotations, media)
        about = {"name": "msvd", "split": split, "seed": seed}
        finish(out, clips, dataset.split(clips, split, seed), about | unannotated(media, clips), clean)


@prepare.command()
@click.argument("listing", type=FOLDER)
@click.option("--validation", type=FOLDER, metavar="LISTING", help="Else a tenth of LISTING, drawn at random.")
@click.option("--test", type=FOLDER, metavar="LISTING", help="Else another tenth.")
@into("folder")
@SEED
@CLEAN
def folder(listing: Path, validation: Path | None, test: Path | None, out: Path, seed: int, clean: bool) -> None:
    """Clips and pictures of your own.

    \b
    vidcap prepare folder captions.tsv
    vidcap prepare folder train.jsonl --validation val.jsonl --test test.jsonl

    A line of captions.tsv is the file of a clip, a tab and a caption; a line of
    a JSONL listing is {"file": …, "captions": […]}.
    """
    from video_captioning.data import folder as dataset
    from video_captioning.data.claim import claim
    from video_captioning.data.prepare import SPLITS

    written = {(out / f"{split}.jsonl").resolve() for split in SPLITS}
    for given in (listing, validation, test):
        if given and given.resolve() in written:
            raise OutputError(given, "it would be overwritten", "name another folder in --out")
    with claim(out):
        clips, splits = dataset.read_clips({"train": listing, "val": validation, "test": test}, seed)
        finish(out, clips, splits, {"name": "folder", "seed": seed}, clean)


def fetched(repo: str, names: list[str], revision: str, folder: Path) -> dict[str, Download]:
    """Files of a data set on the hub, all of one commit; it is said which could not be checked."""
    found: dict[str, Download] = {}
    if names:
        with needs("vidcap prepare msrvtt", "train"):
            from video_captioning.data.hub import download
        for name in names:
            found[name] = download(repo, name, revision, folder)
            revision = found[name].commit
            if found[name].sha256 is None:
                complain(f"note: {name}: the hub gives no SHA-256 of it; only its length was checked")
    return found


def unannotated(media: Mapping[str, Path], clips: Sequence[Clip]) -> dict[str, int]:
    """For the summary: media of which no annotation tells."""
    return {"unannotated": len(media.keys() - {clip.id for clip in clips})}


def finish(out: Path, clips: Sequence[Clip], splits: Splits, about: dict[str, Any], clean: bool) -> None:
    """Write everything, print a table of the splits, and say what is wrong."""
    from video_captioning.data import prepare as shared

    mend: shared.Mend | None = None
    if clean:
        with needs("--clean", "train"):
            from video_captioning.data import cleaning
        mend = cleaning.mend
    summary = shared.prepare(out, clips, splits, about, mend=mend, progress=tracked("opening clips"))
    click.echo(table(summary["splits"]))
    for line in remarks(summary):
        complain(line)


def table(splits: Mapping[str, Mapping[str, int]]) -> str:
    heading = ["split", *next(iter(splits.values()))]
    rows = [heading, *([split, *map(str, counts.values())] for split, counts in splits.items())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(heading))]
    lines = (
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    )
    return "\n".join(lines)


def remarks(summary: Mapping[str, Any]) -> Iterator[str]:
    """What a person should know before training."""
    for split, counts in summary["splits"].items():
        if not counts["videos"]:
            yield f"warning: {split} is empty: {EMPTY[split]}"
    if bad := summary["undecodable_files"]:
        name, reason = next(iter(bad.items()))
        yield f"warning: {len(bad)} clips cannot be decoded, such as {name}: {reason}; dataset_summary.json has all"
    if leaks := summary["leaks"]:
        yield f"warning: {len(leaks)} files are in two splits, such as {', '.join(leaks[0])}"
    if summary.get("unannotated"):
        yield f"note: {summary['unannotated']} files bear no id of the annotations and are left out"
    if summary["uncaptioned"]:
        yield f"note: {summary['uncaptioned']} clips are without a caption and are left out"
    if cleaned := summary["cleaned"]:
        counts = ", ".join(f"{name} {count}" for name, count in cleaned.items())
        yield f"note: captions mended: {counts}; those of test are as they were"


def tracked(what: str) -> Callable[[list[Thing]], Iterable[Thing]]:
    """A progress bar around things that are walked, where a person looks on."""

    def walk(things: list[Thing]) -> Iterable[Thing]:
        if not sys.stderr.isatty():
            return things
        from rich.console import Console
        from rich.progress import track

        return track(things, what, console=Console(stderr=True), transient=True)

    return walk
