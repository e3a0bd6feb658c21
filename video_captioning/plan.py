"""Decode only what is looked at: which packets a decoder must be given for a few frames of a clip.

A first pass reads all packets and decodes none. Their timestamps tell which frames a full decode would show, and when.
A second pass decodes, for each wanted frame, from the last packet where decoding can begin, up to the frame's own
packet. On the way there, frames that no other refers to are left out.

A plan promises the very frames of a full decode. Where that cannot be known, or turns out wrong, it raises PlanError,
and every frame is decoded.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import dropwhile, islice, pairwise
from typing import Any, NamedTuple, TypeVar

import numpy as np
from av.packet import Packet
from av.video.frame import VideoFrame

from video_captioning import nal
from video_captioning.media import Video

Kept = TypeVar("Kept")

ALONE = frozenset({"mjpeg", "prores", "dnxhd", "huffyuv", "ffvhuff", "utvideo", "rawvideo", "dvvideo"})
"""Codecs whose frames refer to no other."""
GROUPS = frozenset({"h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4", "vp8", "vp9", "av1"})
"""Codecs of which is known where decoding can begin."""
SKIPPING = frozenset({"h264", "mpeg1video", "mpeg2video", "mpeg4"})
"""Those of which a decoder can leave out frames that no other refers to, whatever the stream."""

UNKNOWN = -(2**63)  # for a timestamp
FAR = 500  # packets; reading over fewer is faster than a seek


class PlanError(Exception):
    """Why a plan cannot promise the frames of a full decode."""


class Coded(NamedTuple):
    """A packet that becomes a frame on screen."""

    pts: int
    dts: int
    """That of the frame: it leaves the decoder in the order on screen."""
    duration: int
    number: int
    """In decoding order."""


class Plan:
    """What the packets of a clip's stream say, in decoding order."""

    def __init__(self, video: Video) -> None:
        """Reads the whole file. Raises PlanError."""
        self._video = video
        self._pts, self._dts, self._durations = array("q"), array("q"), array("q")
        self._hidden = bytearray()
        self._entries: list[int] = []
        codec, header = video.stream.codec.canonical_name, bytes(video.stream.codec_context.extradata or b"")
        begins = nal.entry_test(codec, header)
        refers = nal.reference_test(codec, header) if video.guesses_order else None
        guessed_wrong = False
        for number, packet in enumerate(video.read()):
            self._note(packet)
            if refers and refers(packet) == (packet.pts == packet.dts):  # it shows B frames at once
                guessed_wrong = True
            if packet.is_keyframe and begins(packet):
                self._entries.append(number)
        if video.damaged or video.encrypted:
            raise PlanError("packets are damaged or encrypted")
        if not self._pts or self._entries[:1] != [0] or min(self._pts) < self._pts[0]:
            raise PlanError("the stream does not begin where decoding can begin")
        if any(self._pts[one] >= self._pts[following] for one, following in pairwise(self._entries)):
            raise PlanError("the clock goes back")
        if len(set(self._pts)) < len(self._pts):
            raise PlanError("two packets have the same timestamp")
        if guessed_wrong and self._pts != self._dts:
            raise PlanError("its format does not state the order of the frames on screen, and FFmpeg's guess is wrong")

    def _note(self, packet: Packet[Any]) -> None:
        if packet.pts is None:
            raise PlanError("a packet has no timestamp")
        if packet.is_corrupt:
            raise PlanError("a packet is marked as damaged")
        dts = UNKNOWN if packet.dts is None else packet.dts  # Matroska has none
        if self._dts and UNKNOWN not in (dts, self._dts[-1]) and dts <= self._dts[-1]:
            raise PlanError("the clock goes back")
        self._pts.append(packet.pts)
        self._dts.append(dts)
        self._durations.append(packet.duration or 0)
        self._hidden.append(packet.is_discard)

    def shown(self) -> Iterator[tuple[float, Coded | None]]:
        """Each frame with its time, and last (end, None), as `Video.frames` gives them."""
        order = np.argsort(np.frombuffer(self._pts, np.int64)).tolist()
        return self._video.timed(
            Coded(self._pts[n], self._pts[n], self._durations[n], n) for n in order if not self._hidden[n]
        )

    def decode(
        self, video: Video, wanted: Sequence[tuple[float, int]], keep: Callable[[VideoFrame], Kept]
    ) -> list[tuple[float, Kept]]:
        """What is kept of frames.

        Args:
            video: the same file, opened anew.
            wanted: time and number of each frame, in the order on screen.

        Raises PlanError where the file is not what it seemed to be.
        """
        numbers = {number for _, number in wanted}
        stamps = {self._pts[number] for number in numbers}
        kept: dict[int, Kept] = {}
        for frame in self._frames(video, numbers):
            if frame.pts in stamps:
                kept[frame.pts] = keep(frame)
        if not kept or len(kept) < len(stamps):
            raise PlanError("a frame is missing")
        return [(time, kept[self._pts[number]]) for time, number in wanted]

    def _frames(self, video: Video, wanted: Collection[int]) -> Iterator[VideoFrame]:
        """The frames of the packets `wanted`, and others that come with them."""
        codec = video.stream.codec_context
        skips = video.stream.codec.canonical_name in SKIPPING
        packets, read = video.read(), 0
        for first, last in self._stretches(wanted):
            if video.seeks and first - read > FAR:
                video.seek_stamp(self._pts[first])
                packets = video.read()
            stretch = islice(_since(packets, self._pts[first]), last + 1 - first)
            for number, packet in enumerate(stretch, first):
                if packet.pts != self._pts[number]:
                    raise PlanError("a packet has another timestamp than before")
                if skips:
                    codec.skip_frame = "DEFAULT" if number in wanted else "NONREF"
                yield from self._checked(video, packet, self._pts[first])
            read = last + 1
            yield from self._checked(video, None, self._pts[first])
            codec.flush_buffers()

    def _checked(self, video: Video, packet: Packet[Any] | None, entry: int) -> Iterator[VideoFrame]:
        for frame in video.decode(packet):
            if frame.is_corrupt:
                raise PlanError("a frame is damaged")
            if frame.interlaced_frame:
                raise PlanError("it is interlaced: a frame needs its neighbours")
            if frame.pts == entry and not frame.key_frame:
                raise PlanError("a packet only claims to be a key frame")
            yield frame
        if video.damaged:
            raise PlanError("a packet is damaged")

    def _stretches(self, wanted: Collection[int]) -> list[tuple[int, int]]:
        """The numbers of the first and last packet of each stretch that must be decoded, in order."""
        found: list[tuple[int, int]] = []
        for number in sorted(wanted):
            first = self._entry(number)
            while found and first <= found[-1][1]:
                first = min(first, found.pop()[0])
            found.append((first, number))
        return found

    def _entry(self, number: int) -> int:
        """The last packet from which on a frame can be decoded.

        A picture that is shown before the key frame that precedes it may refer to what is before that: to pictures
        since an earlier key frame that are shown after that one.
        """
        place = bisect_right(self._entries, number) - 1
        entry = self._entries[place]
        while place and self._pts[number] < self._pts[entry]:
            place, number = place - 1, entry - 1
            entry = self._entries[place]
        return entry


def _since(packets: Iterable[Packet[Any]], stamp: int) -> Iterator[Packet[Any]]:
    """Packets from the one with a timestamp on."""
    return dropwhile(lambda packet: packet.pts != stamp, packets)


def of(video: Video) -> Plan | None:
    """The plan of a clip, or nothing, with nothing read, where its codec has none. Raises PlanError."""
    return Plan(video) if video.stream.codec.canonical_name in ALONE | GROUPS else None
