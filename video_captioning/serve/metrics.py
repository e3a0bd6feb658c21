"""What Prometheus is told."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

_TENTHS = tuple(tenth / 10 for tenth in range(1, 11))
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class Metrics:
    """Counters of one service."""

    def __init__(self, waiting: Callable[[], int], restarts: Callable[[], int]) -> None:
        """`waiting`: clips that are uploaded and not captioned yet. `restarts`: decoders replaced so far."""
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter("vidcap_requests", "Answered requests", ("route", "status"), registry=registry)
        self.in_flight = Gauge("vidcap_requests_in_flight", "Requests that are not answered yet", registry=registry)
        self.stage = Histogram(
            "vidcap_stage_seconds",
            "Seconds by stage: upload, wait, decode, encode, generate, and the whole request",
            ("stage",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.batch = Histogram(
            "vidcap_batch_clips", "Clips that a model took at once", buckets=(1, 2, 4, 8, 16), registry=registry
        )
        self.confidence = Histogram(
            "vidcap_caption_confidence", "How sure the models were of captions", buckets=_TENTHS, registry=registry
        )
        queue = Gauge("vidcap_queue_clips", "Clips uploaded and not captioned yet", registry=registry)
        queue.set_function(waiting)
        replaced = Gauge("vidcap_decoders_replaced", "Decoders that a file brought down", registry=registry)
        replaced.set_function(restarts)

    def text(self) -> bytes:
        """In Prometheus's text format."""
        return generate_latest(self._registry)
