"""A decoder that dies, hangs or runs out of memory costs its own file and nothing more."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import aclosing
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests import tiny
from tests.conftest import MakeClip
from video_captioning.errors import MediaError, MissingFileError, NoPictureError, NotMediaError, TooLargeError
from video_captioning.frames import Frames, Resize, Sampling, sample
from video_captioning.media import Limits
from video_captioning.scenes import segments
from video_captioning.serve.decoders import Decoded, Decoders, Job

SAMPLING, RESIZE = Sampling(frames=3), Resize(32)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory, make_clip: MakeClip) -> Path:
    return make_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", tiny.pictures(8), fps=4)


@pytest.fixture
def decoders(request: pytest.FixtureRequest) -> Iterator[Decoders]:
    """One, with the memory and the seconds that the test names."""
    memory, seconds = getattr(request, "param", (1_000_000_000, 60.0))
    before = active_children()
    made = Decoders(1, Limits(), memory, seconds)
    made.start()
    yield made
    made.stop()
    assert set(active_children()) <= set(before), "they have ended"


def decoded(decoders: Decoders, path: Any) -> Frames:
    [whole] = asyncio.run(taken(decoders, Job(path, SAMPLING, RESIZE, 1)))
    assert whole.segment is None
    return whole.frames


async def taken(decoders: Decoders, job: Job, most: int = 100) -> list[Decoded]:
    """What comes of a job, of which no more than `most` is taken."""
    found = []
    async with aclosing(decoders.decode(job)) as all_of_it:
        async for each in all_of_it:
            found.append(each)
            if len(found) == most:
                break
    return found


def process() -> int:
    """The decoder that was started last."""
    pid = max(active_children(), key=lambda child: child.pid or 0).pid
    assert pid
    return pid


def test_frames_and_errors_are_those_of_this_process(decoders: Decoders, clip: Path, tmp_path: Path) -> None:
    here, there = sample(clip, SAMPLING, RESIZE), decoded(decoders, clip)
    assert np.array_equal(there.pixels, here.pixels)
    assert np.array_equal(there.times, here.times)
    assert (there.info, there.warnings) == (here.info, here.warnings)
    (tmp_path / "text.mp4").write_text("no video")
    for path, kind in ((tmp_path / "text.mp4", NotMediaError), (tmp_path / "none.mp4", MissingFileError)):
        with pytest.raises(kind) as there_raised:
            decoded(decoders, path)
        with pytest.raises(MediaError) as here_raised:
            sample(path, SAMPLING, RESIZE)
        assert str(there_raised.value) == str(here_raised.value)
    assert decoders.restarts == 0


class Deadly:
    """Ends the process that receives it."""

    def __fspath__(self) -> str:
        return "deadly.mp4"

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (3,)


def test_one_that_dies_is_replaced(decoders: Decoders, clip: Path) -> None:
    with pytest.raises(NoPictureError, match="it brings the decoder down"):
        decoded(decoders, Deadly())
    assert decoders.restarts == 1
    assert len(decoded(decoders, clip).times) == 3


def test_one_that_was_killed_while_idle_is_no_fault_of_the_next_file(decoders: Decoders, clip: Path) -> None:
    child = next(child for child in active_children() if child.pid == process())
    child.kill()
    child.join()
    assert len(decoded(decoders, clip).times) == 3
    assert decoders.restarts == 0


@pytest.mark.parametrize("decoders", [(1_000_000_000, 1.0)], indirect=True)
def test_one_that_hangs_is_replaced(decoders: Decoders, clip: Path) -> None:
    os.kill(process(), signal.SIGSTOP)
    with pytest.raises(NoPictureError, match="longer than 1 s"):
        decoded(decoders, clip)
    assert decoders.restarts == 1


@pytest.mark.parametrize("decoders", [(150_000_000, 60.0)], indirect=True)
def test_memory_is_bounded(decoders: Decoders, clip: Path, tmp_path: Path) -> None:
    Image.new("RGB", (9000, 9000)).save(tmp_path / "large.png", compress_level=1)  # 243 MB
    with pytest.raises((NoPictureError, TooLargeError)):
        decoded(decoders, tmp_path / "large.png")
    assert len(decoded(decoders, clip).times) == 3


def test_signals_are_for_the_service(decoders: Decoders, clip: Path) -> None:
    for each in (signal.SIGINT, signal.SIGTERM):
        os.kill(process(), each)
    assert len(decoded(decoders, clip).times) == 3
    assert decoders.restarts == 0


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory, make_clip: MakeClip) -> Path:
    """Forty scenes of three seconds."""
    pictures = [picture for picture in tiny.pictures(40) for _ in range(12)]
    return make_clip(tmp_path_factory.mktemp("films") / "film.mp4", pictures, fps=4)


def test_segments_are_those_of_this_process(decoders: Decoders, film: Path, clip: Path) -> None:
    here = list(segments(film, SAMPLING, RESIZE))
    there = asyncio.run(taken(decoders, Job(film, SAMPLING, RESIZE, 1, segments=True)))
    assert [each.segment for each in there] == [(each.start, each.end) for each in here]
    assert all(np.array_equal(a.frames.pixels, b.frames.pixels) for a, b in zip(there, here, strict=True))
    assert len(decoded(decoders, clip).times) == 3
    assert decoders.restarts == 0


def test_who_leaves_in_the_middle_of_a_film_leaves_a_decoder_that_works(
    decoders: Decoders, film: Path, clip: Path
) -> None:
    for most in (1, 3, 39):
        assert len(asyncio.run(taken(decoders, Job(film, SAMPLING, RESIZE, 1, segments=True), most))) == most
        assert len(decoded(decoders, clip).times) == 3
    assert decoders.restarts == 0
