"""Frame → picture, as a player shows it: fields woven or not, colours of HDR, transparency, mirrors and turns.

Depth, matrix, range and size are one step of swscale. What that cannot do comes before it, at full size, where it
concerns few files, or after it, on few pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from fractions import Fraction
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import av
import numpy as np
import numpy.typing as npt
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from video_captioning import hdr
from video_captioning.aperture import Aperture
from video_captioning.errors import NoPictureError
from video_captioning.media import Limits, Video, check_size

if TYPE_CHECKING:
    from video_captioning.frames import Resize

Pixels = npt.NDArray[np.uint8]

_EXACT = Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.BITEXACT  # the same on every CPU
FILTERS = {"bilinear": Interpolation.BILINEAR | _EXACT, "bicubic": Interpolation.BICUBIC | _EXACT}
_MATRICES = {1, 4, 5, 6, 7, 9, 10}  # AVColorSpace values of YCbCr that swscale converts
_LONGEST_STRIP = 64  # a picture longer than this many times its width is squashed to that before a centre crop
_PARITIES = {2: "tff", 3: "bff", 4: "bff", 5: "tff"}  # AVFieldOrder, as a container states it
_EXIF = 31  # AVFrameSideDataType; PyAV has no name for it, and cannot list the side data of a frame that has it


class Orientation(NamedTuple):
    """How a frame is turned to be upright."""

    turned: bool = False
    """Rows become columns."""
    down: int = 1
    """Step through the rows: 1 or -1."""
    right: int = 1


class Shown(NamedTuple):
    """A frame and, where it is interlaced, those on screen before and after it."""

    frame: VideoFrame
    before: VideoFrame | None = None
    after: VideoFrame | None = None


class Painter:
    """The pictures of one clip, all of the same size where they are resized."""

    def __init__(self, video: Video, resize: Resize | None, limits: Limits) -> None:
        self.displayed = (0, 0)  # height and width of the first picture, as displayed
        self._path = video.path
        self._resize = resize
        self._limits = limits
        self._pixel_shape = float(video.stream.sample_aspect_ratio or 1)  # width by height of one pixel
        self._filter = FILTERS[resize.filter if resize else "bilinear"]
        self._reformatter = VideoReformatter()
        self._aperture = video.aperture()
        self._opacity = video.transparency()
        self._parity = _PARITIES.get(video.stream.codec_context.field_order, "auto")
        self._orientation: tuple[tuple[int, int, int], Orientation] | None = None

    def paint(self, shown: VideoFrame | Shown) -> Pixels:
        """uint8 RGB [height, width, 3]"""
        frame = shown.frame if isinstance(shown, Shown) else shown
        try:
            frame = cropped(deinterlaced(shown, self._parity) if isinstance(shown, Shown) else frame, self._aperture)
            turned, down, right = self._oriented(frame)
            size = (frame.height, max(1, round(frame.width * self._pixel_shape)))
            if self.displayed == (0, 0):
                check_size(self._path, size[1], size[0], self._limits)
                self.displayed = size[::-1] if turned else size
            picture = self._scale(frame, *self._scaled(size, turned))
        except av.FFmpegError as error:
            problem = f"its pixel format {frame.format.name} cannot be shown as RGB"
            raise NoPictureError(self._path, problem, "convert it to yuv420p first") from error
        if turned:
            picture = picture.transpose(1, 0, 2)
        picture = picture[::down, ::right]
        if self._resize and self._resize.mode == "crop":
            side = self._resize.size
            top, left = (picture.shape[0] - side) // 2, (picture.shape[1] - side) // 2
            picture = picture[top : top + side, left : left + side]
        return np.ascontiguousarray(picture, dtype=np.uint8)

    def _scale(self, frame: VideoFrame, height: int, width: int) -> Pixels:
        """uint8 RGB `[height, width, 3]`, not yet turned."""
        transfer, primaries = frame.color_trc, frame.color_primaries
        high = transfer in (hdr.PQ, hdr.HLG)
        if self._opacity is not None or frame.format.has_palette or any(c.is_alpha for c in frame.format.components):
            frame = self._over_white(frame)
        guess = Colorspace.ITU709 if frame.height > 576 or frame.width >= 1280 else Colorspace.ITU601  # as players do
        picture: npt.NDArray[Any] = self._reformatter.reformat(
            frame,
            width=width,
            height=height,
            format="rgb48le" if high else "rgb24",
            src_colorspace=None if frame.format.is_rgb or frame.colorspace in _MATRICES else guess,
            dst_color_range=ColorRange.JPEG,
            interpolation=self._filter,
            threads=1,
        ).to_ndarray()
        return hdr.to_sdr(picture, transfer, primaries) if high else picture

    def _over_white(self, frame: VideoFrame) -> VideoFrame:
        """A frame without transparency, as on a white page; blended before it is scaled, or edges would be dark."""
        picture = self._reformatter.reformat(frame, format="rgba", interpolation=self._filter, threads=1).to_ndarray()
        if self._opacity is not None and self._opacity.shape == picture.shape[:2]:
            picture[..., 3] = self._opacity
        colours, alpha = picture[..., :3].astype(np.uint32), picture[..., 3:].astype(np.uint32)
        blended = (colours * alpha + 255 * (255 - alpha) + 127) // 255
        return VideoFrame.from_ndarray(np.ascontiguousarray(blended, np.uint8), "rgb24")

    def _scaled(self, size: tuple[int, int], turned: bool) -> tuple[int, int]:
        """Height and width for swscale, before the picture is turned and cut."""
        if self._resize is None:
            return self.displayed[::-1] if turned else self.displayed
        if self._resize.mode == "squash":
            return self._resize.size, self._resize.size
        shorter = round(self._resize.size / self._resize.keep)
        scale = shorter / min(size)
        height, width = (min(round(side * scale), _LONGEST_STRIP * shorter) for side in size)
        return height, width

    def _oriented(self, frame: VideoFrame) -> Orientation:
        """That of a frame, read anew only where it can have changed: PyAV keeps a frame of which it was read."""
        key = (frame.rotation, frame.width, frame.height)
        if self._orientation is None or self._orientation[0] != key:
            self._orientation = key, orientation(frame)
        return self._orientation[1]


def orientation(frame: VideoFrame) -> Orientation:
    """What the display matrix of a frame says: a stream's, or that of EXIF."""
    try:
        data: Mapping[str, Any] = frame.side_data
    except ValueError:
        data = filtered([frame], f"sidedata=mode=delete:type={_EXIF}")[0].side_data
    matrix = data.get("DISPLAYMATRIX")
    if matrix is None:
        return Orientation()
    a, b, c, d = (int(value) for value in np.frombuffer(bytes(matrix), np.int32)[[0, 1, 3, 4]])
    # The place (x, y) goes to (a x + c y, b x + d y).
    turned = abs(b) > abs(a)
    x, y = (c, b) if turned else (a, d)
    return Orientation(turned, -1 if y < 0 else 1, -1 if x < 0 else 1)


def neighbours(frames: Iterable[tuple[float, VideoFrame | None]]) -> Iterator[tuple[float, Shown | None]]:
    """Each frame with those before and after it, as far as they are needed; last (end, None)."""
    before: VideoFrame | None = None
    for (time, frame), (_, after) in pairwise(chain(frames, [(0.0, None)])):
        if frame is None:
            yield time, None
        elif frame.interlaced_frame:
            yield time, Shown(frame, before, after)
            before = frame
        else:
            yield time, Shown(frame)
            before = None


def deinterlaced(shown: Shown, parity: str = "auto") -> VideoFrame:
    """The first field of an interlaced frame, completed from the second and the frames around it (bwdif).

    A frame alone stays as it is; without its flag, since swscale would scale each field by itself. `parity` is which
    field is shown first: tff, bff, or auto for what the frame says.
    """
    frame = shown.frame
    if not frame.interlaced_frame:
        return frame
    form = (frame.format.name, frame.width, frame.height)
    alike = [f if f and (f.format.name, f.width, f.height) == form else None for f in (shown.before, shown.after)]
    frames = [each for each in (alike[0], frame, alike[1]) if each]
    if len(frames) == 1:
        return filtered(frames, "setfield=prog")[0]
    return filtered(frames, f"bwdif=mode=send_frame:parity={parity}:deint=interlaced")[1 if alike[0] else 0]


def cropped(frame: VideoFrame, sides: Aperture) -> VideoFrame:
    """What is left of a frame without what is not to be shown; the whole frame where nothing would be."""
    width, height = frame.width - sides.left - sides.right, frame.height - sides.top - sides.bottom
    if not any(sides) or width < 1 or height < 1:
        return frame
    return filtered([frame], f"crop={width}:{height}:{sides.left}:{sides.top}:exact=1")[0]


def filtered(frames: Sequence[VideoFrame], description: str) -> list[VideoFrame]:
    """Frames of one size and format through a filter of FFmpeg, `name=options`."""
    graph, first = Graph(), frames[0]
    name, _, options = description.partition("=")
    source = graph.add_buffer(
        width=first.width, height=first.height, format=first.format, time_base=first.time_base or Fraction(1, 25)
    )
    graph.link_nodes(source, graph.add(name, options), graph.add("buffersink")).configure()
    for frame in frames:
        graph.vpush(frame)
    graph.vpush(None)
    made: list[VideoFrame] = []
    with suppress(EOFError, av.BlockingIOError):
        while True:
            made.append(graph.vpull())
    return made
