"""The compiled form of METEOR's tables: arrays in one file, which are mapped into memory, not read.

Phrases are a tree: node 0 is the start, every other node a word after another node. The key of an edge is
`node << 32 | word`; keys are sorted, and the edge at place p leads to node p + 1. Pairs of phrases are a list of nodes
for each node.
"""

from __future__ import annotations

import json
import mmap
import zlib
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

VERSION = 1
"""Of this form."""
LONGEST = 7
"""Words of the longest phrase in the table."""
Arrays = Mapping[str, NDArray[Any]]
_MAGIC = b"vidcap meteor\n"
_ALIGNMENT = 64
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Tables:
    function: str
    """The words that count less, a line each."""
    prefixes: str
    """The table of `meteor_text.parse_prefixes`."""
    lemmas: str
    """Words of WordNet, a line each."""
    synset_starts: NDArray[np.int32]
    """Where the synsets of each lemma begin, `[L + 1]`."""
    synsets: NDArray[np.int32]
    irregular: str
    """An irregular form and its base forms, a line each."""
    vocabulary: str
    """The words of phrases, a line each; a word's number is its line's."""
    edges: NDArray[np.int64]
    """Of the tree, `[E]`."""
    other_starts: NDArray[np.int32]
    """Where the paraphrases of each node begin, `[E + 2]`."""
    others: NDArray[np.uint32]
    """Their nodes, twice the number, and 1 more where the table lists the pair both ways."""


def compile_tables(
    function: str,
    prefixes: str,
    synsets: Iterable[tuple[str, list[str]]],
    irregular: Iterable[tuple[str, list[str]]],
    phrases: Iterable[tuple[bytes, bytes]],
) -> Arrays:
    """Arrays by the names of `Tables`; texts as bytes."""
    # a word cannot hold "_", and "-" but at its ends
    known = {word: [int(number) for number in numbers] for word, numbers in synsets if "_" not in word}
    lines = "\n".join(" ".join((base, *forms)) for base, forms in irregular if "_" not in base)
    texts = {"function": function, "prefixes": prefixes, "lemmas": "\n".join(known), "irregular": lines}
    numbers = [number for of in known.values() for number in of]
    arrays: dict[str, NDArray[Any]] = {
        "synset_starts": _starts(np.fromiter(map(len, known.values()), np.int64)),
        "synsets": np.array(numbers, np.int32),
        **_compile_phrases(phrases),
    }
    return arrays | {name: np.frombuffer(text.encode(), np.uint8) for name, text in texts.items()}


def _starts(counts: NDArray[np.int64]) -> NDArray[np.int32]:
    return np.append(0, np.cumsum(counts)).astype(np.int32)


def _compile_phrases(pairs: Iterable[tuple[bytes, bytes]]) -> dict[str, NDArray[Any]]:
    numbers: dict[bytes, int] = {}
    first, second = array("I"), array("I")
    for phrase, other in pairs:
        first.append(numbers.setdefault(phrase, len(numbers)))
        second.append(numbers.setdefault(other, len(numbers)))
    vocabulary, words = _words(numbers)
    del numbers
    edges, node = _tree(words)
    del words
    one, two = (node[np.frombuffer(side, np.uint32)] for side in (first, second))
    keys = np.concatenate([one << 32 | two, two << 32 | one])
    keys.sort()
    new = np.append(True, keys[1:] != keys[:-1])[: len(keys)]
    place = np.flatnonzero(new)
    twice = np.diff(np.append(place, len(keys))) > 1
    keys = keys[new]
    counts = np.bincount(keys >> 32, minlength=len(edges) + 1)
    others = ((keys & 0xFFFFFFFF) << 1 | twice).astype(np.uint32)
    return {"vocabulary": vocabulary, "edges": edges, "other_starts": _starts(counts), "others": others}


def _words(phrases: Iterable[bytes]) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """All words, a line each, and the words of each phrase by number, `[P, LONGEST]`, -1 after the last."""
    known: dict[bytes, int] = {}
    rows = array("i")
    for phrase in phrases:
        row = [known.setdefault(word, len(known)) for word in phrase.split(b" ")]
        rows.extend(row + [-1] * (LONGEST - len(row)))
    return np.frombuffer(b"\n".join(known), np.uint8), np.frombuffer(rows, np.int32).reshape(-1, LONGEST)


def _tree(words: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The edges, and the node of each phrase."""
    node = np.zeros(len(words), np.int64)
    edges, count = [], 0
    for place in range(LONGEST):
        longer = np.flatnonzero(words[:, place] >= 0)
        keys, number = np.unique(node[longer] << 32 | words[longer, place], return_inverse=True)
        node[longer] = count + 1 + number
        edges.append(keys)
        count += len(keys)
    return np.concatenate(edges), node


def write_tables(file: IO[bytes], arrays: Arrays) -> None:
    """A line of JSON that says where each array is, and the arrays."""
    entries, offset, checksum = {}, 0, 0
    for name, values in arrays.items():
        entries[name] = [values.dtype.str, offset, len(values)]
        padded = _padded(values)
        checksum = zlib.crc32(padded, checksum)
        offset += len(padded)
    header = json.dumps({"arrays": entries, "bytes": offset, "crc32": checksum}).encode() + b"\n"
    start = -(-(len(_MAGIC) + len(header)) // _ALIGNMENT) * _ALIGNMENT
    file.write((_MAGIC + header).ljust(start, b"\0"))
    for values in arrays.values():
        file.write(_padded(values))


def _padded(values: NDArray[Any]) -> bytes:
    content = values.tobytes()
    return content + bytes(-len(content) % _ALIGNMENT)


def read_tables(path: Path) -> Tables | None:
    """None where there is no file, or one that is not whole."""
    try:
        with path.open("rb") as file:
            magic, line = file.readline(), file.readline()
            header = json.loads(line)
            start = -(-(len(magic) + len(line)) // _ALIGNMENT) * _ALIGNMENT
            if magic != _MAGIC or not _whole(file, start, header["bytes"], header["crc32"]):
                return None
            memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    fields: dict[str, Any] = {}
    for name, (kind, offset, length) in header["arrays"].items():
        values = np.frombuffer(memory, kind, length, start + offset)
        fields[name] = values.tobytes().decode() if kind == "|u1" else values
    return Tables(**fields)


def _whole(file: IO[bytes], start: int, size: int, checksum: int) -> bool:
    """Read through once, but not kept: pages that are only looked up later cost no memory now."""
    file.seek(start)
    found = 0
    while block := file.read(_BLOCK):
        found = zlib.crc32(block, found)
        size -= len(block)
    return size == 0 and found == checksum
