"""Results → tables on standard output and a JSON file."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from video_captioning.cli.table import print_table
from video_captioning.files import write_whole

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Report:
    """What a benchmark found."""

    benchmark: str
    setting: dict[str, Any]
    """What it was measured with and on."""
    tables: tuple[Sequence[Row], ...]
    """Rows of the same columns; floats are rounded only where they are shown."""


def deliver(report: Report, out: Path | None) -> None:
    """Print the report: rich tables on a terminal, Markdown anywhere else. Raises OutputError for the file."""
    print(", ".join(f"{name} {value}" for name, value in report.setting.items()))
    for rows in report.tables:
        print()
        print_table(rows)
    if out:
        found = {"benchmark": report.benchmark, **report.setting, "tables": report.tables}
        write_whole(out, json.dumps(found, indent=2, ensure_ascii=False) + "\n")


def machine() -> dict[str, str]:
    """Where it was measured."""
    return {"system": platform.platform(), "python": platform.python_version()}
