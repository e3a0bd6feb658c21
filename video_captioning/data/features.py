"""Fill the feature store: decode, pack the frames of many files into one backbone call, write, go on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from video_captioning.data.items import Item
from video_captioning.data.store import FeatureStore, feature_key
from video_captioning.errors import MediaError, MissingFileError
from video_captioning.frames import Resize, Sampling, sample
from video_captioning.models.backbone import Backbone

FRAMES_PER_CALL = 32
CALLS_PER_TRANSACTION = 8


@dataclass
class Extraction:
    """Keys of the items whose features are in the store, and what was wrong with the others."""

    keys: dict[Path, bytes] = field(default_factory=dict)
    errors: list[MediaError] = field(default_factory=list)


def extract(
    items: Sequence[Item], backbone: Backbone, sampling: Sampling, store: FeatureStore, progress: Any = iter
) -> Extraction:
    """Make sure that the store holds the features of every item; what it holds already is not made again.

    Args:
        progress: wraps the items while they are walked, as `rich.progress.track` does.
    """
    found = Extraction()
    resize = Resize(**backbone.resize)
    pending: list[tuple[bytes, np.ndarray]] = []
    for item in progress(items):
        try:
            if not item.path.is_file():  # reading a pipe could wait for ever
                raise MissingFileError(item.path, "is missing or no regular file", "check the name")
            key = feature_key(item.path, backbone.identity, sampling, resize)
            if key not in store:
                pending.append((key, sample(item.path, sampling, resize).pixels))
            found.keys[item.path] = key
        except (MediaError, OSError) as error:
            found.errors.append(error if isinstance(error, MediaError) else unreadable(item.path, error))
        if sum(len(pixels) for _, pixels in pending) >= FRAMES_PER_CALL * CALLS_PER_TRANSACTION:
            store.put(dict(encode(backbone, pending)))
            pending = []
    if pending:
        store.put(dict(encode(backbone, pending)))
    return found


@torch.inference_mode()
def encode(backbone: Backbone, clips: Sequence[tuple[bytes, np.ndarray]]) -> Iterator[tuple[bytes, np.ndarray]]:
    """Features of several clips; all frames of all clips go through the backbone in full batches."""
    frames = torch.from_numpy(np.concatenate([pixels for _, pixels in clips]))
    device = next(backbone.parameters()).device
    features = torch.cat([backbone(part.to(device)).half().cpu() for part in torch.split(frames, FRAMES_PER_CALL)])
    for (key, _), part in zip(clips, torch.split(features, [len(pixels) for _, pixels in clips]), strict=True):
        yield key, part.numpy()


def unreadable(path: Path, error: OSError) -> MediaError:
    return MissingFileError(path, f"cannot be read ({error.strerror})", "check the name and the permissions")
