"""`python -m benchmarks NAME`: one benchmark a file, loaded when it is called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from benchmarks import report
from video_captioning.errors import VidcapError

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
CLIPS = DATA / "clips" / "validation"
VIDEOS = DATA / "msrvtt" / "test_videodatainfo.json.gz"


class Benchmarks(click.Group):
    """Tells an error that a person can mend in one line."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except VidcapError as error:
            raise click.ClickException(str(error)) from error


main = Benchmarks(help="Measure captioning, seeing and scoring against what they cannot do without, or a peer.")
folder = click.option(
    "--clips",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=CLIPS,
    show_default="../shared/data/clips/validation",
    help="Folder of videos.",
)
data = click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=DATA,
    show_default="../shared/data",
    help="Folder of listings, pictures and clips.",
)
model = click.option("--model", default="default", show_default=True, help="Name or folder of a bundle.")
threads = click.option(
    "--threads", type=click.IntRange(min=1), default=2, show_default=True, help="Processor cores for everything."
)
repeat = click.option("--repeat", type=click.IntRange(min=1), default=3, show_default=True, help="Rounds measured.")
json = click.option(
    "--json", "out", type=click.Path(dir_okay=False, path_type=Path), help="Write the results there, too."
)


@main.command()
@folder
@model
@threads
@repeat
@json
def caption(clips: Path, model: str, threads: int, repeat: int, out: Path | None) -> None:
    """Throughput of a loaded model, against decoding the same clips and no more."""
    from benchmarks.caption import measure

    report.deliver(measure(clips, model, threads, repeat), out)


@main.command()
@folder
@model
@repeat
@json
def decode(clips: Path, model: str, repeat: int, out: Path | None) -> None:
    """Decoding only the frames that are looked at, of clips and of a film, against decoding all."""
    from benchmarks.decode import measure

    report.deliver(measure(clips, model, repeat), out)


@main.command()
@folder
@model
@repeat
@json
def generate(clips: Path, model: str, repeat: int, out: Path | None) -> None:
    """Processor time of sentences from features that are there already, by part and by beam."""
    from benchmarks.generate import measure

    report.deliver(measure(clips, model, repeat), out)


@main.command()
@model
@threads
@repeat
@json
def cold(model: str, threads: int, repeat: int, out: Path | None) -> None:
    """Time and memory of `vidcap caption` for one clip, against importing the libraries it needs."""
    from benchmarks.cold import measure

    report.deliver(measure(model, threads, repeat), out)


@main.command()
@data
@model
@threads
@json
def memory(data: Path, model: str, threads: int, out: Path | None) -> None:
    """The most memory of `vidcap caption`, against the number of files and the length of a video."""
    from benchmarks.memory import measure

    report.deliver(measure(data, model, threads), out)


@main.command()
@click.option(
    "--captions",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=VIDEOS,
    show_default="../shared/data/msrvtt/test_videodatainfo.json.gz",
    help="References of many videos.",
)
@repeat
@json
def metrics(captions: Path, repeat: int, out: Path | None) -> None:
    """BLEU, ROUGE-L and CIDEr-D against the COCO caption tool, its Java tokenizer included, on one core."""
    from benchmarks.metrics import measure

    report.deliver(measure(captions, repeat), out)


@main.command()
@click.option(
    "--listing",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=DATA / "clips" / "validation.jsonl",
    show_default="../shared/data/clips/validation.jsonl",
    help="Clips with captions.",
)
@click.option("--backbone", show_default="a ResNet-152 of random weights", help="Any vision model: name or folder.")
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    default="bfloat16",
    show_default=True,
    help="Of the backbone.",
)
@click.option("--clips", type=click.IntRange(min=1), default=8, show_default=True, help="How many of the listing.")
@threads
@repeat
@json
def features(
    listing: Path, backbone: str | None, precision: Any, clips: int, threads: int, repeat: int, out: Path | None
) -> None:
    """Feature extraction against a call a frame, and epochs from the feature store against live decoding."""
    from benchmarks.features import measure

    report.deliver(measure(listing, backbone, precision, threads, repeat, clips), out)


@main.command()
@folder
@click.option("--clients", type=click.IntRange(1, 32), default=32, show_default=True, help="That upload at once.")
@click.option("--uploads", type=click.IntRange(min=1), default=2000, show_default=True, help="Of the load test.")
@model
@threads
@repeat
@json
def serve(clips: Path, clients: int, uploads: int, model: str, threads: int, repeat: int, out: Path | None) -> None:
    """The HTTP service under load, against the same captioner in this process."""
    from benchmarks.serve import measure

    report.deliver(measure(clips, model, threads, repeat, clients, uploads), out)


@main.command()
@click.argument("name", metavar="BACKBONE_OR_BUNDLE")
@data
@threads
@json
def probe(name: str, data: Path, threads: int, out: Path | None) -> None:
    """How much the features of a backbone (name or folder) or a bundle's encoder tell of the words people use."""
    from benchmarks.probe import measure

    report.deliver(measure(name, data, threads), out)


@main.command()
@data
@model
@click.option(
    "--every", type=click.IntRange(min=1), default=4, show_default=True, help="One in so many training items is used."
)
@repeat
@json
def encoders(data: Path, model: str, every: int, repeat: int, out: Path | None) -> None:
    """EfficientNet-Lite in int8, sizes 0-2 at 160-260 pixels: time beside a bundle's encoder, and quality."""
    from benchmarks.encoders import measure

    report.deliver(measure(model, data, every, repeat), out)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
