"""Rows of measurements as a table: rich on a terminal, Markdown anywhere else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows of the same columns; floats are rounded here and only here."""
    from rich.console import Console

    console = Console()
    columns, cells = list(rows[0]), [[shown(value) for value in row.values()] for row in rows]
    if console.is_terminal:
        console.print(rich_table(columns, cells))
    else:
        print(markdown(columns, cells))


def shown(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def rich_table(columns: list[str], cells: list[list[str]]) -> Table:
    from rich.table import Table

    table = Table()
    for number, name in enumerate(columns):
        table.add_column(name, justify="right" if number else "left")
    for row in cells:
        table.add_row(*row)
    return table


def markdown(columns: list[str], cells: list[list[str]]) -> str:
    rule = ["---", *["---:"] * (len(columns) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (columns, rule, *cells))
