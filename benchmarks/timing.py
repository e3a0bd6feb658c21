"""The package's own way of timing, and the cores that are timed."""

from __future__ import annotations

import os

from video_captioning.export.timing import in_turns, median_ratio

__all__ = ["confine", "in_turns", "median_ratio"]


def confine(cores: int) -> None:
    """Keep this process, and those it starts, to that many cores where the system can: all works get the same."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
