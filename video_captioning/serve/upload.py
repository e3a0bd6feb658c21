"""A multipart body → files in the spool and text fields, as it arrives; limits are kept while reading."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from multipart import MultipartError, MultipartSegment, ParserLimitReached, PushMultipartParser, parse_options_header
from starlette.requests import Request

from video_captioning.serve.options import SCHEMA
from video_captioning.serve.refusals import BusyError, RefusalError
from video_captioning.serve.settings import Settings
from video_captioning.serve.spool import Spool

FILE_FIELD = "file"
_PIECE = 1 << 18  # bytes written at once
_TEXT = 1000  # bytes of a text field
_NAME = 255  # characters kept of a file's name
_HINT = "send multipart/form-data with the clip in the field 'file': curl -F file=@clip.mp4 …"


@dataclass(frozen=True)
class File:
    """One uploaded file."""

    name: str
    """As the client calls it; never used on disk."""
    path: Path


@dataclass(frozen=True)
class Upload:
    """What a request brought."""

    files: list[File] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)


@asynccontextmanager
async def received(request: Request, spool: Spool, settings: Settings, most: int) -> AsyncIterator[Upload]:
    """The upload of a request with at most `most` files, which are removed when the block ends in whatever way.

    Raises:
        RefusalError: malformed (400), too slow (408), too large (413), no form (415), not what is asked for (422),
            no room (503).
        ClientDisconnect: nobody is there any more.
    """
    upload = Upload()
    try:
        await _read(request, spool, settings, most, upload)
        if not upload.files:
            raise RefusalError(422, "no_file", "there is no file in the request", _HINT)
        yield upload
    finally:
        for file in upload.files:
            file.path.unlink(missing_ok=True)


async def _read(request: Request, spool: Spool, settings: Settings, most: int, upload: Upload) -> None:
    """Fill `upload` from the body."""
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != "multipart/form-data":
        raise RefusalError(415, "not_multipart", "the request is not multipart/form-data", _HINT)
    length = request.headers.get("content-length", "")
    _check_size(int(length) if length.isdecimal() else 0, settings)
    form = _Form(spool, most, upload)
    size = 0
    try:
        async with asyncio.timeout(settings.upload_seconds):
            with PushMultipartParser(options.get("boundary", ""), max_segment_count=most + len(SCHEMA) + 1) as parser:
                async for chunk in request.stream():
                    size += len(chunk)
                    _check_size(size, settings)
                    if chunk and not parser.closed:  # what comes after the last part means nothing
                        for event in parser.parse(chunk):
                            await form.take(event)
    except TimeoutError as error:
        message = f"the upload took longer than {settings.upload_seconds:g} s"
        raise RefusalError(408, "upload_too_slow", message, "send a smaller file", connection="close") from error
    except ParserLimitReached as error:
        raise RefusalError(413, "too_many_parts", "the form has too many or too long parts", _HINT) from error
    except MultipartError as error:
        raise RefusalError(400, "malformed", f"the multipart body is malformed: {error}", _HINT) from error
    except OSError as error:
        raise BusyError("no_room", "there is no room for the upload") from error


def _check_size(size: int, settings: Settings) -> None:
    if size > settings.upload:
        message = f"the request is larger than {settings.upload / 1e6:g} MB"
        raise RefusalError(413, "upload_too_large", message, "send a shorter or smaller clip")


class _Form:
    """The parts of a form as they arrive. Of a file only a piece is ever held in memory."""

    def __init__(self, spool: Spool, most: int, upload: Upload) -> None:
        self._spool = spool
        self._most = most
        self._upload = upload
        self._name = ""  # of the part that is arriving
        self._path: Path | None = None  # where it goes; None for text
        self._held = bytearray()

    async def take(self, event: MultipartSegment | bytes | None) -> None:
        """One event of the parser: a part begins, more of its content, its end."""
        if isinstance(event, MultipartSegment):
            self._begin(event)
        elif event is not None:
            self._held += event
            if self._path and len(self._held) >= _PIECE:
                await self._write(self._path)
            elif not self._path and len(self._held) > _TEXT:
                raise RefusalError(413, "field_too_large", f"the field {self._name!r} is too long", "see /docs")
        elif self._path:
            await self._write(self._path)
        else:
            self._upload.texts.append((self._name, self._held.decode("utf-8", "replace")))

    def _begin(self, part: MultipartSegment) -> None:
        self._name, self._path, self._held = (part.name or "")[:_NAME], None, bytearray()
        if part.filename is None:
            if self._name == FILE_FIELD:
                raise RefusalError(422, "no_file", "the field 'file' holds text, not a file", _HINT)
            return
        if self._name != FILE_FIELD:
            raise RefusalError(422, "unknown_field", f"a file came in the field {self._name!r}", _HINT)
        if len(self._upload.files) == self._most:
            hint = "send several files to /v1/captions:batch" if self._most == 1 else "send several requests"
            raise RefusalError(422, "too_many_files", f"more files came than {self._most}", hint)
        self._path = self._spool.new()
        self._upload.files.append(File(part.filename[-_NAME:], self._path))

    async def _write(self, path: Path) -> None:
        content, self._held = self._held, bytearray()
        await asyncio.to_thread(_append, path, content)


def _append(path: Path, content: bytes | bytearray) -> None:
    """A file that is open for this long only: a thread that outlives its request can neither harm nor remake one."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND)  # without O_CREAT
    with os.fdopen(handle, "wb") as file:
        file.write(content)
