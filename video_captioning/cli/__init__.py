"""`vidcap`: one file a command, loaded when it is called; nothing heavy is imported before that."""

from __future__ import annotations

import errno
import io
import os
import sys
from contextlib import suppress
from importlib import import_module
from typing import Any

import click

from video_captioning import __version__
from video_captioning.cli.output import complain
from video_captioning.errors import OutputError, VidcapError

__all__ = ["main"]

COMMANDS = (
    *("caption", "models", "doctor", "prepare", "data", "train"),
    *("export", "bundle", "benchmark", "evaluate", "score", "explain", "serve", "completion"),
)
INTERRUPTED, CLOSED_PIPE = 130, 141  # 128 + the number of the signal, as shells count
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


class Commands(click.Group):
    """The file `NAME.py` beside this one holds the command `NAME`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"{__name__}.{cmd_name}"), cmd_name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:  # click would make it status 1
            raise click.exceptions.Exit(CLOSED_PIPE) from error


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
def vidcap() -> None:
    """Short videos in, English sentences out.

    \b
    vidcap caption clip.mp4     what is in this clip?
    vidcap doctor               does everything work here?
    """


def main(command: click.Command = vidcap, name: str = "vidcap") -> None:
    """Run a command on the arguments of the process.

    Exit status: 0, or 1 where something failed, 2 for wrong usage, 130 for Ctrl-C, 141 for a closed pipe.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without UTF-8 is no reason to fail
    if status := run(command, name):
        leave(status)


def run(command: click.Command, name: str) -> int:
    """The exit status of the command; errors have been told."""
    try:
        status = command.main(prog_name=name, standalone_mode=False)
        return status if isinstance(status, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:  # click's name for Ctrl-C
        return INTERRUPTED
    except VidcapError as error:
        complain(str(error))
        return 1
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        complain(str(OutputError("standard output", f"cannot be written ({error.strerror})", "make room")))
        return 1


def leave(status: int) -> None:
    """End at once: threads that still decode are not waited for, and what could not be written is not tried again."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError):
            stream.flush()
    os._exit(status)
