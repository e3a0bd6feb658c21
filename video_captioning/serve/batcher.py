"""Clips that wait at the same time go through a model together.

Nothing waits for a batch to fill: while one is at work the next gathers, so a lone clip loses no time and a crowd
makes large batches.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from video_captioning.captioner import Caption, Captioner
from video_captioning.decoding import Decoding
from video_captioning.frames import Frames


@dataclass(frozen=True, eq=False)
class Waiting:
    """A clip before its caption."""

    captioner: Captioner
    decoding: Decoding
    min_confidence: float | None
    frames: Frames
    seconds: float  # that decoding took
    caption: asyncio.Future[Caption]

    def goes_with(self, other: Waiting) -> bool:
        """Whether both can be captioned in one call."""
        options = (self.decoding, self.min_confidence) == (other.decoding, other.min_confidence)
        return self.captioner is other.captioner and options


class Batcher:
    """One thread that runs the models, a batch of clips with the same model and options at a time."""

    def __init__(self, most: int, observe: Callable[[int], object]) -> None:
        """`most`: clips of a batch. `observe` is told the size of each."""
        self._most = most
        self._observe = observe
        self._thread = ThreadPoolExecutor(1, "model")
        self._waiting: deque[Waiting] = deque()
        self._running: asyncio.Task[None] | None = None

    async def caption(
        self,
        captioner: Captioner,
        frames: Frames,
        seconds: float,
        decoding: Decoding,
        min_confidence: float | None,
    ) -> Caption:
        """The caption of frames that were sampled for `captioner`, which took `seconds`."""
        caption: asyncio.Future[Caption] = asyncio.get_running_loop().create_future()
        clip = Waiting(captioner, decoding, min_confidence, frames, seconds, caption)
        self._waiting.append(clip)
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())
        return await clip.caption

    def stop(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _run(self) -> None:
        while batch := self._next():
            self._observe(len(batch))
            first, clips = batch[0], [(clip.frames, clip.seconds) for clip in batch]
            work = asyncio.get_running_loop().run_in_executor(
                self._thread, first.captioner.caption_frames, clips, first.decoding, first.min_confidence
            )
            try:
                captions = await work
            except Exception as error:  # each request tells it in its own way
                for clip in batch:
                    if not clip.caption.done():
                        clip.caption.set_exception(error)
                continue
            for clip, caption in zip(batch, captions, strict=True):
                if not clip.caption.done():
                    clip.caption.set_result(caption)

    def _next(self) -> list[Waiting]:
        """The clip that has waited longest, and those after it that can go with it; who has gone is left out."""
        present = [clip for clip in self._waiting if not clip.caption.done()]
        batch = [clip for clip in present if clip.goes_with(present[0])][: self._most]
        self._waiting = deque(clip for clip in present if clip not in batch)
        return batch
