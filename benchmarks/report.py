"""Results → tables on standard output and a JSON file."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from video_captioning.errors import OutputError

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
    console = Console()
    print(", ".join(f"{name} {value}" for name, value in report.setting.items()))
    for rows in report.tables:
        cells = [[shown(value) for value in row.values()] for row in rows]
        print()
        if console.is_terminal:
            console.print(rich_table(list(rows[0]), cells))
        else:
            print(markdown(list(rows[0]), cells))
    if out:
        write(out, {"benchmark": report.benchmark, **report.setting, "tables": report.tables})


def shown(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def rich_table(columns: list[str], cells: list[list[str]]) -> Table:
    table = Table()
    for number, name in enumerate(columns):
        table.add_column(name, justify="right" if number else "left")
    for row in cells:
        table.add_row(*row)
    return table


def markdown(columns: list[str], cells: list[list[str]]) -> str:
    rule = ["---", *["---:"] * (len(columns) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (columns, rule, *cells))


def machine() -> dict[str, str]:
    """Where it was measured."""
    return {"system": platform.platform(), "python": platform.python_version()}


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON, whole or not at all."""
    unfinished = path.with_name(f".{path.name}.part")
    try:
        with unfinished.open("w", encoding="utf-8") as file:
            json.dump(content, file, indent=2, ensure_ascii=False)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        raise OutputError(path, f"cannot be written ({error.strerror})", "make room or give another place") from error
    finally:
        unfinished.unlink(missing_ok=True)
