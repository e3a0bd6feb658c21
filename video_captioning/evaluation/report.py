"""An evaluation as files: a page for people, and JSON beside it for programs."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from video_captioning import __version__
from video_captioning.captioner import Caption
from video_captioning.data.items import Item
from video_captioning.data.thumbnails import Thumbnail, thumbnails
from video_captioning.errors import MediaError
from video_captioning.evaluation.evaluate import Evaluation
from video_captioning.metrics.tables import varied

PICTURED = 25  # best, and as many worst; with the frames of all 3,000 items of a test set a page would be too large
REPEATED = 12  # sentences that were said more than once
SHOWN = ("BLEU-4", "METEOR", "ROUGE-L", "CIDEr-D")  # of each item, where they were measured
RANKED_BY = "CIDEr-D"
RELIABILITY = (
    "How often it is right beside how sure it is, in bins that hold equally many. A sentence counts as right if "
    "references use at least half of its content words, a word if one uses it."
)


@dataclass(frozen=True)
class Row:
    """One item: what people and the model said of it, and what that scored."""

    item: Item
    caption: Caption
    scores: dict[str, float]


def written(evaluation: Evaluation, data: str, command: str) -> dict[str, str]:
    """The text of each file by its name.

    - `report.html`: stands alone; decodes the clips of best, worst and repeated captions once more, for their frames.
    - `scores.json`: what was evaluated and how, scores, intervals, diversity, ids that failed.
    - `captions.jsonl`: a `Caption.to_dict()` a line, with `id`, `references` and `scores`.
    - `refs.json`, `hyps.json`: as `vidcap score` and the COCO caption tool read them.

    Args:
        data: what is said of where the items come from.
        command: what made the evaluation.
    """
    return {
        "report.html": page(evaluation, data, command),
        "scores.json": scores_json(evaluation, data, command),
        "captions.jsonl": "".join(json.dumps(line(row)) + "\n" for row in rows(evaluation)),
        "refs.json": json.dumps(evaluation.references),
        "hyps.json": json.dumps(evaluation.hypotheses, indent=1),
    }


def scores_json(evaluation: Evaluation, data: str, command: str) -> str:
    about = {"data": data, "command": command, "vidcap": __version__}
    return json.dumps(evaluation.to_dict() | about, indent=2) + "\n"


def rows(evaluation: Evaluation) -> list[Row]:
    segments = {name: values.tolist() for name, values in evaluation.scores.segments.items()}
    return [
        Row(item, caption, {name: values[index] for name, values in segments.items()})
        for index, (item, caption) in enumerate(zip(evaluation.items, evaluation.captions, strict=True))
    ]


def line(row: Row) -> dict[str, Any]:
    return {"id": row.item.id, **row.caption.to_dict(), "references": row.item.captions, "scores": row.scores}


def page(evaluation: Evaluation, data: str, command: str) -> str:
    """The report as HTML."""
    template = Template((files("video_captioning.evaluation") / "report.html").read_text(encoding="utf-8"))
    model = evaluation.captions[0].model
    found = rows(evaluation)
    ranked = sorted(found, key=lambda row: row.scores[RANKED_BY], reverse=True)
    half = min(PICTURED, (len(found) + 1) // 2)  # of few items, each is shown once
    sections = {
        "Best": (f"The highest {RANKED_BY}.", cards(ranked[:half])),
        "Worst": (f"The lowest {RANKED_BY}, the worst first.", cards(ranked[half:][::-1][:PICTURED])),
        "Confidence": (RELIABILITY, reliability(evaluation)),
        "Most repeated": ("What was said of several items, and one frame of some of them.", repeated(found)),
        "Not captioned": ("These are not in the scores.", failures(evaluation)),
    }
    kept = {title: section for title, section in sections.items() if section[1]}
    shuffled = ", each with the caption of the next item" if evaluation.shuffled else ""
    about = {
        "model": f"{model.name} {model.version}, bundle {model.sha256[:12]}",
        "data": data + shuffled,
        "decoding": settings(asdict(evaluation.decoding)),
        "frames": settings(asdict(evaluation.sampling)),
        "command": command,
    }
    return template.substitute(
        title=text(f"{model.name} on {data}"),
        about=definitions(about),
        nav="".join(f'<a href="#{anchor(title)}">{title}</a>' for title in [*kept, "All"]),
        scores=score_rows(evaluation),
        diversity=definitions(varied(evaluation.scores) | truth(evaluation)),
        sections="".join(
            f'<h2 id="{anchor(title)}">{title}</h2><p>{note}</p>{body}' for title, (note, body) in kept.items()
        ),
        count=len(found),
        columns="".join(f'<th class="number"><button>{name}</button>' for name in shown(found[0])),
        rows="\n".join(table_row(row) for row in found),
    )


def truth(evaluation: Evaluation) -> dict[str, str]:
    """What is true of what was said, in words."""
    found = evaluation.support
    told = {
        "content words supported": f"{found.share:.1%} of {sum(found.words)}",
        "captions, all supported": str(found.all),
        "captions, none supported": str(found.none),
    }
    if evaluation.tags:
        told["average precision of tags"] = f"{evaluation.tags.mean:.3f}, mean of {evaluation.tags.items}"
    errors = {of: f"{one.error:.3f}" for of, one in evaluation.calibration.items()}
    return told | {f"calibration error, {of}": error for of, error in errors.items()}


def text(value: object) -> str:
    """For HTML; what UTF-8 cannot hold, as an id or a path may have it, is spelt out."""
    return escape(str(value).encode(errors="backslashreplace").decode())


def anchor(title: str) -> str:
    return title.lower().replace(" ", "-")


def settings(fields: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in fields.items() if value not in (None, False))


def definitions(pairs: Mapping[str, object]) -> str:
    """Rows of a `<dl>`."""
    return "".join(f"<dt>{text(name)}<dd>{text(value)}" for name, value in pairs.items())


def failures(evaluation: Evaluation) -> str:
    return f'<div class="wide"><dl>{definitions(evaluation.failed)}</dl></div>' if evaluation.failed else ""


def score_rows(evaluation: Evaluation) -> str:
    """Each score with its interval, drawn on one scale from 0 to the highest end of an interval."""
    scores = evaluation.scores
    scale = max(interval.high for interval in scores.intervals.values()) or 1.0
    lines = []
    for name, value in scores.scores.items():
        low, high = scores.intervals[name].low, scores.intervals[name].high
        places = {"low": low, "at": value, "high": high}
        style = ";".join(f"--{place}:{100 * number / scale:.2f}%" for place, number in places.items())
        lines.append(
            f'<tr><th>{name}<td class="bar"><div class="range" style="{style}"><i></i><b></b></div>'
            f'<td class="number">{value:.4f}<td class="number">[{low:.4f}, {high:.4f}]'
        )
    return "".join(lines)


def reliability(evaluation: Evaluation) -> str:
    """For sentences and for words, a row for each bin: the mark is what was right, the band its distance."""
    tables = []
    for of, found in evaluation.calibration.items():
        lines = []
        for one in found.bins:
            places = {"low": min(one.confidence, one.right), "at": one.right, "high": max(one.confidence, one.right)}
            style = ";".join(f"--{place}:{100 * number:.2f}%" for place, number in places.items())
            lines.append(
                f'<tr><th>{one.low:.2f}\N{EN DASH}{one.high:.2f}<td class="bar"><div class="range" style="{style}">'
                f'<i></i><b></b></div><td class="number">{one.confidence:.3f}<td class="number">{one.right:.3f}'
                f'<td class="number">{one.count}'
            )
        heads = "".join(f'<th class="number">{name}' for name in ("mean", "right", of))
        tables.append(
            f'<div><table><thead><tr><th>confidence<th class="bar">{heads}<tbody>{"".join(lines)}</table></div>'
        )
    return f'<div class="overview">{"".join(tables)}</div>' if tables else ""


def shown(row: Row) -> dict[str, float]:
    values = {name: row.scores[name] for name in SHOWN if name in row.scores}
    return values if row.caption.confidence is None else values | {"confidence": row.caption.confidence}


def cards(chosen: Sequence[Row]) -> str:
    return f'<div class="cards">{"".join(map(card, chosen))}</div>' if chosen else ""


def frames_of(row: Row, count: int) -> list[Thumbnail]:
    """None where the file cannot be read any more: its scores are not lost for that."""
    try:
        return thumbnails(row.item.path, count)
    except MediaError:
        return []


def card(row: Row) -> str:
    values = "".join(f"<span>{name} <b>{value:.3f}</b></span>" for name, value in shown(row).items())
    pictures = frames_of(row, 4)
    still = len(pictures) == 1
    figures = "".join(figure(picture, "" if still else f"{picture.time:.1f} s") for picture in pictures)
    return (
        f'<article><div class="frames{" single" if still else ""}">{figures}</div>'
        f'<h3>{text(row.caption.text)}</h3><div class="values">{values}</div>'
        f"{references(row.item)}<small>{text(row.item.id)}</small></article>"
    )


def figure(picture: Thumbnail, about: str) -> str:
    size = f'width="{picture.width}" height="{picture.height}"'
    return f'<figure><img src="{picture.uri}" {size} alt="frame"><figcaption>{text(about)}</figcaption></figure>'


def references(item: Item) -> str:
    """The first, and the others on a click."""
    first, *others = map(text, item.captions)
    if not others:
        return f"<p>{first}</p>"
    listed = "".join(f"<li>{caption}" for caption in others)
    return f"<details><summary>{first} (and {len(others)} more)</summary><ul>{listed}</ul></details>"


def repeated(found: Sequence[Row]) -> str:
    """The sentences that were said most often, each with a frame of up to four of its items."""
    by_text: dict[str, list[Row]] = defaultdict(list)
    for row in found:
        by_text[row.caption.text].append(row)
    often = sorted((group for group in by_text.values() if len(group) > 1), key=len, reverse=True)[:REPEATED]
    articles = []
    for group in often:
        figures = "".join(figure(picture, row.item.id) for row in group[:4] for picture in frames_of(row, 1))
        share = f"{len(group)} times, {len(group) / len(found):.1%} of the captions"
        articles.append(
            f'<article><div class="frames">{figures}</div><h3>{text(group[0].caption.text)}</h3>'
            f"<small>{share}</small></article>"
        )
    return f'<div class="cards">{"".join(articles)}</div>' if articles else ""


def table_row(row: Row) -> str:
    values = "".join(f'<td class="number">{value:.3f}' for value in shown(row).values())
    return (
        f'<tr><td class="text">{text(row.caption.text)}{references(row.item)}<small>{text(row.item.id)}</small>{values}'
    )
