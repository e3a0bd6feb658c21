"""The classic names of the commands, as scripts and papers use them.

python -m video_captioning.commands train_baseline training.max_epochs=3 training.batch_size=16
python -m video_captioning.commands inference baseline runs/baseline/best.ckpt clip.mp4
python -m video_captioning.commands convert_onnx baseline runs/baseline/best.ckpt baseline.onnx
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click

from video_captioning.cli import main
from video_captioning.cli.extras import needs, tell_warnings_plainly
from video_captioning.cli.train import train
from video_captioning.errors import CheckpointError

KINDS = ("baseline", "attention", "advanced")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def commands() -> None:
    """Train the three models on MSR-VTT and caption with them; `vidcap` can do more."""


def training(kind: str) -> click.Command:
    """`vidcap train KIND` on MSR-VTT unless another data set is named."""

    @click.command(f"train_{kind}", help=f"Train the {kind} model, as `vidcap train {kind} dataset=msrvtt` does.")
    @click.argument("overrides", nargs=-1)
    @click.pass_context
    def command(context: click.Context, overrides: tuple[str, ...]) -> None:
        named = any(override.partition("=")[0] == "dataset" for override in overrides)
        context.invoke(train, model=kind, overrides=overrides if named else ("dataset=msrvtt", *overrides), show=False)

    return command


for kind in KINDS:
    commands.add_command(training(kind))


@commands.command()
@click.argument("kind", type=click.Choice(KINDS), metavar="|".join(KINDS))
@click.argument("checkpoint", type=click.Path(readable=False, path_type=Path))
@click.argument("video", type=click.Path(readable=False))
def inference(kind: str, checkpoint: Path, video: str) -> None:
    """Print what the model of CHECKPOINT says of VIDEO."""
    with needs("inference from a checkpoint", "export"):
        from video_captioning.evaluation.evaluate import load
    tell_warnings_plainly()
    captioner = load(checkpoint)
    check_kind(checkpoint, captioner.bundle.kind, kind, "inference")
    click.echo(captioner(video).text)


@commands.command("convert_onnx")
@click.argument("kind", type=click.Choice(KINDS), metavar="|".join(KINDS))
@click.argument("checkpoint", type=click.Path(readable=False, path_type=Path))
@click.argument("out", type=click.Path(readable=False, path_type=Path), metavar="OUT.onnx")
@click.option("--clip", "clips", multiple=True, metavar="FILE", help="Prove it on this clip, too; may be repeated.")
def convert_onnx(kind: str, checkpoint: Path, out: Path, clips: tuple[str, ...]) -> None:
    """Write the model of CHECKPOINT as one ONNX file, frames to token ids, and its bundle as the folder OUT beside it.

    Both are proved to say what the checkpoint says before they are written.
    """
    with needs("conversion to ONNX", "export"):
        from video_captioning.export.greedy import convert
        from video_captioning.models.checkpoint import load
    tell_warnings_plainly()
    check_kind(checkpoint, load(checkpoint)[1].kind, kind, "convert_onnx")
    command = shlex.join(["python", "-m", "video_captioning.commands", *sys.argv[1:]])
    count = convert(checkpoint, out, command=command, clips=clips)
    click.echo(f"{out} and {out.with_suffix('')}: {count} of {count} captions as in torch, alone and in a batch")


def check_kind(checkpoint: Path, found: str, named: str, command: str) -> None:
    """Raises CheckpointError where the checkpoint is of another model than the one that was named."""
    if found != named:
        raise CheckpointError(checkpoint, f"is of the model '{found}'", f"say {command} {found}")


if __name__ == "__main__":
    main(commands, "python -m video_captioning.commands")
