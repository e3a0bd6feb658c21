"""One run at a time in a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from video_captioning.errors import OutputError

try:
    import fcntl
except ImportError:  # not POSIX: nobody is kept out
    fcntl = None  # type: ignore[assignment]


@contextmanager
def claim(folder: Path) -> Iterator[None]:
    """Make `folder` and keep other runs out of it.

    Raises:
        OutputError: another run is at work there, or it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY) if fcntl else None
    except OSError as error:
        raise OutputError(folder, f"cannot be used ({error.strerror})", "make room or name another folder") from error
    try:
        if handle is not None:
            lock(handle, folder)
        yield
    finally:
        if handle is not None:
            os.close(handle)


def lock(handle: int, folder: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise OutputError(folder, "is in use by another run", "wait for it or name another folder") from error
