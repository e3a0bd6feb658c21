"""What every data set goes through: annotated clips and a split → the listings that training reads, and a summary."""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import mean, median
from typing import TYPE_CHECKING, Any, Literal, get_args

from video_captioning.errors import DataError, MediaError
from video_captioning.files import whole_file
from video_captioning.media import EXTENSIONS, Limits, open_video
from video_captioning.tokenizer import clean

if TYPE_CHECKING:
    from video_captioning.data.cleaning import Mends

Split = Literal["train", "val", "test"]
Splits = dict[Split, list[int]]
"""Indices into the annotated clips, whether their media are here or not: the same on every machine."""
SPLITS: tuple[Split, ...] = get_args(Split)
SUMMARY = "dataset_summary.json"

Mend = Callable[[Sequence[Sequence[str]]], "tuple[list[tuple[str, ...]], Mends]"]


@dataclass(frozen=True)
class Clip:
    """What the annotations say of one clip."""

    id: str
    captions: tuple[str, ...]
    path: Path | None
    """Its media; None where no file bears its id."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """What else its row in a listing says, such as its category."""


@dataclass
class Found:
    """The clips of one split, sorted by what can be done with them."""

    usable: list[Clip] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    undecodable: dict[str, str] = field(default_factory=dict)
    """What is wrong with the file, by id."""
    uncaptioned: list[str] = field(default_factory=list)


def media_by_id(folder: Path, name: str) -> dict[str, Path]:
    """All media under `folder` by their file names without ending, and without a leading `NAME_`.

    Raises DataError where `folder` cannot be read.
    """
    if not folder.is_dir():
        raise DataError(folder, "is no folder", "name the folder of the clips")
    found: dict[str, Path] = {}
    for parent, _, files in os.walk(folder):
        for file in files:
            path = Path(parent, file)
            if path.suffix.lower() in EXTENSIONS and not file.startswith("."):
                stem = path.stem.removeprefix(f"{name}_")
                found[stem] = min(path, found.get(stem, path))  # of two, always the same one
    return found


def drawn(groups: Sequence[Hashable], seed: int, val: float, test: float) -> Splits:
    """A seeded random split of items into shares; items of one group stay together, no share is left without one."""
    unique = list(dict.fromkeys(groups))
    random.Random(seed).shuffle(unique)
    sizes = [max(1, round(share * len(unique))) if share and len(unique) > 2 else 0 for share in (val, test)]
    cuts: dict[Split, list[Hashable]] = {
        "val": unique[: sizes[0]],
        "test": unique[sizes[0] : sum(sizes)],
        "train": unique[sum(sizes) :],
    }
    of_group = {group: split for split, members in cuts.items() for group in members}
    return {split: [i for i, group in enumerate(groups) if of_group[group] == split] for split in SPLITS}


def prepare(
    out: Path,
    clips: Sequence[Clip],
    splits: Splits,
    about: Mapping[str, Any],
    *,
    mend: Mend | None = None,
    progress: Callable[[list[Clip]], Iterable[Clip]] = iter,
) -> dict[str, Any]:
    """Write `SPLIT.jsonl`, `SPLIT_split.json` and the summary into `out`: all of them, or on an error none.

    A listing has the clips whose media are here and give a frame. A clip without media or captions is counted.

    Args:
        about: where the data come from, for the summary.
        mend: what mends the captions of train and val, `cleaning.mend`. Those of test stay as they are, so that scores
            stay comparable.
        progress: wraps the clips while their media are opened, as `rich.progress.track` does.

    Returns:
        The summary.

    Raises:
        DataError: not one clip can be used.
        OutputError: a file cannot be written.
    """
    cleaned = None
    if mend:
        clips, cleaned = mended(clips, sorted([*splits["train"], *splits["val"]]), mend)
    of_index = {index: split for split, indices in splits.items() for index in indices}
    found = {split: Found() for split in SPLITS}
    places = sorted(of_index)
    for index, clip in zip(places, progress([clips[index] for index in places]), strict=True):
        sort(clip, found[of_index[index]])
    if not any(part.usable for part in found.values()):
        raise DataError(out, f"none of the {len(places)} clips can be used: {reasons(found)}", "check the media")
    summary = summarize(found, about, cleaned)
    write_all(
        {
            **{out / f"{split}.jsonl": listing(found[split].usable, out) for split in SPLITS},
            **{out / f"{split}_split.json": f"{json.dumps(splits[split])}\n" for split in SPLITS},
            out / SUMMARY: json.dumps(summary, indent=2, ensure_ascii=False) + "\n",
        }
    )
    return summary


def mended(clips: Sequence[Clip], chosen: list[int], mend: Mend) -> tuple[list[Clip], Mends]:
    captions, mends = mend([clips[index].captions for index in chosen])
    new = dict(zip(chosen, captions, strict=True))
    return [replace(clip, captions=new.get(index, clip.captions)) for index, clip in enumerate(clips)], mends


def sort(clip: Clip, found: Found) -> None:
    captions = tuple(caption for caption in clip.captions if clean(caption))
    if not captions:
        found.uncaptioned.append(clip.id)
    elif clip.path is None or not clip.path.exists():
        found.missing.append(clip.id)
    elif problem := unreadable(clip.path):
        found.undecodable[clip.id] = problem
    else:
        found.usable.append(replace(clip, captions=captions))


def unreadable(path: Path) -> str | None:
    """What is wrong with a media file; None where its first frame can be decoded."""
    try:
        with open_video(path, Limits(), threads=1) as video:
            _, frame = next(video.frames())
            return None if frame else video.no_picture().problem
    except MediaError as error:
        return error.problem


def reasons(found: Mapping[Split, Found]) -> str:
    kinds = ("missing", "undecodable", "uncaptioned")
    counts = {kind: sum(len(getattr(part, kind)) for part in found.values()) for kind in kinds}
    return ", ".join(f"{count} {kind}" for kind, count in counts.items() if count) or "the annotations hold none"


def summarize(found: Mapping[Split, Found], about: Mapping[str, Any], cleaned: Mends | None) -> dict[str, Any]:
    """Counts and statistics of what training will see, and of what it will not."""
    usable = [clip for part in found.values() for clip in part.usable]
    captions = [clean(caption).split() for clip in usable for caption in clip.captions]
    lengths = [len(words) for words in captions]
    groups = same_files(found)
    return {
        **about,
        "videos": len(usable),
        "captions": len(captions),
        "missing": sum(len(part.missing) for part in found.values()),
        "undecodable": sum(len(part.undecodable) for part in found.values()),
        "uncaptioned": sum(len(part.uncaptioned) for part in found.values()),
        "duplicates": sum(len(clip.captions) - len(set(map(clean, clip.captions))) for clip in usable),
        "duplicate_videos": sum(len(group) - 1 for group in groups),
        "leaks": [[clip for _, clip in group] for group in groups if len({split for split, _ in group}) > 1],
        "vocabulary": len({word for words in captions for word in words}),
        "caption_lengths": {
            "min": min(lengths),
            "mean": round(mean(lengths), 2),
            "median": median(lengths),
            "max": max(lengths),
        },
        "categories": dict(Counter(str(c.fields["category"]) for c in usable if "category" in c.fields).most_common()),
        "splits": {split: counts(part) for split, part in found.items()},
        "undecodable_files": {name: why for part in found.values() for name, why in part.undecodable.items()},
        "cleaned": asdict(cleaned) if cleaned else None,
    }


def counts(part: Found) -> dict[str, int]:
    bad = {"missing": len(part.missing), "undecodable": len(part.undecodable), "uncaptioned": len(part.uncaptioned)}
    return {"videos": len(part.usable), "captions": sum(len(clip.captions) for clip in part.usable), **bad}


def same_files(found: Mapping[Split, Found]) -> list[list[tuple[Split, str]]]:
    """Split and id of clips whose files hold the same bytes; only files of one size are read for it."""
    by_size: dict[int, dict[tuple[Split, Path], str]] = defaultdict(dict)
    for split, part in found.items():
        for clip in part.usable:
            if clip.path:  # a file that a split has several times, as more than one item, is no copy
                by_size[clip.path.stat().st_size].setdefault((split, clip.path), clip.id)
    groups: dict[bytes, list[tuple[Split, str]]] = defaultdict(list)
    for places in by_size.values():
        for (split, path), name in places.items() if len(places) > 1 else ():
            with path.open("rb") as file:
                groups[hashlib.file_digest(file, "sha256").digest()].append((split, name))
    return [group for group in groups.values() if len(group) > 1]


def listing(clips: Sequence[Clip], out: Path) -> str:
    """JSONL with the files relative to `out`, links in their folders followed: `..` leads out of where a link ends."""
    base = os.path.realpath(out)
    rows = []
    for clip in clips:
        if clip.path:
            file = os.path.relpath(Path(os.path.realpath(clip.path.parent), clip.path.name), base)
            rows.append({"id": clip.id, "file": file, "captions": clip.captions, **clip.fields})
    return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)


def write_all(files: Mapping[Path, str]) -> None:
    """Every file under a temporary name, then each under its own. Raises OutputError, with nothing changed."""
    with ExitStack() as parts:
        for path, text in files.items():
            parts.enter_context(whole_file(path)).write_text(text, encoding="utf-8")
