"""`vidcap caption`"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from video_captioning.cli.output import Format, Results, complain, times, write_whole
from video_captioning.errors import ConfigError, FileError, MediaError, OutputError, printable

if TYPE_CHECKING:
    from video_captioning.captioner import Caption, Captioner
    from video_captioning.cli.inputs import Existing

SAMPLING = ("fps", "max_frames", "frames", "keyframes")
DECODING = (
    *("beam", "max_tokens", "min_tokens", "length_penalty", "no_repeat_ngram"),
    *("consensus", "support", "temperature", "top_k", "top_p", "seed", "alternatives"),
)
SECTIONS = {
    "Frames (default: what the model was made for)": SAMPLING,
    "Sentences (default: the model's own)": (*DECODING, "min_confidence"),
}


class Sectioned(click.Command):
    """Help whose options stand under headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        headed = {name: heading for heading, names in SECTIONS.items() for name in names}
        rows: dict[str, list[tuple[str, str]]] = {"Options": []}
        for param in self.get_params(ctx):
            if isinstance(param, click.Option) and (record := param.get_help_record(ctx)):
                rows.setdefault(headed.get(param.name or "", "Options"), []).append(record)
        for heading, records in rows.items():
            with formatter.section(heading):
                formatter.write_dl(records, col_max=24)


def share(context: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    """For an option's `callback`: a number from 0 to 1, which a NaN is not. Raises click.BadParameter."""
    if value is not None and not 0 <= value <= 1:
        raise click.BadParameter(f"{value} is not a number from 0 to 1.")
    return value


@click.command(cls=Sectioned)
@click.argument("paths", nargs=-1, required=True, type=click.Path(readable=False), metavar="PATH...")
@click.option(
    "--model",
    default="default",
    metavar="NAME|FOLDER",
    type=click.Path(readable=False),
    help="Which model; see `vidcap models`.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "jsonl"]),
    default="text",
    show_default=True,
    help="jsonl: an object a sentence, as soon as it is ready. json: one object for one file, else an array.",
)
@click.option(
    *("-o", "--output"),
    type=click.Path(readable=False, path_type=Path),
    metavar="FILE",
    help="Write there, at the end and whole; after Ctrl-C, what was finished.",
)
@click.option("--tags", is_flag=True, help="After each sentence a tab and what is to be seen; JSON always has it.")
@click.option("--segments", is_flag=True, help="A sentence a scene, with its times: for long videos.")
@click.option("--sidecar", is_flag=True, help="Write clip.txt beside each clip, too.")
@click.option("--skip-existing", "existing", flag_value="skip", help="Leave out clips that have a sidecar.")
@click.option("--overwrite", "existing", flag_value="overwrite", help="Replace sidecars that are there.")
@click.option("--prefix", default="", metavar="TEXT", help="Put before each sentence, wherever it is written.")
@click.option("--suffix", default="", metavar="TEXT", help="Put after each sentence.")
@click.option(
    "--batch-size", type=click.IntRange(min=1), metavar="N", default=8, show_default=True, help="Clips at once."
)
@click.option("--threads", type=click.IntRange(min=1), metavar="N", help="Processor cores to use.  [default: all]")
@click.option("--fps", type=float, metavar="X", help="Frames a second to look at,")
@click.option("--max-frames", type=int, metavar="N", help="but at most this many, evenly spread.")
@click.option("--frames", type=int, metavar="N", help="A fixed number, evenly spread.")
@click.option("--keyframes", is_flag=True, default=None, help="Key frames only: fast.")
@click.option("--beam", type=int, metavar="N", help="Width of the search; 1 is greedy.")
@click.option("--max-tokens", type=int, metavar="N", help="Length at most, in pieces of words.")
@click.option("--min-tokens", type=int, metavar="N", help="Length at least.")
@click.option("--length-penalty", type=float, metavar="X", help="Above 1 favours long sentences.")
@click.option("--no-repeat-ngram", type=int, metavar="N", help="Never say N pieces of words twice.")
@click.option("--consensus", type=float, metavar="X", help="How much agreement in the search counts; 0: off.")
@click.option("--support", type=float, metavar="X", help="How much the confidence of the words counts; 0: off.")
@click.option("--temperature", type=float, metavar="X", help="Draw at random; the lower, the safer.")
@click.option("--top-k", type=int, metavar="N", help="Draw from the K likeliest.")
@click.option("--top-p", type=float, metavar="X", help="Draw from the likeliest with this share.")
@click.option("--seed", type=int, metavar="N", help="Of the draw.")
@click.option("--alternatives", type=int, metavar="N", help="Sentences a clip, best first.")
@click.option(
    "--min-confidence",
    type=float,
    metavar="P",
    callback=share,
    help="Say less where the model is less sure than this, 0 to 1: the next sentence, what is to be seen, or nothing.",
)
def caption(
    paths: tuple[str, ...],
    model: str,
    form: Format,
    output: Path | None,
    tags: bool,
    segments: bool,
    sidecar: bool,
    existing: Existing | None,
    prefix: str,
    suffix: str,
    batch_size: int,
    threads: int | None,
    **options: Any,
) -> None:
    """Say in one sentence what is to be seen in each clip.

    \b
    vidcap caption clip.mp4
    vidcap caption videos/ 'more/**/*.mkv' --format jsonl -o captions.jsonl
    vidcap caption videos/ --sidecar --skip-existing
    vidcap caption lecture.mp4 --segments

    A PATH is a video or picture, a folder (walked; known endings, nothing
    hidden) or a pattern. A file named twice is captioned once.

    For one file the text is the sentence alone; for several, a folder or a
    pattern each line is the path, a tab and the sentence. With --segments the
    times and a tab stand before each sentence, and json is an array; with
    --tags a tab and the tags, commas between them, stand after it. What is
    wrong with a file is told on standard error, the others are captioned, and
    the exit status is 1.
    """
    from video_captioning import load
    from video_captioning.cli.inputs import is_one_file

    problems = Problems()
    if clips := wanted(paths, output, sidecar, existing, problems):
        captioner = load(model, threads=threads)
        if tags and captioner.bundle.concepts is None:
            problem = f"the model '{captioner.bundle.name}' has no tags"
            raise ConfigError(f"{problem}; leave out --tags, or choose a model with tags, such as default")
        made = captions(captioner, clips, segments, batch_size, options)
        with Results(output, form, is_one_file(paths), segments, tags) as results, progress(len(clips)) as advance:
            for clip, found in zip(clips, made, strict=True):
                deliver(clip, found, partial(framed, prefix=prefix, suffix=suffix), results, sidecar, problems)
                advance()
    if problems.told:
        raise click.exceptions.Exit(1)


class Problems:
    """Tells each problem with a file in one line, and remembers that there was one."""

    def __init__(self) -> None:
        self.told = False

    def tell(self, error: FileError) -> None:
        complain(str(error))
        self.told = True

    def sort_out(self, found: Iterable[Path | FileError]) -> list[Path]:
        """The clips; the errors are told."""
        clips = []
        for item in found:
            if isinstance(item, FileError):
                self.tell(item)
            else:
                clips.append(item)
        return clips


def wanted(
    paths: Sequence[str], output: Path | None, sidecar: bool, existing: Existing | None, problems: Problems
) -> list[Path]:
    """The clips to caption. Raises click.UsageError where an option would do nothing, or harm."""
    from video_captioning.cli import inputs

    if existing and not sidecar:
        raise click.UsageError("--skip-existing and --overwrite are about sidecars: add --sidecar.")
    if output and inputs.is_media(output.name):
        raise click.UsageError(f"-o {printable(output)} has the name of a video or picture; name a text file.")
    clips = problems.sort_out(inputs.clips(paths))
    taken = clips + [inputs.sidecar(clip) for clip in clips if sidecar]
    if output and os.path.realpath(output) in map(os.path.realpath, taken):
        raise click.UsageError(f"-o {printable(output)} is one of the clips or sidecars.")
    return problems.sort_out(inputs.without_sidecar(clips, existing)) if sidecar else clips


def captions(
    captioner: Captioner, clips: Sequence[Path], segments: bool, batch_size: int, options: Mapping[str, Any]
) -> Iterator[Iterable[Caption | MediaError]]:
    """What is said of each clip, with the options that were given: one caption, or one a segment; or its error."""
    chosen = given(captioner, options) | {"min_confidence": options["min_confidence"]}
    if segments:
        return (of_segments(captioner, clip, batch_size, chosen) for clip in clips)
    return ([found] for found in captioner.captions(clips, batch_size=batch_size, **chosen))


def of_segments(
    captioner: Captioner, clip: Path, batch_size: int, chosen: Mapping[str, Any]
) -> Iterator[Caption | MediaError]:
    """As `Captioner.segments`; an error that ends it is given, too."""
    try:
        yield from captioner.segments(clip, batch_size=batch_size, **chosen)
    except MediaError as error:
        yield error


def given(captioner: Captioner, options: Mapping[str, Any]) -> dict[str, Any]:
    """The bundle's `sampling` and `decoding` but for the options that were given."""
    chosen = {name: value for name, value in options.items() if value is not None}
    bundle = captioner.bundle
    try:
        return {
            "sampling": replace(bundle.sampling, **{name: chosen[name] for name in SAMPLING if name in chosen}),
            "decoding": replace(bundle.decoding, **{name: chosen[name] for name in DECODING if name in chosen}),
        }
    except ConfigError as error:
        raise click.UsageError(f"{error}.") from error


def framed(caption: Caption, prefix: str, suffix: str) -> Caption:
    """The caption with prefix and suffix around its sentences; its words stay those of the model."""
    others = tuple(replace(other, text=f"{prefix}{other.text}{suffix}") for other in caption.alternatives)
    return replace(caption, text=f"{prefix}{caption.text}{suffix}", alternatives=others)


def deliver(
    clip: Path,
    found: Iterable[Caption | MediaError],
    frame: Callable[[Caption], Caption],
    results: Results,
    sidecar: bool,
    problems: Problems,
) -> None:
    """Write what is said of a clip as it comes, and then its sidecar; an error is told and ends it."""
    from video_captioning.cli import inputs

    said = []
    for one in found:
        if isinstance(one, FileError):
            problems.tell(one)
            return
        caption = frame(one)
        results.write(clip, caption)
        said.append(f"{times(caption)}{caption.text}\n")
        for warning in caption.warnings:
            complain(f"warning: {printable(clip)}: {warning}")
    if sidecar:
        try:
            write_whole(inputs.sidecar(clip), "".join(said))
        except OutputError as error:
            problems.tell(error)


@contextmanager
def progress(clips: int) -> Iterator[Callable[[], object]]:
    """A bar on standard error where that is a terminal; what is given is called after each clip."""
    if clips == 1 or sys.stderr is None or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = ("captioning", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True, soft_wrap=True)
    with Progress(*columns, console=console, transient=True, redirect_stdout=sys.stdout.isatty()) as bar:
        task = bar.add_task("", total=clips)
        yield lambda: bar.advance(task)
