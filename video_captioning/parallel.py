"""Processor cores: how many there are, and work in threads whose results come in order."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(work: Callable[[Item], Result], items: Iterable[Item], threads: int, ahead: int) -> Iterator[Result]:
    """`work(item)` of each item, in their order, done by threads that are at most `ahead` items ahead.

    An error of `work` is raised in its turn. Who stops early does not wait for what is being worked at.
    """
    pool = ThreadPoolExecutor(threads)
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) == ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # not `with`, which would wait for a long clip on Ctrl-C


def available_cores() -> int:
    """Cores that this process may use: fewer than the machine has where its affinity or a quota says so."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(cores, quota())))


def quota(membership: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> float:
    """The cores' worth of time that control groups grant, as `docker run --cpus`; infinite where they set no limit.

    Args:
        membership: lines `number:controllers:path`, as in cgroups(7); version 2 has number 0 and no controllers.
        root: where the hierarchies are mounted.
    """
    least = math.inf
    with suppress(OSError, ValueError):
        for line in membership.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "cpu" not in controllers.split(","):
                continue
            mounted = root / "cpu" if controllers else root
            group = PurePosixPath(path.lstrip("/"))
            for folder in {mounted, *(mounted / part for part in (group, *group.parents))}:
                least = min(least, _granted(folder))
    return least


def _granted(folder: Path) -> float:
    """What one group grants: `cpu.max` of version 2, or the two files of version 1."""
    with suppress(OSError, ValueError):
        if (folder / "cpu.max").exists():
            time, period = (folder / "cpu.max").read_text().split()
        else:
            time, period = ((folder / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        return math.inf if time in ("max", "-1") else int(time) / int(period)
    return math.inf
