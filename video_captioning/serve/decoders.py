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
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from queue import SimpleQueue
from time import perf_counter

from video_captioning.errors import MediaError, NoPictureError, TooLargeError
from video_captioning.frames import Frames, Resize, Sampling, sample
from video_captioning.media import Limits

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


Answer = tuple[Frames, float] | tuple[type[MediaError], str, str]
"""Frames and the seconds they took, or an error as class, problem and way out."""


class Decoders:
    """As many processes as `count`, each decoding one clip at a time, at most `seconds` long."""

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

    async def sample(self, job: Job) -> tuple[Frames, float]:
        """`frames.sample` in another process, and the seconds it took there.

        Raises:
            MediaError: as `frames.sample`, and where decoding takes too long or brings the process down.
        """
        answer = await asyncio.get_running_loop().run_in_executor(self._threads, self._run, job)
        if len(answer) == 2:
            return answer
        kind, problem, way_out = answer
        raise kind(job.path, problem, way_out)

    def _run(self, job: Job) -> Answer:
        decoder = self._free.get()  # as many threads as decoders: one is free
        try:
            return decoder.run(job, self.seconds)
        except _LostError as lost:
            if not self._stopped:
                self.restarts += 1
                logger.warning("a decoder is replaced: %s", lost)
                decoder.restart()
            return NoPictureError, str(lost), _WAY_OUT
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

    def run(self, job: Job, seconds: float) -> Answer:
        if not self._process or not self._process.is_alive():  # somebody killed it, which is no fault of this file
            self.restart()
        try:
            self._pipe.send(job)
            if not self._pipe.poll(seconds):
                raise _LostError(f"decoding it takes longer than {seconds:g} s")
            answer: Answer = self._pipe.recv()
            return answer
        except (EOFError, OSError) as error:
            raise _LostError("it brings the decoder down") from error

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
    """The life of a decoder: jobs from the pipe, answers into it, until the other end is closed."""
    for each in (signal.SIGINT, signal.SIGTERM):  # meant for the service, which finishes what it has accepted
        signal.signal(each, signal.SIG_IGN)
    confine(memory)
    with suppress(EOFError, OSError):
        pipe.send(None)  # ready
        while True:
            pipe.send(answer(pipe.recv(), limits))


def answer(job: Job, limits: Limits) -> Answer:
    start = perf_counter()
    try:
        frames = sample(job.path, job.sampling, job.resize, threads=job.threads, limits=limits)
        return frames, perf_counter() - start
    except MediaError as error:
        return type(error), error.problem, error.way_out
    except MemoryError:
        return TooLargeError, "decoding it takes too much memory", "make its picture smaller first"
    except Exception as error:  # whatever PyAV raises for a file that nobody has thought of
        print(f"decoder: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return NoPictureError, "it cannot be decoded", _WAY_OUT


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
