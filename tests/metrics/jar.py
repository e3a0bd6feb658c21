"""The jar that METEOR comes from, asked as the COCO caption tool asks it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from video_captioning.errors import VidcapError
from video_captioning.metrics.meteor_data import find_sources

Span = tuple[int, int, int, int]
"""Start and length in the first sentence, start and length in the second."""


def jar() -> list[str]:
    """The start of a command; skips the test where it cannot run."""
    try:
        path = find_sources().jar
    except VidcapError as error:
        pytest.skip(str(error))
    if not shutil.which("java"):
        pytest.skip("no Java")
    return ["java", "-Xmx2G", "-Dfile.encoding=UTF-8", "-cp", str(path)]


def run(*arguments: str, lines: Iterable[str], folder: Path) -> str:
    (folder / "lines.txt").write_text("".join(f"{line}\n" for line in lines))
    with (folder / "lines.txt").open() as file:
        command = [*jar(), *arguments, "-l", "en"]
        return subprocess.run(command, stdin=file, capture_output=True, encoding="utf-8", check=True, cwd=folder).stdout


def statistics(pairs: Iterable[tuple[Sequence[str], Sequence[Sequence[str]]]], folder: Path) -> list[str]:
    """What the jar says of each hypothesis and its best reference."""
    lines = (" ||| ".join(["SCORE", *map(" ".join, known), " ".join(said)]) for said, known in pairs)
    return run("Meteor", "-", "-", "-stdio", "-norm", lines=lines, folder=folder).splitlines()


def scores(found: Sequence[str], folder: Path) -> list[float]:
    """The score of each, and of all."""
    line = " ||| ".join(["EVAL", *found])
    return [float(one) for one in run("Meteor", "-", "-", "-stdio", "-norm", lines=[line], folder=folder).split()]


def words(sentences: Sequence[str], folder: Path) -> list[str]:
    """Sentences after `-norm`, words divided by spaces."""
    for name in ("test", "reference"):
        (folder / name).write_text("".join(f"{sentence}\n" for sentence in sentences))
    options = "test", "reference", "-norm", "-m", "exact", "-writeAlignments", "-f", "found"
    run("Meteor", *options, lines=[], folder=folder)
    lines = (folder / "found-align.out").read_text().split("\n")
    return [after for line, after in pairwise(lines) if line.startswith("Alignment\t")]


def alignments(pairs: Iterable[tuple[Sequence[str], Sequence[str]]], module: str, folder: Path) -> list[set[Span]]:
    """What one matcher finds in sentences divided into words."""
    lines = (f"{' '.join(one)} ||| {' '.join(other)}" for one, other in pairs)
    found = run("Matcher", "-", "-", "-stdio", "-m", module, lines=lines, folder=folder)
    blocks = (block.split("\n")[3:] for block in found.split("Alignment\n")[1:])
    return [{_span(row) for row in block if row.strip()} for block in blocks]


def _span(row: str) -> Span:
    other, start = (cell.split(":") for cell in row.split()[:2])
    return int(start[0]), int(start[1]), int(other[0]), int(other[1])
