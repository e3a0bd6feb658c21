"""What /docs says of the routes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from video_captioning.captioner import Caption
from video_captioning.serve.options import SCHEMA
from video_captioning.serve.upload import FILE_FIELD

_MEANINGS = {
    400: "The body is malformed",
    401: "An API key is needed",
    408: "The upload took too long",
    413: "The upload, the picture or the clip is too large",
    415: "No form, no media, or a playlist",
    422: "No picture in the file, or an option out of range",
    429: "Too many requests of this client; see Retry-After",
    500: "A fault of the service",
    503: "Too much to do; see Retry-After",
}


@dataclass(frozen=True)
class CaptionAnswer(Caption):
    """A caption and its id."""

    id: str


@dataclass(frozen=True)
class Problem:
    """What is wrong and what to do."""

    code: str
    message: str
    hint: str
    request_id: str


@dataclass(frozen=True)
class Failure:
    """Every error."""

    error: Problem


@dataclass(frozen=True)
class FailedClip(Failure):
    """A clip of a batch without a caption."""

    id: str


@dataclass(frozen=True)
class BatchAnswer:
    """Captions in the order of the files, or of the segments of one."""

    id: str
    results: list[CaptionAnswer | FailedClip]


def answers(*statuses: int) -> dict[str, Any]:
    """Arguments of a route that may refuse with these statuses, too."""
    refusals = {status: {"model": Failure, "description": _MEANINGS[status]} for status in (401, 500, *statuses)}
    return {"responses": refusals}


def captions(*, many: bool) -> dict[str, Any]:
    """Arguments of a route that takes clips."""
    said = answers(400, 408, 413, 415, 422, 429, 503)
    answer = BatchAnswer if many else CaptionAnswer | BatchAnswer
    said["responses"][200] = {"model": answer, "description": "What is to be seen"}
    options = {name: about for name, about in SCHEMA.items() if not many or name != "segments"}
    clip = {"type": "string", "format": "binary", "description": "Any file that FFmpeg reads"}
    clips = {"type": "array", "items": clip, "minItems": 1}
    form = {"type": "object", "required": [FILE_FIELD], "properties": {FILE_FIELD: clips if many else clip, **options}}
    query = [{"name": name, "in": "query", "required": False, "schema": about} for name, about in options.items()]
    body = {"required": True, "content": {"multipart/form-data": {"schema": form}}}
    return {**said, "openapi_extra": {"requestBody": body, "parameters": query}}
