"""Tiny models with random weights, each made once and kept until the tests end; nothing is fetched."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, ViTConfig, ViTModel

from video_captioning.bundle import MANIFEST, write_manifest
from video_captioning.export import onnx
from video_captioning.frames import Sampling
from video_captioning.models import checkpoint as checkpoints
from video_captioning.models.advanced import NAME_TOKENS, Advanced, AdvancedConfig
from video_captioning.models.backbone import Backbone
from video_captioning.tokenizer import Tokenizer

SIDE = 32  # pixels
VIT = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "image_size": SIDE,
    "patch_size": 8,
}
SQUARE = {"size": {"height": SIDE, "width": SIDE}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 2}
CAPTIONS = ["a red ball rolls over the grass", "two dogs run", "a man in a blue shirt plays the guitar", "the sea"]

CONCEPTS = [
    *({"name": name, "phrase": f"a {name}"} for name in ("ball", "red ball", "dog", "giant panda", "panda", "guitar")),
    *({"name": name, "phrase": ""} for name in ("roll", "running", "blue", "play")),
    {"name": "sea", "phrase": "the sea"},
    {"name": "grass", "phrase": "grass"},
]
SLOTS = 4  # of them stand in the memory
CONFIDENCE = {
    "word": {"bias": 0.5, "logprob": 0.4, "support": 0.7, "known": -0.3},
    "sentence": {"bias": 0.2, "mean": 0.8, "least": 0.3, "logprob": 0.2, "missed": -0.3},
}

_ROOT = TemporaryDirectory(prefix="vidcap-tests-")


def save_backbone(folder: Path, model: PreTrainedModel, settings: dict[str, Any] = SQUARE) -> Path:
    """Write a Hugging Face model with the settings of its preprocessor, as the hub has them."""
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder


def vit(seed: int = 0, **sizes: int) -> ViTModel:
    torch.manual_seed(seed)
    model = ViTModel(ViTConfig(**VIT | sizes))
    for parameter in model.parameters():
        if parameter.ndim > 1:  # as they come, all pictures look alike
            torch.nn.init.normal_(parameter, std=0.2)
    return model


@cache
def backbone() -> Path:
    """The folder of a ViT of 4 x 4 patches and width 32."""
    return save_backbone(Path(_ROOT.name) / "vit", vit())


@cache
def tokenizer() -> Tokenizer:
    return Tokenizer.train(CAPTIONS, 100)


@cache
def checkpoint(
    backbone_folder: Path | None = None, grid: int = 2, layers: tuple[int, ...] = (), *, concepts: bool = False
) -> Path:
    """A checkpoint of the advanced model as training writes it, with random weights; on demand with CONCEPTS."""
    folder = backbone_folder or backbone()
    loaded = Backbone(str(folder), grid=grid, layers=layers)
    torch.manual_seed(1)
    sizes = {"width": 32, "heads": 2, "decoder_layers": 2, "feedforward": 64, "max_tokens": 20}
    named = CONCEPTS if concepts else []
    sizes |= {"concepts": len(named), "concept_slots": SLOTS}
    config = AdvancedConfig(loaded.width, loaded.positions, len(tokenizer()), **sizes)
    model = Advanced(config)
    for parameter in model.parameters():  # so that words depend on the picture and on each other
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.4)
    for place, concept in enumerate(named):
        ids = tokenizer().encode(concept["name"])[:NAME_TOKENS]
        model.concepts.names[place, : len(ids)] = torch.tensor(ids)
    description = checkpoints.Description(
        kind="advanced",
        model=asdict(config),
        backbone={
            "name": str(folder),
            "revision": None,
            "positions": "both",
            "grid": grid,
            "layers": list(layers),
            "identity": loaded.identity,
        },
        sampling=asdict(Sampling(max_frames=4)),
        tokenizer=tokenizer().model,
        config={"seed": 1},
        data="0" * 64,
        commit=None,
        concepts=named,
    )
    saved: dict[str, Any] = {"state_dict": {f"model.{name}": value for name, value in model.state_dict().items()}}
    checkpoints.describe(saved, description)
    path = Path(_ROOT.name) / f"{folder.name}{''.join(map(str, layers))}{'-concepts' * concepts}.ckpt"
    torch.save(saved, path)
    return path


def bundle(*, concepts: bool = False) -> Path:
    """The bundle of `checkpoint(concepts=concepts)`."""
    return _bundle(concepts)


@cache
def _bundle(concepts: bool) -> Path:
    folder = Path(_ROOT.name) / ("bundle-concepts" if concepts else "bundle")
    onnx.export(checkpoint(concepts=concepts), folder, name="tiny", command="pytest")
    return folder


@cache
def sure_bundle() -> Path:
    """A bundle with concepts, calibrated so that a clip has some tags, and with confidence."""
    folder = Path(shutil.copytree(bundle(concepts=True), Path(_ROOT.name) / "sure"))
    state(folder, lambda manifest: manifest["concepts"].update(scale=0.5, shift=0.25, threshold=0.6))
    state(folder, lambda manifest: manifest.update(name="sure", confidence=CONFIDENCE))
    return folder


def state(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Make a bundle state something else, as whoever made it would."""
    manifest = json.loads((folder / MANIFEST).read_text())
    edit(manifest)
    del manifest["schema_version"], manifest["files"]
    write_manifest(folder, manifest)


def pictures(count: int, seed: int = 0, size: tuple[int, int] = (96, 128)) -> list[np.ndarray]:
    """Pictures of large coloured blocks, uint8 `[height, width, 3]`, none like another."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    height, width = size
    return [np.ascontiguousarray(block.repeat(height // 4, 0).repeat(width // 4, 1)) for block in blocks]
