"""`vidcap completion`"""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that completes commands and options on Tab.

    \b
    bash   in ~/.bashrc:                   eval "$(vidcap completion bash)"
    zsh    in ~/.zshrc:                    eval "$(vidcap completion zsh)"
    fish   in ~/.config/fish/config.fish:  vidcap completion fish | source
    """
    completer = get_completion_class(shell)
    assert completer is not None
    click.echo(completer(ctx.find_root().command, {}, "vidcap", "_VIDCAP_COMPLETE").source())
