"""Tiny checkpoints of all three models, one of them with concepts, too; with random weights."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from tests import tiny
from video_captioning.export.onnx import export
from video_captioning.models import checkpoint as checkpoints
from video_captioning.models import registry

CONCEPTS = "advanced_concepts"
KINDS = ("baseline", "attention", "advanced", CONCEPTS)


@cache
def checkpoint(kind: str) -> Path:
    """As `tiny.checkpoint`, of another model."""
    template = tiny.checkpoint()
    if kind == CONCEPTS:
        return tiny.checkpoint(concepts=True)
    if kind == "advanced":
        return template
    other, description = checkpoints.load(template)
    shared = {name: getattr(other.config, name) for name in ("features", "positions", "vocabulary", "max_tokens")}
    own = {"encoder_width": 16, "attention_width": 16} if kind == "attention" else {}
    torch.manual_seed(1)
    model = registry.create(kind, **shared, **own, width=32)
    for parameter in model.parameters():  # so that words depend on the picture and on each other
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.4)
    saved: dict[str, Any] = {"state_dict": {f"model.{name}": value for name, value in model.state_dict().items()}}
    checkpoints.describe(saved, replace(description, kind=kind, model=asdict(model.config)))
    path = template.with_name(f"{kind}.ckpt")
    torch.save(saved, path)
    return path


@cache
def bundle(kind: str) -> Path:
    """The bundle of `checkpoint(kind)`."""
    path = checkpoint(kind)
    folder = path.with_name(f"{kind}-bundle")
    export(path, folder, name=kind)
    return folder
