"""A zip archive → files: nothing outside the folder, no half files, nothing twice."""

from __future__ import annotations

import re
import shutil
import stat
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from zipfile import BadZipFile, ZipFile, ZipInfo

from video_captioning.errors import DataError, OutputError, printable
from video_captioning.files import whole_file

ENCRYPTED = 1
"""The bit of a member's flags."""

Progress = Callable[[list[ZipInfo]], Iterable[ZipInfo]]


def unpack(archive: Path, folder: Path, progress: Progress = iter) -> int:
    """Write the members of `archive` that `folder` does not hold yet; a stopped run goes on with the next member.

    Args:
        progress: wraps the members while they are written, as `rich.progress.track` does.

    Returns:
        How many were written.

    Raises:
        DataError: no zip archive, a damaged member, or one that needs a password or would lie outside `folder`: then
            none is written.
        OutputError: not enough room for all that is missing, known before anything is written, or no permission.
    """
    try:
        with ZipFile(archive) as file:
            members = [member for member in file.infolist() if not member.is_dir()]
            for member in members:
                refuse_outside(archive, member)
                refuse_locked(archive, member)
            missing = [member for member in members if not is_there(folder / member.filename, member.file_size)]
            check_room(folder, sum(member.file_size for member in missing), archive.name)
            for member in progress(missing):
                write(file, member, folder / member.filename)
            return len(missing)
    except (BadZipFile, zlib.error, EOFError, NotImplementedError) as error:  # the last: a compression that is unknown
        raise DataError(
            archive, f"cannot be unpacked ({error})", "remove it, and run again to fetch it anew"
        ) from error
    except OSError as error:
        place = error.filename or folder
        raise OutputError(place, f"cannot be written ({error.strerror})", "make room or change its mode") from error


def refuse_outside(archive: Path, member: ZipInfo) -> None:
    """Raises DataError for a link, and for a name that is absolute or climbs, on any system."""
    parts = re.split(r"[/\\]", member.filename)
    if stat.S_ISLNK(member.external_attr >> 16) or ".." in parts or not parts[0] or ":" in parts[0]:
        problem = f"its member {printable(member.filename)} would lie outside the folder"
        raise DataError(archive, problem, "do not trust this archive; nothing was unpacked")


def refuse_locked(archive: Path, member: ZipInfo) -> None:
    if member.flag_bits & ENCRYPTED:
        raise DataError(archive, f"its member {printable(member.filename)} needs a password", "unpack it yourself")


def is_there(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def write(archive: ZipFile, member: ZipInfo, target: Path) -> None:
    """One member under a temporary name, then under its own; `zipfile` compares its CRC-32."""
    with whole_file(target) as part, archive.open(member) as source, part.open("wb") as out:
        shutil.copyfileobj(source, out, 1 << 20)


def check_room(folder: Path, size: int, what: str) -> None:
    """Raises OutputError where the disk of `folder`, which need not exist, has less than `size` bytes free."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(there).free
    if free < size:
        problem = f"{what} needs {size / 1e9:.2f} GB, and {free / 1e9:.2f} GB are free"
        raise OutputError(folder, problem, "make room or name a folder on another disk")
