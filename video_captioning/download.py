"""Files from a hub that go on where they stopped.

huggingface_hub keeps no partial file, so a download of gigabytes that is killed would start anew. Hence plain HTTP into
a file of ours, whatever HF_HUB_DISABLE_XET says: Xet cannot go on either.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

from huggingface_hub.file_download import http_get
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # documented, not re-exported

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


def resume(url: str, part: Path, size: int | None) -> None:
    """Fetch `url` into the file `part` and bring it to the disk; what an earlier try left there is not fetched again.

    Args:
        size: in bytes, where it is known.

    Raises:
        OSError, and what huggingface_hub and the HTTP library that it stands on raise.
    """
    have = left_by_earlier_try(part, size)
    with Bounded(part, None if size is None else 2 * size) as out:
        out.truncate(have)
        out.seek(have)
        if size is None or have != size:
            http_get(
                url,
                out,
                resume_size=have,
                headers=build_hf_headers(),
                expected_size=size,
                displayed_filename=part.stem,
            )
        out.flush()
        os.fsync(out.fileno())


def left_by_earlier_try(part: Path, size: int | None) -> int:
    """Bytes of `part` that can be gone on with: all, or none where there are more than the whole has."""
    have = part.stat().st_size if part.exists() else 0
    return have if size is None or have <= size else 0


class Bounded(io.BufferedWriter):
    """Appends to a file, so many bytes at most: `http_get` would take a file without end, and would begin anew for ever
    where a hub cuts each answer short."""

    def __init__(self, path: Path, limit: int | None) -> None:
        super().__init__(io.FileIO(path, "ab"))
        self.left = limit

    def write(self, content: ReadableBuffer, /) -> int:
        if self.left is not None:
            self.left -= memoryview(content).nbytes
            if self.left < 0:
                raise OSError("the hub sends too much, or begins anew instead of going on")
        return super().write(content)
