"""A tiny bundle of each kind of model."""

import json
import shutil
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from tests import tiny
from video_captioning import bundle
from video_captioning.export.onnx import write_graphs
from video_captioning.models.backbone import Backbone
from video_captioning.models.registry import create

ADVANCED = {"heads": 2, "encoder_layers": 1, "decoder_layers": 2, "feedforward": 32}
SIZES: dict[str, dict[str, Any]] = {
    "baseline": {},
    "attention": {"encoder_width": 16, "attention_width": 8},
    "advanced": ADVANCED,
    "advanced_concepts": ADVANCED | {"concepts": 9, "concept_slots": 3},
}
_ROOT = TemporaryDirectory(prefix="vidcap-tests-")


@cache
def of_kind(kind: str) -> Path:
    """`tiny.bundle()` with the graphs of a model of this kind, one of SIZES, with random weights."""
    folder = shutil.copytree(tiny.bundle(), Path(_ROOT.name) / kind)
    backbone = Backbone(str(tiny.backbone()), grid=2)
    sizes = {"features": backbone.width, "positions": backbone.positions, "vocabulary": len(tiny.tokenizer())}
    torch.manual_seed(1)
    model = create(kind.partition("_")[0], **sizes, width=32, max_tokens=20, **SIZES[kind])
    for parameter in model.parameters():  # so that words depend on the picture and on each other
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.4)
    graphs = write_graphs(folder, backbone, model.eval())
    manifest = json.loads((folder / bundle.MANIFEST).read_text()) | {"kind": kind.partition("_")[0], "graphs": graphs}
    del manifest["schema_version"], manifest["files"]
    bundle.write_manifest(folder, manifest)
    return folder
