"""What is named on the command line → the clips it means, and where their sidecars go."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from video_captioning.errors import FileError, MissingFileError, NotMediaError, OutputError
from video_captioning.media import EXTENSIONS

Existing = Literal["skip", "overwrite"]


def is_pattern(name: str) -> bool:
    """A glob; a name that is there is that file, whatever signs it holds."""
    return not os.path.lexists(name) and any(sign in name for sign in "*?[")


def is_one_file(names: Sequence[str]) -> bool:
    """A single clip is meant: neither a folder nor a pattern, which may hold any number."""
    return len(names) == 1 and not is_folder(names[0]) and not is_pattern(names[0])


def is_folder(name: str) -> bool:
    return os.path.isdir(name)  # noqa: PTH112 (Path.is_dir raises for a name that is too long)


def clips(names: Iterable[str]) -> Iterator[Path | FileError]:
    """The clips of files, folders and patterns, in the order of the names, each once; or what is wrong with a name.

    A file is taken whatever its ending. A folder is walked, and gives the files with a known ending, sorted; what is
    hidden in it is left out and links to folders are not followed.
    """
    seen = set()
    for name in names:
        for found in meant_by(name):
            if isinstance(found, FileError):
                yield found
            elif place(found) not in seen:
                seen.add(place(found))
                yield found


def place(path: Path) -> str:
    """One spelling for each name; a link is another name, not the file that it points to."""
    return os.path.join(os.path.realpath(path.parent), path.name)  # noqa: PTH118


def meant_by(name: str) -> Iterator[Path | FileError]:
    if not name:
        yield MissingFileError("''", "the name is empty", "check what the shell made of it")
    elif name == "-" and not os.path.lexists(name):
        yield NotMediaError(name, "standard input is not read", "save what comes through it to a file first")
    elif is_pattern(name):
        matches = sorted(glob.glob(name, recursive=True))  # noqa: PTH207 (a Path would lose a leading ./ or a last /)
        if not matches:
            yield MissingFileError(name, "nothing matches this pattern", "check the pattern")
        for match in matches:
            yield from files(match)
    else:
        yield from files(name)


def files(name: str) -> Iterator[Path | FileError]:
    """The file, or those of the folder."""
    if not is_folder(name):
        yield Path(name)
        return
    failed: list[OSError] = []
    found = []
    for parent, folders, entries in os.walk(name, onerror=failed.append):
        folders[:] = [folder for folder in folders if not folder.startswith(".")]
        found += [Path(parent, entry) for entry in entries if not entry.startswith(".") and is_media(entry)]
    for error in failed:
        yield MissingFileError(error.filename, f"cannot be read ({error.strerror})", "change its mode or owner")
    yield from sorted(found)
    if not found and not failed:
        yield MissingFileError(name, "the folder holds no video or picture", "name another, or its files outright")


def is_media(name: str) -> bool:
    return Path(name).suffix.lower() in EXTENSIONS


def sidecar(clip: Path) -> Path:
    """`clip.txt` for `clip.mp4`; an ending that is not one of media stays: `clip.part.txt`."""
    return clip.with_suffix(".txt") if is_media(clip.name) else clip.with_name(f"{clip.name}.txt")


def without_sidecar(clips: Sequence[Path], existing: Existing | None) -> Iterator[Path | OutputError]:
    """The clips to caption, given what to do with a sidecar that is there; or why one cannot have its sidecar."""
    inputs = {place(clip) for clip in clips}
    owners: dict[str, Path] = {}
    for clip in clips:
        target = sidecar(clip)
        owner = owners.setdefault(place(target), clip)
        if owner != clip:
            yield OutputError(clip, f"its sidecar would be that of {owner.name}, too", "rename one of them")
        elif place(target) in inputs:
            yield OutputError(clip, f"its sidecar would overwrite the clip {target.name}", "rename that clip")
        elif existing is None and os.path.lexists(target):
            way_out = "add --skip-existing or --overwrite"
            yield OutputError(clip, f"its sidecar {target.name} exists already", way_out)
        elif existing != "skip" or not os.path.lexists(target):
            yield clip
