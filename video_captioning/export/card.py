"""`bundle.json` → the model card that the hub shows: what the model is, how to run it, what it was held to."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from huggingface_hub import ModelCardData

from video_captioning.bundle import Bundle
from video_captioning.errors import printable

HUB_LICENCES = {
    *("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "isc", "zlib", "unlicense", "wtfpl", "cc0-1.0"),
    *("cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0"),
    *("gpl-2.0", "gpl-3.0", "lgpl-2.1", "lgpl-3.0", "agpl-3.0", "mpl-2.0", "epl-2.0", "eupl-1.2", "openrail"),
}
"""Identifiers that the hub knows, of those a model is likely to have; it refuses others except as `other`."""


def model_card(bundle: Bundle, repo: str) -> str:
    """README.md of the repository `repo`, OWNER/NAME: YAML for the hub, then Markdown for people."""
    name, folder = cell(bundle.name), f"models/{repo.partition('/')[2]}"
    return f"""---
{front_matter(bundle.licence)}
---

# {name}

Says in one English sentence what is to be seen in a short video.

The bundle of a model `{bundle.kind}`, version {cell(bundle.version)}, {bundle.bytes / 1e6:.1f} MB: three ONNX graphs, a
tokenizer and `bundle.json`, which holds the SHA-256 of each. `vidcap` runs it on an ordinary CPU, without torch.

## Use
```
pip install 'vidcap[hub]'
vidcap bundle pull {repo} {folder}
vidcap caption --model {folder} clip.mp4
```

```python
import video_captioning

captioner = video_captioning.load("{folder}")
print(captioner("clip.mp4").text)
```

`--revision COMMIT` pins what is pulled.

## What it looks at and how it words
{block({"preprocess": bundle.preprocess, "sampling": asdict(bundle.sampling), "decoding": asdict(bundle.decoding)})}

The encoder takes frames as `uint8` RGB; `mean` and `std` are inside it.

## Scores
{table(bundle.scores) or "None are stated."}

## Parity
What the ONNX graphs say against torch: clips compared, captions that are the same, the largest differences.

{table(bundle.parity) or "None is stated."}
{quantization(bundle.quantization)}
## Made by
{block({key: value for key, value in bundle.made_by.items() if key != "config"})}

The whole configuration is in `bundle.json`.

## Licence
{cell(bundle.licence)}
"""


def front_matter(licence: str) -> str:
    """What the hub files the model under, as YAML."""
    known = licence.lower() in HUB_LICENCES
    data = ModelCardData(
        language="en",
        license=licence.lower() if known else "other",
        license_name=None if known else slug(licence),
        library_name="vidcap",
        pipeline_tag="video-text-to-text",
        tags=["video-captioning", "onnx"],
    )
    return data.to_yaml()


def slug(text: str) -> str:
    """Lower-case letters, digits, dots and hyphens, which is what the hub takes as a name."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-") or "not-stated"


def table(values: Mapping[str, Any]) -> str:
    """A row for each name; its mapping gives the columns, and any other value stands alone. Empty without values."""
    rows = {name: value if isinstance(value, Mapping) else {"": value} for name, value in values.items()}
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    if not columns:
        return ""
    lines = [["", *columns], ["---"] * (len(columns) + 1)]
    lines += [[name, *(row.get(column, "") for column in columns)] for name, row in rows.items()]
    return "\n".join(f"| {' | '.join(map(cell, line))} |" for line in lines)


def quantization(stated: Mapping[str, Any]) -> str:
    """A section on int8; empty where none was measured."""
    if not stated:
        return ""
    rows = {str(place): row for place, row in enumerate(stated["rows"], 1)}
    return f"""
## Int8
Candidates beside float32; the bundle is number {stated["chosen"] + 1}. Milliseconds and speeds are of one thread of
{cell(stated["processor"])}, captions of {stated["clips"]} clips.

{table(rows)}
"""


def block(values: Mapping[str, Any]) -> str:
    """As `bundle.json` has it."""
    return f"```json\n{json.dumps(values, indent=2, ensure_ascii=False)}\n```"


def cell(value: object) -> str:
    """One line of plain text: whatever a bundle says cannot break out of its place in the card."""
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return re.sub(r"([\\`*_{}\[\]<>#|])", r"\\\1", " ".join(printable(text).split()))
