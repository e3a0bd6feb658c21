"""`vidcap benchmark`"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from video_captioning import __version__
from video_captioning.cli.address import host_and_port
from video_captioning.cli.caption import progress
from video_captioning.cli.extras import needs, tell_warnings_plainly
from video_captioning.cli.inputs import clips as chosen
from video_captioning.cli.output import complain
from video_captioning.cli.table import print_table
from video_captioning.errors import FileError, MissingExtraError
from video_captioning.files import write_whole

if TYPE_CHECKING:
    from video_captioning.bundle import Bundle
    from video_captioning.export.benchmark import Result
    from video_captioning.export.engines import Loader

MOST = 256
"""Threads, and clips in a batch."""
FLOAT32, INT8 = "ONNX float32", "ONNX int8"


def numbers(text: str) -> list[int]:
    """For an option's `type`: whole numbers between commas, each once, in order. Raises click.BadParameter."""
    try:
        found = sorted({int(part) for part in text.split(",")})
    except ValueError as error:
        raise click.BadParameter(f"{text} is not whole numbers between commas, such as 1,8.") from error
    if not 1 <= found[0] <= found[-1] <= MOST:
        raise click.BadParameter(f"each number must be 1 to {MOST}; there is {text}.")
    return found


@click.command()
@click.argument("model", type=click.Path(readable=False), metavar="BUNDLE")
@click.argument("clips", nargs=-1, required=True, type=click.Path(readable=False), metavar="CLIP...")
@click.option(
    "--checkpoint",
    type=click.Path(readable=False, path_type=Path),
    metavar="FILE",
    help="What the bundle was exported from: measure torch, too.",
)
@click.option("--triton", type=host_and_port, metavar="URL", help="Where a Triton serves it: measure that, too.")
@click.option("--threads", type=numbers, metavar="N,N", default="1,2", show_default=True, help="Processor cores.")
@click.option(
    "--batch", "batches", type=numbers, metavar="N,N", default="1,8", show_default=True, help="Clips at once."
)
@click.option("--repeat", type=click.IntRange(min=1), default=5, show_default=True, help="Rounds measured.")
@click.option(
    *("-o", "--output"),
    type=click.Path(readable=False, path_type=Path),
    metavar="FOLDER",
    help="Write benchmark.json and benchmark.png there; it must not exist.",
)
def benchmark(
    model: str,
    clips: tuple[str, ...],
    checkpoint: Path | None,
    triton: tuple[str, int] | None,
    threads: list[int],
    batches: list[int],
    repeat: int,
    output: Path | None,
) -> None:
    """Measure how long a bundle takes, stage by stage, and in which engine.

    \b
    vidcap benchmark default clips/
    vidcap benchmark models/mine clips/ --checkpoint runs/mine/last.ckpt
    vidcap benchmark models/mine clips/ --triton http://localhost:8000 -o found

    A bundle in int8 is measured in float32, too. The engines take turns, so
    that what slows the machine down slows all of them. A few dozen CLIPs will
    do: files, folders or patterns. Their frames are held in memory.

    × is how many times as fast as ONNX float32; captions, how many of the clips
    get the same greedy caption as there.
    """
    from video_captioning.bundle import read, writing
    from video_captioning.export.benchmark import measure, read_clips, same_captions
    from video_captioning.export.benchmark_plot import picture

    if output:
        with needs("the picture of vidcap benchmark", "plots"):
            import matplotlib  # noqa: F401 (now, not after minutes of measuring)
    files = list(chosen(clips))
    if wrong := [file for file in files if isinstance(file, FileError)]:
        raise wrong[0]
    bundle = read(model)
    tell_warnings_plainly()
    with writing(output) if output else nullcontext() as folder:
        engines = available(bundle, checkpoint, triton)
        reference = FLOAT32 if FLOAT32 in engines else INT8
        frames = read_clips([file for file in files if isinstance(file, Path)], bundle, threads[-1])
        same = same_captions(engines, frames, reference, threads[0])
        results: list[Result] = []
        with progress(len(threads) * len(batches)) as advance:
            for setting in measure(engines, frames, bundle, reference, threads=threads, batches=batches, rounds=repeat):
                results += setting
                advance()
        if folder:
            found = report(bundle, len(frames), repeat, reference, same, results)
            write_whole(folder / "benchmark.json", json.dumps(found, indent=2) + "\n")
            title = f"{bundle.name} {bundle.version}: {len(frames)} clips, beam {bundle.decoding.beam}"
            write_whole(folder / "benchmark.png", picture(results, title))
    click.echo(f"{bundle.name} {bundle.version}, {len(frames)} clips, {repeat} rounds; compared with {reference}\n")
    print_table([row(one) | {"captions": f"{same[one.engine]} of {len(frames)}"} for one in results])


def available(bundle: Bundle, checkpoint: Path | None, triton: tuple[str, int] | None) -> dict[str, Loader]:
    """The engines that can be had; it is said which cannot."""
    from video_captioning.export import engines

    found: dict[str, Loader] = {}
    int8 = bool(bundle.int8)
    if checkpoint:
        with needs("vidcap benchmark with a checkpoint", "export"):
            parts = engines.open_checkpoint(checkpoint, bundle)
            found["torch"] = engines.in_torch(bundle, *parts)
            if int8:
                found[FLOAT32] = engines.exported(bundle, *parts)
    elif int8:
        try:
            with needs("measuring the bundle in float32, too,", "export"):
                found[FLOAT32] = engines.in_float32(bundle)
        except MissingExtraError as error:
            complain(f"note: {error}")
    found[INT8 if int8 else FLOAT32] = engines.as_it_is(bundle)
    if triton:
        host, port = triton
        found["Triton"] = engines.in_triton(f"{host}:{port}")
    return found


def row(one: Result) -> dict[str, Any]:
    """A line of the table."""
    from video_captioning.export.benchmark import STAGES

    spent = {name: one.milliseconds[name].median if name in one.milliseconds else None for name in STAGES}
    return {
        "engine": one.engine,
        "threads": one.threads,
        "batch": one.batch,
        **{f"{name}, ms": value for name, value in spent.items()},
        "latency, ms": one.latency.median,
        "least, ms": one.latency.least,
        "clips/s": one.clips_per_second,
        "encode ×": one.speedup.get("encode"),
        "all ×": one.speedup["all"],
    }


def report(
    bundle: Bundle, clips: int, rounds: int, reference: str, same: Mapping[str, int], results: Sequence[Result]
) -> dict[str, Any]:
    """`benchmark.json`."""
    from video_captioning.parallel import available_cores

    libraries = ("onnxruntime", "torch") if "torch" in same else ("onnxruntime",)
    return {
        "model": {"name": bundle.name, "version": bundle.version, "sha256": bundle.sha256},
        "decoding": asdict(bundle.decoding),
        "clips": clips,
        "rounds": rounds,
        "system": platform.platform(),
        "cores": available_cores(),
        "versions": {
            "vidcap": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in libraries},
        },
        "reference": reference,
        "same_greedy_captions": same,
        "results": [asdict(one) for one in results],
    }
