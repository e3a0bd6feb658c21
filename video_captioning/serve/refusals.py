"""Every way to say no: a status, a code for programs, a message and a way out for people."""

from __future__ import annotations

from typing import Any

from video_captioning.errors import (
    FileError,
    MediaError,
    NoPictureError,
    NotMediaError,
    PlaylistError,
    TooLargeError,
    printable,
)

RETRY_SECONDS = 2
_MEDIA: dict[type[MediaError], tuple[int, str]] = {
    NotMediaError: (415, "not_media"),
    PlaylistError: (415, "playlist"),
    TooLargeError: (413, "clip_too_large"),
    NoPictureError: (422, "no_picture"),
}


class RefusalError(Exception):
    """What is answered instead of a caption."""

    def __init__(self, status: int, code: str, message: str, hint: str, **headers: str) -> None:
        """`headers`: more for the response, with `_` for `-`."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.hint = hint
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def to_dict(self, request_id: str) -> dict[str, Any]:
        """The JSON of every error."""
        said = {"code": self.code, "message": self.message, "hint": self.hint, "request_id": request_id}
        return {"error": said}


class BusyError(RefusalError):
    """Too much is asked for now; the same request may do later."""

    def __init__(self, code: str, message: str, *, status: int = 503) -> None:
        hint = f"try again in {RETRY_SECONDS} s"
        super().__init__(status, code, message, hint, retry_after=str(RETRY_SECONDS))


class InternalError(RefusalError):
    """A fault of the service; what is known of it is in the log only."""

    def __init__(self) -> None:
        hint = "look for the request_id in the log of the service"
        super().__init__(500, "internal", "something went wrong inside the service", hint)


def of_media(error: FileError, name: str) -> RefusalError:
    """The refusal for a file that the client calls `name`. An error that is not the file's fault is InternalError."""
    if type(error) not in _MEDIA:
        return InternalError()
    status, code = _MEDIA[type(error)]  # type: ignore[index]
    return RefusalError(status, code, f"{printable(name)}: {error.problem}", error.way_out)
