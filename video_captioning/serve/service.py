"""Files → captions, with everything bounded: requests at a time, clips in memory, seconds."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from time import perf_counter

from video_captioning.captioner import Caption, Captioner
from video_captioning.errors import MediaError
from video_captioning.serve.batcher import Batcher
from video_captioning.serve.decoders import Decoders, Job
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
        self._decoders = Decoders(settings.cores, settings.limits, settings.memory, settings.decode_seconds)
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

    async def caption(self, file: File, options: Options) -> Caption:
        """One caption.

        Raises:
            RefusalError: what is wrong with the file.
        """
        start = perf_counter()
        self._clips += 1
        try:
            async with self._room:
                self._observe(wait=perf_counter() - start)
                caption = await self._caption(file, options)
        except MediaError as error:
            raise of_media(error, file.name) from error
        finally:
            self._clips -= 1
        self._observe(encode=caption.timings.encode, generate=caption.timings.generate)
        weighed = caption.words if options.explain else tuple(replace(word, weights=()) for word in caption.words)
        return replace(caption, video=replace(caption.video, path=file.name), words=weighed)

    async def _caption(self, file: File, options: Options) -> Caption:
        captioner = self.captioners[options.model]
        threads = self.settings.cores if self._clips == 1 else 1  # as Captioner does: a clip a core, or all for one
        job = Job(file.path, options.sampling, captioner.bundle.resize, threads)
        frames, seconds = await self._decoders.sample(job)
        self._observe(decode=seconds)
        return await self._batcher.caption(captioner, frames, seconds, options.decoding)

    def _observe(self, **stages: float) -> None:
        for stage, seconds in stages.items():
            self.metrics.stage.labels(stage).observe(seconds)
