"""`vidcap caption` of one clip in a process of its own, against importing the libraries that it cannot do without.

Cold means a new process; the files that it reads are in the page cache after the first, unmeasured round.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from benchmarks.report import Report, machine
from benchmarks.timing import confine, in_turns, median_ratio
from video_captioning.errors import VidcapError

FLOOR = "import numpy, av, onnxruntime"
CAPTION = "vidcap caption"
BARS = {CAPTION: (1.5, 400)}
MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes


@dataclass(frozen=True)
class Process:
    """One run of a command."""

    seconds: float
    processor: float
    """Seconds of all cores together."""
    memory: float
    """Most that was resident, 10⁶ bytes."""


def measure(model: str, threads: int, repeat: int) -> Report:
    """Raises VidcapError where a command fails."""
    confine(threads)
    with TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        # Made by another process: the memory of this one, which the commands are forked from, counts as theirs.
        run([sys.executable, "-m", "benchmarks.clip", str(clip)])
        caption = [sys.executable, "-m", "video_captioning", "caption", str(clip), "--model", model]
        processes = in_turns(
            {
                CAPTION: partial(run, [*caption, "--threads", str(threads)]),
                FLOOR: partial(run, [sys.executable, "-c", FLOOR]),
            },
            repeat,
        )
    setting = {"clip": "15 s 320x240 H.264", "threads": threads, "rounds": repeat, "model": model, **machine()}
    return Report("cold", setting, (tabulate(processes),))


def tabulate(processes: dict[str, list[Process]]) -> list[dict[str, Any]]:
    """Medians over the rounds, a row a command."""
    floor = [one.seconds for one in processes[FLOOR]]
    rows = []
    for name, rounds in processes.items():
        most_seconds, most_memory = BARS.get(name, (None, None))
        rows.append(
            {
                "command": name,
                "seconds": median(one.seconds for one in rounds),
                "bar": most_seconds,
                "processor s": median(one.processor for one in rounds),
                "peak MB": round(max(one.memory for one in rounds)),
                "bar, MB": most_memory,
                "ratio": median_ratio([one.seconds for one in rounds], floor),
            }
        )
    return rows


def run(command: Sequence[str], statuses: Sequence[int] = (0,)) -> Process:
    """Run a command to its end, which must be with one of `statuses`; what it says on standard error is shown."""
    start = perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in statuses:
        raise VidcapError(f"{' '.join(command[1:])} failed with status {process.returncode}; see what it says above")
    return Process(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * MAXRSS_UNIT / 1e6)
