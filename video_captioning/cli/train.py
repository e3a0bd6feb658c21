"""`vidcap train`"""

from __future__ import annotations

import click

from video_captioning.cli.extras import needs, tell_warnings_plainly


@click.command()
@click.argument("model")
@click.argument("overrides", nargs=-1)
@click.option("--show", is_flag=True, help="Print the configuration as YAML and train nothing.")
def train(model: str, overrides: tuple[str, ...], show: bool) -> None:
    """Train a model on your own clips; name its last checkpoint.

    \b
    vidcap train advanced dataset.train=captions.tsv out=runs/mine
    vidcap train advanced dataset.train=captions.tsv training.max_epochs=3 --show

    MODEL is baseline, attention or advanced. An OVERRIDE is FIELD=VALUE; --show prints all fields.
    A line of captions.tsv is the file of a clip, a tab and a caption. A run
    that is found in `out` is resumed.
    """
    with needs("vidcap train", "train"):
        from omegaconf import OmegaConf

        from video_captioning.training.configure import configure
        from video_captioning.training.run import helper
        from video_captioning.training.run import train as start
    tell_warnings_plainly()
    if show:
        click.echo(OmegaConf.to_yaml(configure(model, list(overrides))), nl=False)
    else:
        last = start(model, list(overrides))
        if not helper():
            click.echo(last)
