"""What a run measured, in a file that a kill leaves readable and a resumed run goes on with."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from video_captioning.errors import OutputError
from video_captioning.files import write_whole

RESUME = "make room; the same command resumes the run"
NAME = "metrics.jsonl"

Row = dict[str, Any]
"""`step` (batches before it), `time` (seconds since 1970) and metrics by name; null is a number that is not finite."""


class Record:
    """`OUT/metrics.jsonl`: a line of JSON for all that is logged at once.

    Raises:
        OutputError: on beginning and adding, where the file cannot be written.
    """

    def __init__(self, out: Path) -> None:
        self.path = out / NAME
        self.rows = read(out)

    def begin(self, step: int) -> None:
        """Go on at a step: rows from it on are dropped, as they will be measured again."""
        self.rows = [row for row in self.rows if row["step"] < step]
        write_whole(self.path, "".join(map(line, self.rows)), RESUME)

    def add(self, metrics: Mapping[str, float], step: int) -> None:
        values = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        row = {"step": step, "time": round(time.time(), 3), **values}
        self.rows.append(row)
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line(row))
        except OSError as error:
            raise unwritable(self.path, error) from error


def read(out: Path) -> list[Row]:
    """The rows of a run, none if it has not begun. A last line that was cut short is left out."""
    try:
        lines = (out / NAME).read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    except OSError:
        return []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def line(row: Row) -> str:
    return json.dumps(row) + "\n"


def unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(path, f"cannot be written ({error.strerror})", RESUME)
