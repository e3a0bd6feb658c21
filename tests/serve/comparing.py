"""Captions over HTTP beside those of a captioner in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from video_captioning.captioner import Captioner


def comparable(caption: dict[str, Any]) -> dict[str, Any]:
    """All of a caption but for what depends on where and when it was made."""
    video = {**caption["video"], "path": Path(caption["video"]["path"]).name}
    return json.loads(json.dumps({**caption, "video": video, "timings": None, "id": None}))


def rounded(value: Any) -> Any:
    """Numbers without their last digits: in another batch matrices have other shapes, and sums another order."""
    if isinstance(value, dict):
        return {name: rounded(each) for name, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return pytest.approx(value, abs=1e-4) if isinstance(value, float) else value


def local(captioner: Captioner, path: Path, **options: Any) -> dict[str, Any]:
    return rounded(comparable(captioner(path, **options).to_dict()))
