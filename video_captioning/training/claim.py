"""One run at a time in a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from video_captioning.errors import OutputError

try:
    import fcntl
except ImportError:  # not POSIX
    fcntl = None  # type: ignore[assignment]


@contextmanager
def claim(out: Path) -> Iterator[None]:
    """Make the folder and hold it; the other processes of a run hold it through the first.

    Raises:
        OutputError: another run holds it, or it cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        file = (out / ".lock").open("a")
    except OSError as error:
        raise OutputError(out, f"cannot be written ({error.strerror})", "make room or give another `out`") from error
    with file:
        if fcntl is not None and not helper():
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise OutputError(out, "is in use by another run", "wait for it or give another `out`") from error
        yield


def helper() -> bool:
    """Whether this process was started by the first one of a run, to train beside it."""
    return os.environ.get("LOCAL_RANK", "0") != "0"
