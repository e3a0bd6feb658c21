"""The classic names of the commands, as scripts and papers use them.

python -m video_captioning.commands train_baseline training.max_epochs=3 training.batch_size=16
python -m video_captioning.commands inference baseline runs/baseline/best.ckpt clip.mp4
"""

from __future__ import annotations

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
    if captioner.bundle.kind != kind:
        raise CheckpointError(
            checkpoint, f"is of the model '{captioner.bundle.kind}'", f"say inference {captioner.bundle.kind}"
        )
    click.echo(captioner(video).text)


if __name__ == "__main__":
    main(commands, "python -m video_captioning.commands")
