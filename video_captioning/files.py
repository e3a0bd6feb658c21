"""Files that are written whole or not at all, as `bundle.writing` does for folders."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from video_captioning.errors import OutputError

MAKE_ROOM = "make room or name another place"


@contextmanager
def whole_file(path: str | Path, way_out: str = MAKE_ROOM) -> Iterator[Path]:
    """A name beside `path`; the file that the block writes there takes the name `path` when the block ends well.

    Raises:
        OutputError: no room or no permission, with `way_out` for what to do.
    """
    target = Path(path)
    part = target.with_name(f".{target.name}.{os.urandom(4).hex()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part.touch()
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(target)
    except OSError as error:
        raise OutputError(target, f"cannot be written ({error.strerror or error})", way_out) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def write_whole(path: str | Path, content: bytes | str, way_out: str = MAKE_ROOM) -> None:
    """Write a small file. Raises OutputError."""
    with whole_file(path, way_out) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


def refuse_taken(path: str | Path) -> None:
    """Raises OutputError where something has the name already."""
    if os.path.lexists(path):
        raise OutputError(path, "exists already", "give another name or remove it first")
