"""What the bytes of packets say beyond the container: where decoding can begin, what is referred to.

A container marks more as key frames than a decoder can begin at: an I picture in the middle of an open group, or the
first picture of an intra refresh.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from typing import Any

from av.packet import Packet

Test = Callable[["Packet[Any]"], bool]

_START = b"\x00\x00\x01"
_H264_SLICES, _H264_IDR, _H264_SPS = range(1, 6), 5, 7  # nal_unit_type: ISO/IEC 14496-10, table 7-1
_HEVC_SLICES, _HEVC_RANDOM_ACCESS, _HEVC_SPS = range(32), range(16, 22), 33  # ISO/IEC 23008-2, table 7-1
_MPEG2_SEQUENCE = _START + b"\xb3"
_MPEG4_PICTURE = _START + b"\xb6"
_MPEG4_B = set(range(0x80, 0xC0))  # vop_coding_type is in the next two bits: I, P, B, S (ISO/IEC 14496-2, 6.3.5)


def entry_test(codec: str, header: bytes) -> Test:
    """Is a packet that is marked as a key frame one where decoding can begin?

    Args:
        codec: FFmpeg's name.
        header: what the container holds beside the packets (`extradata`).
    """
    length = _length_bytes(codec, header)
    if codec == "h264":
        return lambda packet: _begins(packet, length, lambda first: first & 31, _H264_SLICES, {_H264_IDR}, _H264_SPS)
    if codec == "hevc":
        return lambda packet: _begins(
            packet, length, lambda first: first >> 1 & 63, _HEVC_SLICES, _HEVC_RANDOM_ACCESS, _HEVC_SPS
        )
    if codec in ("mpeg1video", "mpeg2video") and _MPEG2_SEQUENCE not in header:
        return lambda packet: _MPEG2_SEQUENCE in bytes(packet)[:512]
    return lambda packet: True


def reference_test(codec: str, header: bytes) -> Test:
    """May other frames refer to that of a packet? Yes, where that is not known."""
    if codec == "h264":
        length = _length_bytes(codec, header)
        return lambda packet: any(
            first >> 5 & 3 for first in _units(packet, length) if first & 31 in _H264_SLICES
        )  # nal_ref_idc
    if codec == "mpeg4":
        return lambda packet: not set(bytes(packet).partition(_MPEG4_PICTURE)[2][:1]) & _MPEG4_B
    return lambda packet: True


def _length_bytes(codec: str, header: bytes) -> int:
    """Bytes that state the length of a NAL unit; 0 where units begin with a start code."""
    place = {"h264": 4, "hevc": 21}.get(codec, len(header))
    return (header[place] & 3) + 1 if header[:1] == b"\x01" and len(header) > place else 0


def _begins(
    packet: Packet[Any],
    length: int,
    kind: Callable[[int], int],
    slices: range,
    entries: Container[int],
    parameters: int,
) -> bool:
    complete = bool(length)  # the parameters are in the header, or must be in the packet itself
    for first in _units(packet, length):
        if kind(first) in slices:
            return complete and kind(first) in entries
        complete |= kind(first) == parameters
    return False


def _units(packet: Packet[Any], length: int) -> Iterator[int]:
    """The first byte of each NAL unit."""
    data = bytes(packet)
    at = 0
    while length and at + length < len(data):
        size = int.from_bytes(data[at : at + length], "big")
        at += length
        if size and at < len(data):
            yield data[at]
        at += size
    while not length and 0 <= (at := data.find(_START, at)) < len(data) - len(_START):
        at += len(_START)
        yield data[at]
