"""Reading a media file: what may be opened, which stream is the picture, its frames in time, what was damaged.

FFmpeg is given an open file and nothing else: no name to interpret (`concat:`, `%03d`, addresses) and no protocol to
open a second file with, so that a file can never make it read another one or reach the network.
"""

from __future__ import annotations

import math
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

import av
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from video_captioning import aperture
from video_captioning.errors import (
    MediaError,
    MissingFileError,
    NoPictureError,
    NotMediaError,
    PlaylistError,
    TooLargeError,
)
from video_captioning.parallel import available_cores


class Stamped(Protocol):
    """A frame or a packet."""

    @property
    def pts(self) -> int | None: ...
    @property
    def dts(self) -> int | None: ...
    @property
    def duration(self) -> int | None: ...


Timed = TypeVar("Timed", bound=Stamped)

EXTENSIONS = frozenset(
    {".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".h264", ".hevc", ".ivf", ".m2ts", ".m2v", ".m4v"}
    | {".mkv", ".mov", ".mp4", ".mpe", ".mpeg", ".mpg", ".mts", ".mxf", ".ogm", ".ogv", ".qt", ".rm", ".rmvb", ".ts"}
    | {".vob", ".webm", ".wmv", ".y4m"}
    | {".apng", ".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
)
"""File name endings (lower case) that a walk through a folder takes for media; a file named outright may have any."""

MOST_THREADS = 16
"""Of a decoder: each more takes memory for frames of its own, and saves no time."""

_HEAD = 65536  # bytes read to explain a file
_RESTART_BACK = 1.0  # seconds; a clock that goes back further has started anew
_RESTART_AHEAD = 10.0  # seconds; so has one that jumps further ahead, in a format that allows it
_CLOCK_RATE = 1000  # no frame rate but the milliseconds of a Matroska file
_TS_DISCONT = 0x0200  # FFmpeg's AVFMT_TS_DISCONT: the format's clock may start anew
_PICTURE_BRANDS = {"avif", "heic", "heix", "mif1"}
_GRAY = {"gray", "gray10le", "gray12le"}
_DOLBY_VISION = {"dvh1", "dvhe", "dva1", "dvav", "dav1"}  # of a stream that only a Dolby Vision player can show
_STATED_CURVES = range(3, 19)  # AVColorTransferCharacteristic: known, and not unspecified
_INDEXED = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"}  # FFmpeg's names of formats
_WITHOUT_PTS = {"avi", "h264", "hevc", "m4v", "mpegvideo"}
_GIF_SHORTEST, _GIF_USUAL = 2, 10  # 1/100 s; what browsers make of a shorter delay
_PLAYLISTS = {  # how a file begins that only names others → what it is called
    b"#extm3u": "HLS playlist",
    b"ffconcat": "concat list",
    b"[playlist]": "PLS playlist",
    b"[reference]": "ASX playlist",
    b"v=0": "SDP session description",
}
_XML_PLAYLISTS = {
    b"<mpd": "DASH manifest",
    b"<smoothstreamingmedia": "Smooth Streaming manifest",
    b"<smil": "SMIL playlist",
    b"<asx": "ASX playlist",
    b"<playlist": "XSPF playlist",
}
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_FILE_KINDS = {
    stat.S_IFDIR: ("is a folder", "name the files in it"),
    stat.S_IFIFO: ("is a named pipe", "save what comes through it to a file first"),
    stat.S_IFSOCK: ("is a socket", "save what comes through it to a file first"),
    stat.S_IFCHR: ("is a device", "record from it to a file first"),
    stat.S_IFBLK: ("is a device", "copy the file from it first"),
}


@dataclass(frozen=True)
class Limits:
    """The largest picture that is decoded, refused before memory is taken for it, and the longest clip."""

    side: int = 16384  # pixels, width or height
    pixels: int = 100_000_000  # width by height
    duration: float = math.inf  # seconds, whether the header states them or the frames last so long


@dataclass(frozen=True)
class VideoInfo:
    """What is known of a clip once it has been sampled."""

    path: Path
    duration: float | None  # seconds; None for a still image
    width: int  # pixels, as displayed: after rotation and with square pixels
    height: int
    fps: float | None  # average frames a second as the file states it; None where it does not
    codec: str  # FFmpeg's name: h264, hevc, vp9, gif, mjpeg, …


class _Reader:
    """The three methods FFmpeg needs of a file, without its name: FFmpeg would take hints from that."""

    def __init__(self, file: BinaryIO) -> None:
        self.read, self.seek, self.tell = file.read, file.seek, file.tell


def _open_container(file: BinaryIO, limits: Limits) -> InputContainer:
    """With no way to another file or address. Raises av.FFmpegError."""
    options = {"protocol_whitelist": "none", "max_pixels": str(limits.pixels)}
    return av.open(_Reader(file), "r", metadata_errors="ignore", options=options)


@contextmanager
def open_video(path: Path, limits: Limits, threads: int | None = None) -> Iterator[Video]:
    """Open `path` and choose its video stream; no frame has been decoded yet.

    Raises MissingFileError, NotMediaError, NoPictureError, TooLargeError or PlaylistError.
    """
    with _open_file(path) as file:
        head = file.read(_HEAD)
        file.seek(0)
        _refuse_playlist(path, head)
        clock = _gif_clock(file, limits) if head.startswith(b"GIF8") else {}
        try:
            container = _open_container(file, limits)
        except av.FFmpegError as error:
            raise _unknown_content(path, head) from error
        with container:
            if not container.streams:
                raise _unknown_content(path, head)
            stream = _choose_stream(path, container)
            codec = stream.codec_context
            check_size(path, codec.width, codec.height, limits)
            codec.options = {"max_pixels": str(limits.pixels)}
            codec.thread_type = "AUTO"
            codec.thread_count = min(threads or available_cores(), MOST_THREADS)
            video = Video(path, container, stream, limits, clock)
            video.check_duration(video.duration or 0.0)
            yield video


class Video:
    """One pass through the video stream of an open file.

    Times are seconds from where the file starts, as players and `ffmpeg -ss` count them: the sound may start before the
    picture. They are made strictly increasing: a clock that starts anew goes on where it was, and frames without a time
    follow at the file's frame rate.
    """

    def __init__(
        self, path: Path, container: InputContainer, stream: VideoStream, limits: Limits, clock: Mapping[int, int]
    ) -> None:
        """A stream to be read.

        Args:
            limits: beyond which reading ends with TooLargeError.
            clock: what a timestamp of the stream, or its end, becomes, if anything, in the same units.
        """
        self.path = path
        self.stream = stream
        self.packets = 0  # of the stream, read so far
        self.damaged = 0  # packets that could not be read or decoded
        self.encrypted = 0  # packets left out because they are encrypted
        self.end: float | None = None  # seconds at which the last frame leaves the screen; known after a whole pass
        self._limits = limits
        self._clock = clock
        self._container = container
        self._codec = stream.codec_context
        self._error: av.FFmpegError | None = None  # the last one
        self._time_base = stream.time_base or Fraction(1, 25)
        self._step = 1 / (self.fps or float(stream.guessed_rate or 25))
        self._last_stamp: int | None = None  # where the last packet ends, in units of the time base
        self._origin = stream.start_time
        if container.start_time is not None and stream.start_time is not None:
            self._origin = min(round(Fraction(container.start_time, av.time_base) / self._time_base), stream.start_time)
        self._clocks = {stream.index: float(stream.time_base or 0) for stream in container.streams}
        self._file_end = 0.0  # seconds reached in any of the file's streams, by the file's own clock

    @property
    def begin(self) -> float:
        """Seconds at which the header says that the first frame is shown."""
        if self.stream.start_time is None or self._origin is None:
            return 0.0
        return float((self.stream.start_time - self._origin) * self._time_base)

    @property
    def duration(self) -> float | None:
        """Seconds at which the header says that the last frame leaves the screen, or None."""
        if self._clock:
            return float(max(self._clock.values()) * self._time_base)
        if self.stream.duration and self.stream.duration > 0:
            return self.begin + float(self.stream.duration * self._time_base)
        duration = self._container.duration
        return duration / av.time_base if duration and duration > 0 else None

    @property
    def has_index(self) -> bool:
        """Does the header list each frame, so that its duration can be trusted?"""
        return bool(self.stream.frames and self.stream.duration)

    @property
    def guesses_order(self) -> bool:
        """Are the times of frames on screen FFmpeg's guess, since the format states only those of decoding?"""
        return self._container.format.name in _WITHOUT_PTS

    @property
    def fps(self) -> float | None:
        """Average frames a second as the file states them; None where that is only the unit of its clock."""
        rate = float(self.stream.average_rate or 0)
        return rate if 0 < rate < _CLOCK_RATE else None

    def check_duration(self, seconds: float) -> None:
        """Raises TooLargeError where a clip that lasts so long is beyond the limit."""
        if seconds > self._limits.duration:
            problem = f"it lasts {seconds:.0f} s or more, the limit is {self._limits.duration:g} s"
            raise TooLargeError(self.path, problem, "cut it into shorter clips first")

    @property
    def seeks(self) -> bool:
        """Does the format have an index, so that a seek is never late?"""
        return self._container.format.name in _INDEXED and self._origin is not None

    def aperture(self) -> aperture.Aperture:
        """What of the pictures the container says not to show."""
        if self._container.format.name not in _INDEXED:
            return aperture.Aperture()
        with self.path.open("rb") as file:
            return aperture.read(file, self._container.streams.video.index(self.stream))

    def transparency(self) -> npt.NDArray[np.uint8] | None:
        """Opacity `[height, width]` of a still picture that keeps it in a stream of its own, as AVIF does.

        None where there is no such stream, or it is damaged.
        """
        if self._container.metadata.get("major_brand") not in _PICTURE_BRANDS:
            return None
        size = self._codec.width, self._codec.height
        for place, stream in enumerate(self._container.streams.video):
            codec = stream.codec_context
            if stream is not self.stream and codec and codec.pix_fmt in _GRAY and (codec.width, codec.height) == size:
                with (
                    suppress(av.FFmpegError),
                    self.path.open("rb") as file,
                    _open_container(file, self._limits) as again,
                ):
                    frame = next(again.decode(again.streams.video[place]), None)
                    return frame.to_ndarray(format="gray").astype(np.uint8) if frame else None
        return None

    def seek(self, time: float) -> None:
        """Go on from the last key frame before `time` (seconds); from the start where the format has no index."""
        if time and self.seeks and self._origin is not None:
            self.seek_stamp(self._origin + int(time / self._time_base))

    def seek_stamp(self, stamp: int) -> None:
        """Go on from the last key frame before a timestamp of the stream."""
        with suppress(av.FFmpegError, OverflowError):
            self._container.seek(stamp, stream=self.stream)

    def frames(self) -> Iterator[tuple[float, VideoFrame | None]]:
        """Each frame with its time, and last (end, None)."""
        return self.timed(self._decoded())

    def key_packets(self) -> Iterator[tuple[float, Packet[Any] | None]]:
        """Each key frame, not yet decoded, with its time, and last (end, None)."""
        return self.timed(packet for packet in self.read() if packet.is_keyframe and not packet.is_discard)

    def decode_alone(self, packet: Packet[Any]) -> list[VideoFrame]:
        """The picture of one key frame, without those around it."""
        frames = self.decode(packet) + self.decode(None)
        self._codec.flush_buffers()
        return frames[:1]

    def warnings(self) -> list[str]:
        """What could not be read, in short phrases."""
        phrases = []
        for count, kind in ((self.damaged, "damaged"), (self.encrypted, "encrypted")):
            if count:
                phrases.append(f"{count} {kind} packet{' was' if count == 1 else 's were'} skipped")
        if self._codec.codec_tag in _DOLBY_VISION and self._codec.color_trc not in _STATED_CURVES:
            phrases.append("its Dolby Vision colours are shown without conversion")
        stated = 0 if self._clock else (self._container.duration or 0) / av.time_base
        if self.end is not None and self._file_end < 0.95 * stated - 0.25:
            phrases.append(f"the file ends early: {max(self._file_end, 0):.1f} of {stated:.1f} s could be read")
        return phrases

    def no_picture(self) -> MediaError:
        """Why a whole pass gave no frame."""
        if self.encrypted:
            return NoPictureError(self.path, "its video is encrypted", "name a copy without protection")
        if not self.packets:
            problem = "it holds headers but no frames, as an init segment or a recording stopped at once"
            return NoPictureError(self.path, problem, "record or download it again")
        if self.stream.codec.name == "webp" and _is_animated_webp(self.path):
            problem = "it is an animated WebP, which FFmpeg does not support"
            return NoPictureError(self.path, problem, "convert it to GIF, APNG or MP4 first")
        if not self._codec.width and isinstance(self._error, av.ArgumentError):  # how decoders refuse `max_pixels`
            return TooLargeError(self.path, "its picture is larger than the limit", "make it smaller first")
        problem = f"none of its {self.packets} {self._codec.name} packets could be decoded"
        return NoPictureError(self.path, problem, "download or export it again")

    def read(self) -> Iterator[Packet[Any]]:
        """The packets of the stream; reading goes on behind a damaged place as long as that gives more."""
        progress = True
        while progress:
            progress = False
            try:
                for packet in self._container.demux():
                    if packet.size and self._wanted(packet):  # an empty one would end the decoder's work
                        progress = True
                        yield packet
                return
            except av.FFmpegError as error:
                self._failed(error)

    def _wanted(self, packet: Packet[Any]) -> bool:
        """Notes how far any stream reaches; then, is this a packet of ours that can be decoded?"""
        time = packet.pts if packet.pts is not None else packet.dts or 0
        end = time + (packet.duration or 0)
        self._file_end = max(self._file_end, end * self._clocks[packet.stream_index])
        if packet.stream_index != self.stream.index:
            return False
        self.packets += 1
        if packet.has_sidedata("encryption_info"):
            self.encrypted += 1
            return False
        if not packet.is_discard:
            self._last_stamp = max(self._last_stamp or 0, end)
        return True

    def _decoded(self) -> Iterator[VideoFrame]:
        for packet in self.read():
            yield from self.decode(packet)
        yield from self.decode(None)

    def decode(self, packet: Packet[Any] | None) -> list[VideoFrame]:
        """The frames that a packet completes, or at last, with None, those that are left."""
        try:
            return self._codec.decode(packet)
        except av.FFmpegError as error:
            self._failed(error)
            return []

    def _failed(self, error: av.FFmpegError) -> None:
        self.damaged += 1
        self._error = error

    def timed(self, items: Iterable[Timed]) -> Iterator[tuple[float, Timed | None]]:
        """Each item, in the order on screen, with its time, and last (end, None)."""
        origin = self._origin
        restarts = bool(self._container.format.flags & _TS_DISCONT)
        shift, time, end = 0.0, -math.inf, 0.0
        for stamp, item in _stamped(items):
            last = time
            stamp = self._clock.get(stamp, stamp) if stamp is not None else None
            if stamp is None:
                time = end
            else:
                if origin is None or last < 0:  # the first frame is at 0 or later
                    origin = stamp if origin is None else min(origin, stamp)
                time = float((stamp - origin) * self._time_base) + shift
            ahead = time - last
            if ahead < -_RESTART_BACK or (restarts and _RESTART_AHEAD < ahead < math.inf):
                shift += end - time
                time = end
            elif ahead <= 0:
                time = last + self._step / 2
            self.check_duration(time)
            duration = item.duration and (_gif_delay(item.duration) if self._clock else item.duration)
            end = time + (float(duration * self._time_base) if duration else self._step)
            yield time, item
        if origin is not None and self._last_stamp is not None:  # frames that were not asked for or not decoded
            reach = float((self._clock.get(self._last_stamp, self._last_stamp) - origin) * self._time_base)
            end = max(end, min(reach, self.duration or reach))
        self.end = end
        yield end, None


def _is_animated_webp(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(21)
    return head[8:16] == b"WEBPVP8X" and bool(head[20] & 2)


def _gif_clock(file: BinaryIO, limits: Limits) -> dict[int, int]:
    """What browsers make of the timestamps of a GIF and of its end, in 1/100 s: too short a delay becomes 10."""
    clock, end, shown = {}, 0, 0
    with suppress(av.FFmpegError, IndexError), _open_container(file, limits) as container:
        for packet in container.demux(video=0):
            if packet.size and packet.pts is not None:
                clock[packet.pts] = shown
                end, shown = packet.pts + (packet.duration or 0), shown + _gif_delay(packet.duration or 0)
    if clock:
        clock[end] = shown
    file.seek(0)
    return clock


def _gif_delay(delay: int) -> int:
    return delay if delay >= _GIF_SHORTEST else _GIF_USUAL


def _stamped(items: Iterable[Timed]) -> Iterator[tuple[int | None, Timed]]:
    """Each item with its pts, or with its dts once that has gone back less often (FFmpeg's guess_correct_pts).

    Some AVI files give their frames in the right order but with the pts of their neighbours.
    """
    last_pts = last_dts = -math.inf
    faults = 0  # of pts beyond those of dts
    for item in items:
        if item.dts is not None:
            faults -= item.dts <= last_dts
            last_dts = item.dts
        if item.pts is not None:
            faults += item.pts <= last_pts
            last_pts = item.pts
        use_pts = item.pts is not None and (faults <= 0 or item.dts is None)
        yield (item.pts if use_pts else item.dts), item


def check_size(path: Path, width: int, height: int, limits: Limits) -> None:
    """Raises TooLargeError where a picture of `width` by `height` pixels is beyond `limits`."""
    if max(width, height) > limits.side or width * height > limits.pixels:
        allowed = f"{limits.side} pixels a side or {limits.pixels / 1e6:g} megapixels"
        raise TooLargeError(path, f"pictures of {width}x{height} are larger than {allowed}", "make it smaller first")


def _open_file(path: Path) -> BinaryIO:
    """A regular file, opened; opening a pipe or a device could wait for ever."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise NotMediaError(path, *_FILE_KINDS.get(stat.S_IFMT(status.st_mode), ("is no file", "name a file")))
        if status.st_size == 0:
            raise NotMediaError(path, "the file is empty", "copy or download it again")
        return path.open("rb")
    except FileNotFoundError as error:
        raise MissingFileError(path, "there is no such file", "check the name") from error
    except PermissionError as error:
        raise MissingFileError(path, "no permission to read it", "change its mode or owner") from error
    except (OSError, ValueError) as error:  # a name too long, a loop of links, a NUL in the name, a broken disk
        reason = getattr(error, "strerror", None) or str(error)
        raise MissingFileError(path, f"it cannot be opened ({reason})", "check the name and the disk") from error


def _refuse_playlist(path: Path, head: bytes) -> None:
    text = head.removeprefix(_BYTE_ORDER_MARK).lstrip().lower()
    kinds = [kind for start, kind in _PLAYLISTS.items() if text.startswith(start)]
    if text.startswith(b"<"):
        kinds += [kind for tag, kind in _XML_PLAYLISTS.items() if tag in text]
    if kinds:
        raise PlaylistError(
            path, f"is a playlist ({kinds[0]}): it only names other files or addresses", "name the media itself"
        )


def _unknown_content(path: Path, head: bytes) -> NoPictureError | NotMediaError:
    box = head[4:8]  # the type of an MP4 or QuickTime file's first box
    if box in (b"moof", b"styp", b"sidx"):
        return NoPictureError(path, "is a fragment without its init segment", "join the two: cat init.mp4 fragment.m4s")
    if box == b"ftyp" and (b"encv" in head or b"pssh" in head):
        return NoPictureError(path, "its video is encrypted", "name a copy without protection")
    if box in (b"ftyp", b"mdat", b"free", b"skip", b"wide"):
        problem = "its index (the moov box) is missing or damaged, as in a recording or download that was cut short"
        return NoPictureError(path, problem, "record or download it again")
    return NotMediaError(path, "holds nothing that FFmpeg knows as video or picture", "check that it is a media file")


def _choose_stream(path: Path, container: InputContainer) -> VideoStream:
    """The stream that players show: FFmpeg's best one that is neither a cover picture nor a tile of another."""
    not_shown = Disposition.attached_pic | Disposition.dependent
    streams = [stream for stream in container.streams.video if not stream.disposition & not_shown]
    if not streams:
        others = sorted({stream.type for stream in container.streams} - {"video"})
        problem = f"{' and '.join(others)} only" if others else "only covers or tiles of another picture"
        cover = " with a cover picture" if others and container.streams.video else ""
        raise NoPictureError(path, f"there is no video in it: {problem}{cover}", "name a file with a picture")
    best = container.streams.best("video")
    stream = next((stream for stream in streams if stream is best), streams[0])
    if stream.codec_context is None:  # PyAV's word for "no decoder"
        raise NoPictureError(path, "FFmpeg has no decoder for its video", "convert it to H.264 first")
    return stream
