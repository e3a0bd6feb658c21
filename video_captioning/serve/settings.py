"""What the service takes on, and where it says no."""

from __future__ import annotations

from dataclasses import dataclass

from video_captioning.media import MOST_THREADS, Limits
from video_captioning.parallel import available_cores


@dataclass(frozen=True)
class Settings:
    """Every bound of the service. The defaults suit clips from phones and the web on a small machine."""

    upload: int = 100_000_000  # bytes of a request's body
    files: int = 16  # of a batch request
    duration: float = 600.0  # seconds of a clip
    side: int = 8192  # pixels, width or height of a picture
    pixels: int = 16_777_216  # width by height: 4K film and photographs of phones
    memory: int = 2_000_000_000  # bytes that one decoder may take,
    thread_memory: int = 200_000_000  # and more for each of its threads: frames of 4K film, a stack, malloc's arena
    upload_seconds: float = 60.0  # for a request's body to arrive
    decode_seconds: float = 30.0  # for one clip to be decoded
    work_seconds: float = 120.0  # from the last byte of a request to its answer, waiting included
    requests: int = 64  # at a time; one more is answered 503
    requests_a_client: int = 32  # at a time; one more is answered 429
    batch: int = 8  # clips that a model takes at once, at most
    cores: int = available_cores()  # decoders, and threads of the models

    @property
    def decoder_memory(self) -> int:
        """Bytes that one decoder may take with all its threads."""
        return self.memory + min(self.cores, MOST_THREADS) * self.thread_memory

    @property
    def limits(self) -> Limits:
        """Of one file."""
        return Limits(side=self.side, pixels=self.pixels, duration=self.duration)
