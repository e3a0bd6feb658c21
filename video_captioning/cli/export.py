"""`vidcap export`"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click

from video_captioning.cli.extras import needs, tell_warnings_plainly


@click.group()
def export() -> None:
    """Turn a checkpoint into a model that captions."""


@export.command()
@click.argument("checkpoint", type=click.Path(readable=False, path_type=Path))
@click.argument("out", type=click.Path(readable=False, path_type=Path))
@click.option("--name", required=True, help="What the model is called.")
@click.option("--licence", default="Apache-2.0", show_default=True, help="What its users may do.")
@click.option("--int8", is_flag=True, help="Store the weights in a quarter of the space.")
@click.option("--clip", "clips", multiple=True, metavar="FILE", help="Prove it on this clip, too; may be repeated.")
def onnx(checkpoint: Path, out: Path, name: str, licence: str, int8: bool, clips: tuple[str, ...]) -> None:
    """Write a bundle (a folder) that runs without torch.

    \b
    vidcap export onnx runs/mine/last.ckpt models/mine --name mine
    vidcap caption --model models/mine clip.mp4

    OUT must not exist. The bundle is proved to say what the checkpoint says
    before it is written.
    """
    with needs("vidcap export", "export"):
        from video_captioning.export.onnx import export as write_bundle
    tell_warnings_plainly()
    command = shlex.join(["vidcap", *sys.argv[1:]])
    parities = write_bundle(checkpoint, out, name=name, licence=licence, command=command, int8=int8, clips=clips)
    for precision, parity in parities.items():
        same = f"{parity.same_captions} of {parity.clips} captions as in torch"
        click.echo(f"{out}: {precision}: {same}, logits within {parity.logits:.1e}")
