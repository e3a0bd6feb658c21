"""Sets of real captions."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from tests.captions import Set, from_people


@pytest.fixture(scope="session")
def msrvtt(shared: Path) -> Set:
    """MSR-VTT's test videos, 2,990 with 19 references."""
    with gzip.open(shared / "data" / "msrvtt" / "test_videodatainfo.json.gz") as file:
        sentences = json.load(file)["sentences"]
    captions: dict[str, list[str]] = {}
    for row in sentences:
        captions.setdefault(row["video_id"], []).append(row["caption"])
    return from_people(captions)


@pytest.fixture(scope="session")
def flickr8k(shared: Path) -> Set:
    """Flickr8k's pictures of both splits, 7,000 with 4 references."""
    rows = [
        json.loads(line)
        for split in ("train", "dev")
        for line in (shared / "data" / "flickr8k" / f"{split}.jsonl").read_text().splitlines()
    ]
    return from_people({row["id"]: row["captions"] for row in rows})
