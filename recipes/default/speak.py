"""The decoder learns to speak: pictures, clips and sentences alone, then what people agree on is rewarded."""

from __future__ import annotations

from pathlib import Path

from video_captioning.training.run import train


def fit(folder: Path, name: str, initial: Path, listing: str, *overrides: str) -> Path:
    """Train, or go on with, the decoder on the features of the encoder; its last checkpoint."""
    return train(
        "advanced",
        [
            f"dataset.train={folder}/{listing}.jsonl",
            f"dataset.validation={folder}/validation.jsonl",
            f"model.backbone.name={folder}/seen/encoder",
            "model.backbone.grid=4",
            "model.backbone.precision=bfloat16",
            f"training.initial={initial}",
            "training.batch_size=32",
            f"training.store={folder}/features",
            f"out={folder / name}",
            *overrides,
        ],
    )


def speak(folder: Path, initial: Path) -> Path:
    """Cross-entropy on everything, from the decoder that the encoder learned with."""
    return fit(
        folder,
        "spoken",
        initial,
        "train",
        f"dataset.text={folder}/text.txt",
        "training.max_epochs=3",
        "training.captions_per_clip=4",
        "training.learning_rate=6e-4",
        "training.warmup=0.04",
        "training.consensus=0.3",
        "training.text=0.5",
        "training.concept_noise=1.0",
        "training.precision=bf16-mixed",
    )


def reward(folder: Path, initial: Path) -> Path:
    """Self-critical training on what several captions describe."""
    return fit(
        folder,
        "rewarded",
        initial,
        "references",
        "training=scst",
        "training.max_epochs=2",
        "training.learning_rate=1e-4",
        "training.temperature=0.6",
        "training.unfounded_penalty=0.5",
        "training.cross_entropy=0.2",
    )
