"""What part of its pictures a container says to show: Matroska's PixelCrop, the clean aperture of MP4 and QuickTime.

FFmpeg's command line obeys both; PyAV has no name for them, so the few bytes are read here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from fractions import Fraction
from io import BytesIO
from typing import BinaryIO, NamedTuple

_MOVIE = (b"moov",)
_SAMPLES = (b"mdia", b"minf", b"stbl", b"stsd")
_STSD_HEAD, _ENTRY_HEAD = 8, 78  # bytes before the first entry, and of a video entry before its boxes
_SEGMENT, _CLUSTER, _TRACKS, _TRACK, _TYPE, _VIDEO = 0x18538067, 0x1F43B675, 0x1654AE6B, 0xAE, 0x83, 0xE0
_CROPS = {0x54BB: "top", 0x54AA: "bottom", 0x54CC: "left", 0x54DD: "right"}  # RFC 9559, 5.1.4.1.28
_IS_VIDEO = 1


class Aperture(NamedTuple):
    """Pixels that are not shown on each side."""

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0


def read(file: BinaryIO, number: int) -> Aperture:
    """That of the video stream `number` (from 0) of a file; nothing is cut where the file does not say so.

    The file stands where it stood.
    """
    before = file.tell()
    try:
        file.seek(0)
        head = file.read(8)
        if head[4:] in (b"ftyp", b"moov", b"wide", b"mdat", b"free", b"skip"):
            return _mp4(file, number)
        return _matroska(file, number) if head[:4] == b"\x1a\x45\xdf\xa3" else Aperture()
    except (struct.error, ValueError, OverflowError, ZeroDivisionError):  # damaged
        return Aperture()
    finally:
        file.seek(before)


def _mp4(file: BinaryIO, number: int) -> Aperture:
    size = file.seek(0, 2)
    for start, end in _inside(file, [(0, size)], _MOVIE):
        video = [track for track in _inside(file, [(start, end)], (b"trak",)) if _is_video(file, track)]
        for begin, stop in _inside(file, video[number : number + 1], _SAMPLES):
            for _, entry, last in _boxes(file, begin + _STSD_HEAD, stop):
                file.seek(entry + 24)
                width, height = struct.unpack(">HH", file.read(4))
                for inner, _ in _inside(file, [(entry + _ENTRY_HEAD, last)], (b"clap",)):
                    file.seek(inner)
                    return _clean(width, height, struct.unpack(">IIIIiIiI", file.read(32)))
    return Aperture()


def _is_video(file: BinaryIO, track: tuple[int, int]) -> bool:
    for start, _ in _inside(file, [track], (b"mdia", b"hdlr")):
        file.seek(start + 8)
        return file.read(4) == b"vide"
    return False


def _clean(width: int, height: int, values: tuple[int, ...]) -> Aperture:
    """ISO/IEC 14496-12, 12.1.4: size, and where its centre lies from that of the picture, as fractions."""
    across, down, right, low = (Fraction(one, other) for one, other in zip(values[::2], values[1::2], strict=True))
    left, top = (width - across) / 2 + right, (height - down) / 2 + low
    sides = top, height - down - top, left, width - across - left
    return Aperture(*(max(0, int(side)) for side in sides)) if across > 0 and down > 0 else Aperture()


def _inside(file: BinaryIO, ranges: list[tuple[int, int]], path: tuple[bytes, ...]) -> Iterator[tuple[int, int]]:
    """Where the boxes at a path below some ranges begin and end."""
    for kind in path:
        ranges = [(start, end) for r in ranges for found, start, end in _boxes(file, *r) if found == kind]
    yield from ranges


def _boxes(file: BinaryIO, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind of each box, and where what is in it begins and ends."""
    while at + 8 <= end:
        file.seek(at)
        size, kind = struct.unpack(">I4s", file.read(8))
        head = 8
        if size == 1:
            size, head = struct.unpack(">Q", file.read(8))[0], 16
        size = size or end - at  # 0: to the end of the file
        if size < head:
            return
        yield kind, at + head, min(at + size, end)
        at += size


def _matroska(file: BinaryIO, number: int) -> Aperture:
    tracks = b""
    for kind, start, end in _elements(file, 0, file.seek(0, 2)):
        for inner, begin, stop in _elements(file, start, end) if kind == _SEGMENT else ():
            if inner == _CLUSTER:
                break
            if inner == _TRACKS:
                file.seek(begin)
                tracks = file.read(stop - begin)
                break
    found = []
    for _, start, end in _elements(BytesIO(tracks), 0, len(tracks)):
        fields = {kind: (begin, stop) for kind, begin, stop in _elements(BytesIO(tracks), start, end)}
        if _TYPE in fields and _VIDEO in fields and _number(tracks, fields[_TYPE]) == _IS_VIDEO:
            settings = _elements(BytesIO(tracks), *fields[_VIDEO])
            cut = {_CROPS[kind]: _number(tracks, (begin, stop)) for kind, begin, stop in settings if kind in _CROPS}
            found.append(Aperture(**cut))
    return found[number] if number < len(found) else Aperture()


def _elements(file: BinaryIO, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """EBML (RFC 8794): id of each element, and where what is in it begins and ends."""
    while at < end:
        kind, start = _variable(file, at, marker=True)
        size, start = _variable(file, start, marker=False)
        stop = end if size < 0 else min(start + size, end)
        yield kind, start, stop
        at = stop


def _variable(file: BinaryIO, at: int, *, marker: bool) -> tuple[int, int]:
    """An integer of variable length, and where it ends; -1 for the size that is not known."""
    file.seek(at)
    first = file.read(1)
    if not first or not first[0]:
        raise ValueError("not an EBML number")
    length = 9 - first[0].bit_length()
    value = int.from_bytes(first + file.read(length - 1), "big")
    if marker:
        return value, at + length
    value &= (1 << 7 * length) - 1
    return -1 if value == (1 << 7 * length) - 1 else value, at + length


def _number(data: bytes, place: tuple[int, int]) -> int:
    return int.from_bytes(data[slice(*place)], "big")
