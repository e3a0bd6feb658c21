"""Scores of one or more systems as a table, JSON, Markdown or LaTeX."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from video_captioning.metrics.score import Scores

Systems = Mapping[str, Scores]
Chances = Mapping[str, float]
"""p of the difference of two systems, by metric."""


def table(systems: Systems, chances: Chances) -> str:
    """For a terminal: a metric a row, with intervals, then diversity."""
    grid = Table("", *systems, *(["p"] if chances else []), box=SIMPLE_HEAD, show_edge=False)
    for column in grid.columns[1:]:
        column.justify = "right"
    for name in next(iter(systems.values())).scores:
        cells = [with_interval(scores, name) for scores in systems.values()]
        grid.add_row(name, *cells, *([chance(chances[name])] if chances else []))
    grid.add_section()
    rows = [varied(scores) for scores in systems.values()]
    for name in rows[0]:
        grid.add_row(name, *(row[name] for row in rows))
    console = Console(markup=False, highlight=False, width=200)
    with console.capture() as captured:
        console.print(grid)
    return "".join(f"{line.rstrip()}\n" for line in captured.get().splitlines())


def with_interval(scores: Scores, name: str) -> str:
    interval = scores.intervals[name]
    return f"{scores.scores[name]:.4f}  [{interval.low:.4f}, {interval.high:.4f}]"


def chance(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def varied(scores: Scores) -> dict[str, str]:
    """Diversity in words."""
    found = scores.diversity
    row = {
        "captions": str(len(scores.ids)),
        "words a caption": f"{found.words:.1f}",
        "vocabulary": str(found.vocabulary),
        "distinct-1, distinct-2": f"{found.distinct_1:.3f}, {found.distinct_2:.3f}",
        "distinct captions": f"{found.distinct:.1%}",
        "most repeated": f"{found.repeated:.1%}: {found.most_repeated}",
    }
    return row | ({"novel captions": f"{found.novel:.1%}"} if found.novel is not None else {})


def as_json(systems: Systems, chances: Chances) -> str:
    """The scores of one system, or of each by its name with the p of every difference."""
    if not chances:
        return json.dumps(next(iter(systems.values())).to_dict(), indent=2) + "\n"
    named = {name: scores.to_dict() for name, scores in systems.items()}
    return json.dumps({"systems": named, "p": dict(chances)}, indent=2) + "\n"


def markdown(systems: Systems, chances: Chances) -> str:
    """A system a row, for a README."""
    names = list(next(iter(systems.values())).scores)
    rows = [["system", *names], ["---", *["---:"] * len(names)]]
    rows += [[system, *(f"{of.scores[name]:.4f}" for name in names)] for system, of in systems.items()]
    if chances:
        rows.append(["p", *(chance(chances[name]) for name in names)])
    return "".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |\n" for row in rows)


def latex(systems: Systems, chances: Chances) -> str:
    """A system a row for a table of a paper, times 100 as papers have them."""
    names = list(next(iter(systems.values())).scores)
    lines = [f"% {' & '.join(['system', *names])}"]
    for system, of in systems.items():
        title = "".join(f"\\{sign}" if sign in "&%$#_{}" else sign for sign in system)
        lines.append(" & ".join([title, *(f"{100 * of.scores[name]:.1f}" for name in names)]) + r" \\")
    if chances:
        lines.append(f"% p & {' & '.join(chance(chances[name]) for name in names)}")
    return "".join(f"{line}\n" for line in lines)


FORMS: dict[str, Callable[[Systems, Chances], str]] = {
    "table": table,
    "json": as_json,
    "markdown": markdown,
    "latex": latex,
}
