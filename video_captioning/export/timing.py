"""How things are timed here: in turns, so that what changes the machine's speed touches all of them alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import TypeVar

Measured = TypeVar("Measured")


def in_turns(works: Mapping[str, Callable[[], Measured]], repeat: int) -> dict[str, list[Measured]]:
    """Do all works `repeat` times in turns and give what each returned, by round.

    A round before them is not kept: it warms the caches. Every other round runs backwards, so that a speed that rises
    or falls steadily favours nobody.
    """
    measured: dict[str, list[Measured]] = {name: [] for name in works}
    for name in works:
        works[name]()
    for number in range(repeat):
        for name in list(works)[:: -1 if number % 2 else 1]:
            measured[name].append(works[name]())
    return measured


def median_ratio(values: Sequence[float], base: Sequence[float]) -> float:
    """The median over rounds of a value divided by the base of its own round."""
    return median(value / unit for value, unit in zip(values, base, strict=True))
