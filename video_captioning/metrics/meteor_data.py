"""METEOR's tables: found in an installed pycocoevalcap, compiled once into one file in the user's cache.

Nothing of them is part of this package. The jar (a zip) holds the function words, WordNet's synsets and irregular
forms, and the prefixes that a full stop belongs to; the paraphrase table lies beside it.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import sys
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from io import BufferedReader
from pathlib import Path
from typing import IO, NamedTuple, cast

from video_captioning.errors import DataError, MissingExtraError, OutputError, VidcapError
from video_captioning.files import whole_file
from video_captioning.metrics.meteor_tables import VERSION, Tables, compile_tables, read_tables, write_tables

_FUNCTION, _PREFIXES = "function/english.words", "nonbreaking/english.prefixes"
_SYNSETS, _IRREGULAR = "synonym/english.synsets", "synonym/english.exceptions"


class Sources(NamedTuple):
    jar: Path
    paraphrases: Path


def find_sources() -> Sources:
    """Raises MissingExtraError where pycocoevalcap is not installed."""
    found = find_spec("pycocoevalcap")
    for place in (found and found.submodule_search_locations) or ():
        folder = Path(place, "meteor")
        sources = Sources(folder / "meteor-1.5.jar", folder / "data" / "paraphrase-en.gz")
        if all(source.is_file() for source in sources):
            return sources
    raise MissingExtraError("METEOR", "metrics")


def cache_file(sources: Sources) -> Path:
    """Where the compiled tables are, or will be: by their content, so that installations share them."""
    return cache_folder() / f"meteor-{VERSION}-{_fingerprint(sources)}.tables"


def cache_folder() -> Path:
    """`vidcap` in $XDG_CACHE_HOME, or where the platform keeps what can be made again."""
    if place := os.environ.get("XDG_CACHE_HOME"):
        return Path(place, "vidcap")
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local", "vidcap", "cache")
    return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "vidcap"


def open_tables() -> Tables:
    """The compiled tables, made now where they are absent or damaged, which takes some ten seconds.

    Raises:
        MissingExtraError: there is nothing to compile.
        DataError: what there is cannot be read.
        OutputError: the cache cannot be written.
    """
    sources = find_sources()
    path = cache_file(sources)
    tables = read_tables(path)
    if tables is None:
        _make(sources, path)
        tables = read_tables(path)
    if tables is None:
        raise OutputError(path, "does not hold what was written", "name another folder in XDG_CACHE_HOME")
    return tables


def to_be_made() -> bool:
    """Whether `open_tables` would compile them first."""
    try:
        return not cache_file(find_sources()).exists()
    except VidcapError:
        return False


def _fingerprint(sources: Sources) -> str:
    """Of the checksums that both archives hold anyway. Raises DataError."""
    try:
        with zipfile.ZipFile(sources.jar) as jar:
            marks = [str(jar.getinfo(name).CRC) for name in (_FUNCTION, _PREFIXES, _SYNSETS, _IRREGULAR)]
        with sources.paraphrases.open("rb") as file:
            size = file.seek(-8, os.SEEK_END) + 8
            marks += [str(size), file.read().hex()]
    except (OSError, zipfile.BadZipFile, KeyError) as error:
        raise _unreadable(sources, error) from error
    return hashlib.blake2b(" ".join(marks).encode(), digest_size=8).hexdigest()


def _make(sources: Sources, path: Path) -> None:
    try:
        with zipfile.ZipFile(sources.jar) as jar, gzip.open(sources.paraphrases) as file:
            function, prefixes, synsets, irregular = (
                jar.read(name).decode() for name in (_FUNCTION, _PREFIXES, _SYNSETS, _IRREGULAR)
            )
            arrays = compile_tables(function, prefixes, _pairs(synsets), _pairs(irregular), _phrases(file))
    except (OSError, EOFError, zipfile.BadZipFile, KeyError, ValueError) as error:
        raise _unreadable(sources, error) from error
    with whole_file(path, "make room or name another folder in XDG_CACHE_HOME") as part, part.open("wb") as out:
        write_tables(out, arrays)


def _unreadable(sources: Sources, error: Exception) -> DataError:
    return DataError(sources.jar.parent, f"cannot be read ({error})", "install pycocoevalcap again")


def _pairs(text: str) -> Iterator[tuple[str, list[str]]]:
    """A line with a word, a line with what belongs to it."""
    lines = iter(text.splitlines())
    return ((word, line.split()) for word, line in zip(lines, lines, strict=True))


def _phrases(file: gzip.GzipFile | IO[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Three lines each: how likely, which is not used, a phrase and its paraphrase."""
    lines = iter(cast(BufferedReader, file))
    return ((phrase.rstrip(b"\n"), other.rstrip(b"\n")) for _, phrase, other in zip(lines, lines, lines, strict=True))
