"""`vidcap export`"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from video_captioning.cli.extras import needs, tell_warnings_plainly
from video_captioning.cli.inputs import clips as chosen
from video_captioning.errors import FileError, VidcapError

LISTINGS = {".jsonl", ".tsv"}


@click.group()
def export() -> None:
    """Turn a checkpoint into a model that captions."""


@export.command()
@click.argument("checkpoint", type=click.Path(readable=False, path_type=Path))
@click.argument("out", type=click.Path(readable=False, path_type=Path))
@click.option("--name", required=True, help="What the model is called.")
@click.option("--licence", default="Apache-2.0", show_default=True, help="What its users may do.")
@click.option("--int8", is_flag=True, help="Use whole numbers where it pays and captions stay, measured on the clips.")
@click.option("--force", is_flag=True, help="Write it even if int8 changes too much.")
@click.option(
    "--clip", "clips", multiple=True, metavar="FILE", help="Prove it on this clip, or those of a listing; repeatable."
)
def onnx(checkpoint: Path, out: Path, name: str, licence: str, int8: bool, force: bool, clips: tuple[str, ...]) -> None:
    """Write a bundle (a folder) that runs without torch.

    \b
    vidcap export onnx runs/mine/last.ckpt models/mine --name mine
    vidcap caption --model models/mine clip.mp4

    OUT must not exist. The bundle is proved to say what the checkpoint says
    before it is written.

    \b
    vidcap export onnx runs/mine/last.ckpt models/small --name small \\
        --int8 --clip validation.jsonl

    A listing, .jsonl or .tsv, also says what to score int8 by.
    """
    if force and not int8:
        raise click.UsageError("--force needs --int8")
    with needs("vidcap export", "export"):
        from video_captioning.bundle import read
        from video_captioning.export.int8 import table
        from video_captioning.export.onnx import export as write_bundle
    tell_warnings_plainly()
    command = shlex.join(["vidcap", *sys.argv[1:]])
    references = dict(captioned(clips))
    parities = write_bundle(
        checkpoint,
        out,
        name=name,
        licence=licence,
        command=command,
        int8=int8,
        force=force,
        clips=list(references),
        references=references,
    )
    if int8 and (measured := read(out).quantization):
        click.echo(table(measured))
    for precision, parity in parities.items():
        same = f"{parity.same_captions} of {parity.clips} captions as in torch"
        click.echo(f"{out}: {precision}: {same}, logits within {parity.logits:.1e}")


def captioned(names: Iterable[str]) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Clips and their captions, where a name is that of a listing; any other name is a clip without."""
    from video_captioning.data.items import read_folder

    for name in names:
        if Path(name).suffix in LISTINGS:
            yield from ((item.path, item.captions) for item in read_folder(name))
        else:
            yield Path(name), ()


@export.command()
@click.argument("bundle", type=click.Path(readable=False))
@click.argument("repository", type=click.Path(readable=False, path_type=Path))
@click.option(
    "--backend",
    type=click.Choice(["onnxruntime", "tensorrt"]),
    default="onnxruntime",
    show_default=True,
    help="What runs encoder, memory and step.",
)
@click.option(
    "--engines",
    type=click.Path(readable=False, path_type=Path),
    metavar="FOLDER",
    help="Where the TensorRT engines are.  [default: BUNDLE]",
)
def triton(bundle: str, repository: Path, backend: str, engines: Path | None) -> None:
    """Write a model repository for Triton Inference Server.

    \b
    vidcap export triton models/mine repository
    tritonserver --model-repository=repository

    BUNDLE is a folder or a name, see `vidcap models`. REPOSITORY must not
    exist. The model `captioner` takes a video and says what is in it.
    """
    with needs("vidcap export", "export"):
        from video_captioning.export.triton import export as write_repository

        write_repository(bundle, repository, backend=backend, engines=engines)
    click.echo(f"{repository}: captioner, and with {backend}: encoder, memory, step")


@export.command()
@click.argument("bundle", type=click.Path(readable=False))
@click.argument("out", type=click.Path(readable=False, path_type=Path))
@click.option("--fp16/--fp32", "half", default=True, show_default=True, help="What TensorRT may compute in.")
@click.option("--clip", "clips", multiple=True, metavar="FILE", help="Prove it on this clip; may be repeated.")
def tensorrt(bundle: str, out: Path, half: bool, clips: tuple[str, ...]) -> None:
    """Build TensorRT engines, for the GPU of this machine.

    \b
    vidcap export tensorrt models/mine engines --clip clip.mp4
    vidcap export tensorrt models/mine/step.onnx step.plan --fp32

    BUNDLE is a folder, a name or one ONNX file. OUT must not exist. trtexec
    comes from the PATH, or from NVIDIA's container by docker or podman.
    """
    with needs("vidcap export", "export"):
        from video_captioning.export.tensorrt import export as build_engines
    same = build_engines(bundle, out, half=half, clips=clips)
    proof = f"{same} of {len(clips)} captions as by ONNX Runtime" if clips else "not compared with ONNX, add --clip"
    click.echo(f"{out}: {'fp16' if half else 'fp32'}: {proof}")


@export.command("check-fp16")
@click.argument("bundle", type=click.Path(readable=False))
@click.argument("clips", nargs=-1, required=True, metavar="CLIP...")
def check_fp16(bundle: str, clips: tuple[str, ...]) -> None:
    """Prove that a bundle survives 16-bit floats.

    \b
    vidcap export check-fp16 models/mine clips/

    Runs it on the clips (files, folders or patterns) with every result rounded
    to float16. Status 1 if one is NaN or infinite, or if more than 2% of the
    captions change.
    """
    with needs("vidcap export", "export"):
        from video_captioning.bundle import read
        from video_captioning.export.half import check
        from video_captioning.parallel import available_cores
    files = list(chosen(clips))
    if wrong := [file for file in files if isinstance(file, FileError)]:
        raise wrong[0]
    found = check(read(bundle), [file for file in files if isinstance(file, Path)], available_cores())
    for graph, size in found.largest.items():
        click.echo(f"{graph}: largest magnitude {size:.0f} of 65504")
    click.echo(f"{found.same_captions} of {found.clips} captions as in float32; {found.tensors} tensors looked at")
    if found.broken:
        raise VidcapError(f"{len(found.broken)} tensors are NaN or infinite in float16, the first {found.broken[0]}")
    if not found.holds():
        raise VidcapError("more than 2% of the captions change in float16; try more clips, or build with --fp32")
