"""A checkpoint describes itself: it loads without the config tree and without the code that made the data."""

from __future__ import annotations

import base64
import os
import subprocess
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from video_captioning.errors import CheckpointError, ConfigError
from video_captioning.models import registry
from video_captioning.models.interface import CaptioningModel

VERSION = 1


@dataclass(frozen=True)
class Description:
    """What a checkpoint says of itself, beside its weights."""

    kind: str
    """Name of the model: `baseline`, `attention` or `advanced`."""
    model: dict[str, Any]
    """Fields of the model's config."""
    backbone: dict[str, Any]
    """How to load the backbone, and its identity."""
    sampling: dict[str, Any]
    tokenizer: bytes
    config: dict[str, Any]
    """The whole resolved configuration of the run."""
    data: str
    """SHA-256 over the training items' feature keys and captions."""
    commit: str | None
    concepts: list[dict[str, str]] = field(default_factory=list)
    """`name` and `phrase` of each concept that the model tells of, in the order of its logits."""


def describe(checkpoint: dict[str, Any], description: Description) -> None:
    """Write the description into a checkpoint that is about to be saved."""
    fields = asdict(description)
    fields["tokenizer"] = base64.b64encode(description.tokenizer).decode()
    checkpoint["vidcap"] = {"version": VERSION, **fields}


def load(path: str | Path) -> tuple[CaptioningModel, Description]:
    """The model, in evaluation mode, and its description.

    Raises:
        CheckpointError: missing, truncated, not one of ours, or of a newer version.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(path, "no such checkpoint", "give the .ckpt file of a run") from error
    except Exception as error:  # damaged bytes make torch raise almost any class
        raise CheckpointError(path, "cannot be read, perhaps cut short", "use another checkpoint of the run") from error
    try:
        fields = dict(checkpoint["vidcap"]) if isinstance(checkpoint, dict) else {}
        newer = fields.pop("version") > VERSION
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(path, "is not a checkpoint of vidcap", "give the .ckpt file of `vidcap train`") from error
    if newer:
        raise CheckpointError(path, "was written by a newer vidcap", "upgrade vidcap")
    try:
        fields["tokenizer"] = base64.b64decode(fields["tokenizer"])
        description = Description(**fields)
        model = registry.create(description.kind, **description.model)
        prefix = "model."
        model.load_state_dict(
            {k.removeprefix(prefix): v for k, v in checkpoint["state_dict"].items() if k.startswith(prefix)}
        )
    except (KeyError, TypeError, ValueError, RuntimeError, ConfigError) as error:
        raise CheckpointError(
            path, "lacks or misstates a part of itself", "use another checkpoint of the run"
        ) from error
    return model.eval(), description


def current_commit() -> str | None:
    """The commit that the code was run from, if it was run from a checkout."""
    try:
        answer = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            env=os.environ | {"GIT_OPTIONAL_LOCKS": "0"},
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None if answer.returncode == 0 else None
