"""A file that is written whole or not at all, as `bundle.writing` does for folders."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from video_captioning.errors import OutputError


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A name beside `path`; the file that the block writes there takes the name `path` when the block ends well.

    Raises:
        OutputError: the name is taken, or there is no room or permission.
    """
    target = Path(path)
    if os.path.lexists(target):
        raise OutputError(target, "exists already", "give another name or remove it first")
    part = target.with_name(f".{target.name}.{os.urandom(4).hex()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part.touch()
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(target)
    except OSError as error:
        raise OutputError(target, f"cannot be written ({error.strerror})", "make room or give another place") from error
    finally:
        if part.exists():
            part.unlink()
