"""Decoding in processes of their own: a file that crashes, fills or outlasts FFmpeg costs a process, not the service.

The pools of the standard library end as a whole when one of their processes dies, so each process here has a pipe of
its own and is replaced alone.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import resource
import signal
import sys
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from queue import SimpleQueue
from threading import Semaphore
from time import perf_counter

from video_captioning.errors import MediaError, NoPictureError, TooLargeError
from video_captioning.frames import Frames, Resize, Sampling, sample
from video_captioning.media import Limits
from video_captioning.scenes import segments

logger = logging.getLogger(__name__)
_START_SECONDS = 60.0
_WAY_OUT = "convert it to H.264 first"


@dataclass(frozen=True)
class Job:
    """What a decoder is asked for."""

    path: Path
    sampling: Sampling
    resize: Resize
    threads: int
    segments: bool = False  # the clip by scenes


@dataclass(frozen=True, eq=False)
class Decoded:
    """What came of a clip, or of one of its segments."""

    frames: Frames
    seconds: float  # that it took
    segment: tuple[float, float] | None = None  # start and end, seconds


Refused = tuple[type[MediaError], str, str]
"""An error as class, problem and way out."""


class Decoders:
    """As many processes as `count`, each decoding one clip at a time, with an answer at least every `seconds`."""

    def __init__(self, count: int, limits: Limits, memory: int, seconds: float) -> None:
        self.restarts = 0  # processes that had to be replaced
        self.seconds = seconds
        self._threads = ThreadPoolExecutor(count, "decoder")
        self._all = [_Decoder(limits, memory) for _ in range(count)]
        self._free: SimpleQueue[_Decoder] = SimpleQueue()
        self._stopped = False

    def start(self) -> None:
        """Start the processes and wait until all can work."""
        for decoder in self._all:
            decoder.start()
        for decoder in self._all:
            decoder.wait()
            self._free.put(decoder)

    def stop(self) -> None:
        """End them; what they are at is lost."""
        self._stopped = True
        for decoder in self._all:
            decoder.kill()  # which wakes the thread that waits for it
        self._threads.shutdown(cancel_futures=True)
        for decoder in self._all:
            decoder.kill()  # one may have been replaced in between

    async def decode(self, job: Job) -> AsyncGenerator[Decoded, None]:
        """`frames.sample`, or `scenes.segments`, in another process, which waits until each is taken.

        Raises:
            MediaError: as these, and where decoding takes too long or brings the process down.
        """
        loop = asyncio.get_running_loop()
        answers: asyncio.Queue[Decoded | Refused | None] = asyncio.Queue()
        room = Semaphore()  # for an answer that nobody has taken yet
        left = False

        def give(answer: Decoded | Refused | None) -> bool:
            if not left:
                room.acquire()
            if not left:
                loop.call_soon_threadsafe(answers.put_nowait, answer)
            return not left

        def work() -> None:
            try:
                self._run(job, give)
            finally:
                give(None)

        working = loop.run_in_executor(self._threads, work)
        try:
            while (answer := await answers.get()) is not None:
                room.release()
                if not isinstance(answer, Decoded):
                    kind, problem, way_out = answer
                    raise kind(job.path, problem, way_out)
                yield answer
        finally:
            left = True
            room.release()  # in case one is waiting
            working.cancel()  # in case it has not begun

    def _run(self, job: Job, give: Callable[[Decoded | Refused], bool]) -> None:
        """Give the answers as they come, for as long as they are wanted."""
        decoder = self._free.get()  # as many threads as decoders: one is free
        try:
            for answer in decoder.run(job, self.seconds):
                if not give(answer) and job.segments and not self._stopped:
                    decoder.restart()  # which is sooner done than the rest of a long clip
                    break
        except _LostError as lost:
            if not self._stopped:
                self.restarts += 1
                logger.warning("a decoder is replaced: %s", lost)
                decoder.restart()
            give((NoPictureError, str(lost), _WAY_OUT))
        finally:
            self._free.put(decoder)


class _LostError(Exception):
    """A process that has to be replaced, and why."""


class _Decoder:
    """The parent's end of one process."""

    def __init__(self, limits: Limits, memory: int) -> None:
        self._context = multiprocessing.get_context("spawn")  # a fork would copy locks that other threads hold
        self._arguments = (limits, memory)
        self._process: SpawnProcess | None = None

    def start(self) -> None:
        self._pipe, other = self._context.Pipe()
        process = self._context.Process(target=work, args=(other, *self._arguments), daemon=True)
        process.start()
        self._process = process
        other.close()  # so that the pipe ends with the process

    def wait(self) -> None:
        """Until it can work. Raises RuntimeError where it cannot be started."""
        with suppress(EOFError):
            if self._pipe.poll(_START_SECONDS):
                self._pipe.recv()
                return
        raise RuntimeError("a decoder does not start; see what it says on standard error")

    def run(self, job: Job, seconds: float) -> Iterator[Decoded | Refused]:
        """The answers to a job. Raises _LostError where one takes too long or the process ends."""
        if not self._process or not self._process.is_alive():  # somebody killed it, which is no fault of this file
            self.restart()
        try:
            self._pipe.send(job)
            while self._pipe.poll(seconds):
                if (answer := self._pipe.recv()) is None:
                    return
                yield answer
        except (EOFError, OSError) as error:
            raise _LostError("it brings the decoder down") from error
        raise _LostError(f"decoding it takes longer than {seconds:g} s")

    def restart(self) -> None:
        self.kill()
        self._pipe.close()
        self.start()
        self.wait()

    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self._process.join()


def work(pipe: Connection, limits: Limits, memory: int) -> None:
    """The life of a decoder: jobs from the pipe, answers to each and None into it, until the other end is closed."""
    for each in (signal.SIGINT, signal.SIGTERM):  # meant for the service, which finishes what it has accepted
        signal.signal(each, signal.SIG_IGN)
    confine(memory)
    with suppress(EOFError, OSError):
        pipe.send(None)  # ready
        while True:
            for answer in answers(pipe.recv(), limits):
                pipe.send(answer)
            pipe.send(None)


def answers(job: Job, limits: Limits) -> Iterator[Decoded | Refused]:
    start = perf_counter()
    try:
        if job.segments:
            for each in segments(job.path, job.sampling, job.resize, threads=job.threads, limits=limits):
                yield Decoded(each.frames, each.seconds, (each.start, each.end))
        else:
            frames = sample(job.path, job.sampling, job.resize, threads=job.threads, limits=limits)
            yield Decoded(frames, perf_counter() - start)
    except MediaError as error:
        yield type(error), error.problem, error.way_out
    except MemoryError:
        yield TooLargeError, "decoding it takes too much memory", "make its picture smaller first"
    except Exception as error:  # whatever PyAV raises for a file that nobody has thought of
        print(f"decoder: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        yield NoPictureError, "it cannot be decoded", _WAY_OUT


def confine(memory: int) -> None:
    """Let this process take `memory` bytes more than it has, write no file and leave no core dump.

    Time is kept by the parent, which kills: a limit on processor seconds would add up over many clips.
    """
    bounds = {resource.RLIMIT_FSIZE: 0, resource.RLIMIT_CORE: 0}
    if sys.platform == "linux":  # elsewhere the limit is not kept, or what is taken already is not known
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        bounds[resource.RLIMIT_AS] = pages * resource.getpagesize() + memory
    for which, most in bounds.items():
        _, hard = resource.getrlimit(which)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(which, (most, most))
