"""The listing that the embedded model learns from: people's captions first, machines' and the web's below them.

python scripts/mixture.py ../shared/data .cache/mixture
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

# How often an epoch draws an item. The web's alternative texts are noisy; clips are few and what the model is for.
WEIGHTS = {"flickr8k": 1.0, "coco": 1.0, "web": 0.5, "msrvtt": 5.0, "msvd": 5.0, "panda70m": 3.0}


def rows(listing: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in listing.read_text().splitlines()]


def item(row: dict[str, Any], folder: Path, source: str) -> dict[str, Any]:
    return {"id": row["id"], "file": str(folder.resolve() / row["file"]), "captions": row["captions"]} | {
        "weight": WEIGHTS[source]
    }


def training(data: Path) -> list[dict[str, Any]]:
    """Charades and ActivityNet are left out: six clips whose captions tell a story, not a scene."""
    pictures = [
        item(row, data / source, source)
        for source, listing in (("flickr8k", "train.jsonl"), ("coco", "captions.jsonl"), ("web", "captions.jsonl"))
        for row in rows(data / source / listing)
    ]
    clips = [
        item(row, data / "clips", row["dataset"])
        for row in rows(data / "clips" / "train.jsonl")
        if row["dataset"] in WEIGHTS
    ]
    return pictures + clips


def validation(data: Path) -> list[dict[str, Any]]:
    pictures = [item(row, data / "flickr8k", "flickr8k") for row in rows(data / "flickr8k" / "dev.jsonl")[:400]]
    return pictures + [item(row, data / "clips", row["dataset"]) for row in rows(data / "clips" / "validation.jsonl")]


def main(data: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for name, items in (("train", training(data)), ("validation", validation(data))):
        part = out / f"{name}.part"
        part.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in items))
        part.replace(out / f"{name}.jsonl")
        print(f"{out / name}.jsonl: {len(items)} items, {sum(len(row['captions']) for row in items)} captions")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
