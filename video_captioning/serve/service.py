"""Files → captions, with everything bounded: requests at a time, clips in memory, seconds."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import asdict, replace
from time import perf_counter

from video_captioning.captioner import Caption, Captioner
from video_captioning.errors import MediaError
from video_captioning.serve.batcher import Batcher
from video_captioning.serve.decoders import Decoded, Decoders, Job
from video_captioning.serve.metrics import Metrics
from video_captioning.serve.options import Options
from video_captioning.serve.refusals import BusyError, of_media
from video_captioning.serve.settings import Settings
from video_captioning.serve.spool import Spool
from video_captioning.serve.upload import File


class Service:
    """The models and what feeds them. `start` and `stop` it in the event loop that uses it."""

    def __init__(self, captioners: Mapping[str, Captioner], settings: Settings) -> None:
        """`captioners` by name, the default first."""
        self.captioners = dict(captioners)
        self.settings = settings
        self.ready = False
        self._decoders = Decoders(settings.cores, settings.limits, settings.decoder_memory, settings.decode_seconds)
        self.metrics = Metrics(lambda: self._clips, lambda: self._decoders.restarts)
        self._batcher = Batcher(settings.batch, self.metrics.batch.observe)
        self._clips = 0
        self._clients: Counter[str] = Counter()
        self._room = asyncio.Semaphore(settings.cores + 2 * settings.batch)  # clips whose frames are in memory

    async def start(self) -> None:
        """Raises OSError where there is no place for files, RuntimeError where no decoder starts."""
        self.spool = Spool()
        try:
            await asyncio.to_thread(self._decoders.start)
        except BaseException:
            self.stop()
            raise
        self.ready = True

    def stop(self) -> None:
        self.ready = False
        self._batcher.stop()
        self._decoders.stop()
        self.spool.close()

    @property
    def full(self) -> bool:
        return self._clients.total() >= self.settings.requests

    @contextmanager
    def admitted(self, client: str) -> Iterator[None]:
        """A place for one request. Raises BusyError where there is none."""
        if self.full:
            raise BusyError("overloaded", "the service has as many requests as it can take")
        if self._clients[client] >= self.settings.requests_a_client:
            raise BusyError("too_many_requests", "you have as many requests at a time as one may", status=429)
        self._clients[client] += 1
        try:
            yield
        finally:
            self._clients[client] -= 1
            if not self._clients[client]:
                del self._clients[client]

    async def captions(self, file: File, options: Options) -> list[Caption]:
        """The caption of a clip, or those of its segments.

        Raises:
            RefusalError: what is wrong with the file.
        """
        start = perf_counter()
        self._clips += 1
        try:
            async with self._room:
                self._observe(wait=perf_counter() - start)
                return await self._captions(file, options)
        except MediaError as error:
            raise of_media(error, file.name) from error
        finally:
            self._clips -= 1

    async def _captions(self, file: File, options: Options) -> list[Caption]:
        resize = self.captioners[options.model].bundle.resize
        threads = self.settings.cores if self._clips == 1 else 1  # as Captioner does: a clip a core, or all for one
        job = Job(file.path, options.sampling, resize, threads, options.segments)
        tasks: list[asyncio.Task[Caption]] = []
        try:
            async with aclosing(self._decoders.decode(job)) as decoded:
                async for each in decoded:
                    tasks.append(asyncio.create_task(self._caption(each, file, options)))
                    if len(tasks) >= self.settings.batch:  # the frames of no more than a batch are in memory
                        await tasks[-self.settings.batch]
            return [await task for task in tasks]
        finally:
            for task in tasks:
                task.cancel()

    async def _caption(self, decoded: Decoded, file: File, options: Options) -> Caption:
        captioner = self.captioners[options.model]
        caption = await self._batcher.caption(
            captioner, decoded.frames, decoded.seconds, options.decoding, options.min_confidence
        )
        self._observe(**asdict(caption.timings))
        if caption.confidence is not None:
            self.metrics.confidence.observe(caption.confidence)
        weighed = caption.words if options.explain else tuple(replace(word, weights=()) for word in caption.words)
        video = replace(caption.video, path=file.name)
        return replace(caption, video=video, words=weighed, segment=decoded.segment)

    def _observe(self, **stages: float) -> None:
        for stage, seconds in stages.items():
            self.metrics.stage.labels(stage).observe(seconds)
