"""Checkpoint → the committed bundle: int8, calibrated, scored, and the float weights beside it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from recipes.default.calibrate import calibrate
from recipes.default.sources import VALIDATION
from video_captioning import bundle
from video_captioning.data.items import Item, read_folder
from video_captioning.decoding import Decoding
from video_captioning.evaluation.evaluate import evaluate
from video_captioning.export.onnx import export

BUNDLE = Path(__file__).resolve().parents[2] / "video_captioning" / "bundles" / "default"
FLOAT = Path(__file__).resolve().parent / "float"
COMMAND = "python -m recipes.default"
SEARCH = Decoding(beam=8, no_repeat_ngram=3, consensus=1.0, support=2.0)
"""Chosen on the validation sets."""


def held(data: Path) -> dict[str, list[Item]]:
    """What is measured and calibrated on, by the name of its listing."""
    return {name.removesuffix(".jsonl"): read_folder(data / folder / name) for folder, name in VALIDATION}


def finish(data: Path, checkpoint: Path, work: Path) -> Path:
    """Make the bundle of a checkpoint; returns its folder."""
    sets = held(data)
    clips = {item.path: item.captions for item in sets["validation"]}
    made = work / "bundle"
    shutil.rmtree(made, ignore_errors=True)
    known: dict[str, Any] = {"name": "default", "command": COMMAND, "decoding": SEARCH}
    export(checkpoint, made, int8=True, clips=list(clips), references=clips, **known)
    calibrate(made, [*sets["dev"][:300], *sets["validation"], *sets["more_validation"]], SEARCH)
    state(made, sets)
    return made


def state(folder: Path, sets: dict[str, list[Item]]) -> None:
    """Write what the bundle scores on each set into it."""
    scores = {}
    for name, items in sets.items():
        found = evaluate(folder, items)
        scores[name] = {metric: round(value, 4) for metric, value in found.scores.scores.items()}
        scores[name] |= {"content words supported": round(found.support.share, 4)}
    manifest = json.loads((folder / bundle.MANIFEST).read_text())
    manifest["scores"] = scores
    bundle.write_manifest(folder, manifest)


def embed(made: Path, checkpoint: Path, encoder: Path) -> None:
    """Put the bundle into the package, and encoder and decoder as floats of 16 bits beside this recipe."""
    shutil.rmtree(BUNDLE, ignore_errors=True)
    shutil.copytree(made, BUNDLE)
    shutil.rmtree(FLOAT, ignore_errors=True)
    shutil.copytree(encoder, FLOAT / "encoder")
    saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
    weights = {name: v.half() if v.is_floating_point() else v for name, v in saved["state_dict"].items()}
    saved["vidcap"]["backbone"]["name"] = str((FLOAT / "encoder").relative_to(BUNDLE.parents[2]))
    torch.save({"vidcap": saved["vidcap"], "state_dict": weights}, FLOAT / "decoder.ckpt")
