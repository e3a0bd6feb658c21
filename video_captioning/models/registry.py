"""The models by name."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from video_captioning.models.advanced import Advanced, AdvancedConfig
from video_captioning.models.attention import Attention, AttentionConfig
from video_captioning.models.baseline import Baseline, BaselineConfig
from video_captioning.models.interface import CaptioningModel, Sizes

MODELS: dict[str, tuple[type[Any], type[Sizes]]] = {
    "baseline": (Baseline, BaselineConfig),
    "attention": (Attention, AttentionConfig),
    "advanced": (Advanced, AdvancedConfig),
}


def create(kind: str, **sizes: Any) -> CaptioningModel:
    """A model with random weights.

    Args:
        sizes: fields of its configuration.

    Raises:
        ConfigError: a size out of range.
        KeyError, TypeError: no such model, or no such field.
    """
    model, config = MODELS[kind]
    made: CaptioningModel = model(config(**sizes))
    return made


def size_names(kind: str) -> set[str]:
    """Names of the fields of a model's configuration."""
    return {field.name for field in fields(MODELS[kind][1])}
