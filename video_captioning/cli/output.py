"""Where captions go: standard output, a file, a sidecar. A file is written whole or not at all."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from video_captioning.errors import OutputError, printable

if TYPE_CHECKING:
    from video_captioning.captioner import Caption

Format = Literal["text", "json", "jsonl"]


def complain(message: str) -> None:
    """One line on standard error."""
    if sys.stderr is not None:  # closed: print would take standard output instead
        print(f"vidcap: {printable(message)}", file=sys.stderr, flush=True)


class WholeFile:
    """A text file that takes its name when `commit` has brought all of it to the disk.

    A device or a pipe is written as it comes.

    Raises:
        OutputError: on making, writing and committing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with explained(path):
            self._target = Path(os.path.realpath(path))  # a link stays a link
            regular = self._target.is_file() or not self._target.exists()
            self._part = self._target.with_name(f".{os.urandom(8).hex()}.part") if regular else None
            self._file = (self._part or self._target).open("w", encoding="utf-8", errors="surrogateescape")

    def write(self, text: str) -> None:
        with explained(self.path):
            self._file.write(text)
            if self._part is None:
                self._file.flush()

    def commit(self) -> None:
        with explained(self.path):
            self._file.flush()
            if self._part is not None:
                os.fsync(self._file.fileno())
                self._part.replace(self._target)
            self._file.close()

    def discard(self) -> None:
        """Drop what was not committed."""
        with suppress(OSError):
            self._file.close()
        if self._part is not None:
            self._part.unlink(missing_ok=True)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise OutputError(path, f"cannot be written ({reason})", "make room or name another place") from error


def write_whole(path: Path, text: str) -> None:
    """Write a small file. Raises OutputError."""
    file = WholeFile(path)
    try:
        file.write(text)
        file.commit()
    finally:
        file.discard()


def times(caption: Caption) -> str:
    """When its segment starts and ends, and a tab; nothing for a whole clip."""
    return "\N{EN DASH}".join(map(clock, caption.segment)) + "\t" if caption.segment else ""


def clock(seconds: float) -> str:
    """0:07.4, or 1:02:03.4 beyond an hour."""
    minutes, tenths = divmod(round(seconds * 10), 600)
    rest = f"{tenths // 10:02d}.{tenths % 10}"
    return f"{minutes}:{rest}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{rest}"


class Results:
    """Captions in one of the formats, each written as soon as it is given.

    With a file, that is made at once, so that a wrong name is known before any work, and takes its name at the end,
    after Ctrl-C too; where no caption was made or anything else went wrong, a file that was there stays as it was.
    """

    def __init__(
        self, output: Path | None, form: Format, alone: bool, segments: bool = False, tags: bool = False
    ) -> None:
        """What is written, and where.

        Args:
            alone: a single clip, so that text needs no name and, unless there are `segments`, JSON no array.
            tags: text has them, too.
        """
        self._file = WholeFile(output) if output else None
        self._form = form
        self._alone = alone
        self._tags = tags
        self._array = form == "json" and (segments or not alone)
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if kind is None or kind is KeyboardInterrupt:
                self._finish()
        finally:
            if self._file:
                self._file.discard()

    def write(self, path: Path, caption: Caption) -> None:
        if self._form == "text":
            head = times(caption) if self._alone else f"{printable(path)}\t{times(caption)}"
            sentences = (caption.text, *(other.text for other in caption.alternatives))
            tail = f"\t{printable(', '.join(tag.name for tag in caption.tags or ()))}" if self._tags else ""
            self._say("".join(f"{head}{sentence}{tail}\n" for sentence in sentences))
        else:
            # ASCII, so that any encoding carries it; undecodable bytes of a name stay as the surrogates Python reads.
            line = json.dumps(caption.to_dict())
            opening = ("," if self._count else "[\n") if self._array else ""
            self._say(f"{opening}{line}\n")
        self._count += 1

    def _finish(self) -> None:
        if self._count and self._array:
            self._say("]\n")
        if self._count and self._file:
            self._file.commit()

    def _say(self, text: str) -> None:
        if self._file:
            self._file.write(text)
        else:
            print(text, end="", flush=True)
