"""A model on a listing's items → captions, scores with intervals, and what could not be captioned."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from video_captioning.captioner import Caption, Captioner
from video_captioning.data.items import Item
from video_captioning.decoding import Decoding, Floats
from video_captioning.errors import DataError, MediaError, VidcapError
from video_captioning.evaluation.calibration import Calibration, of_sentences, of_words
from video_captioning.evaluation.support import Support, support
from video_captioning.evaluation.tags import Precision, precision
from video_captioning.frames import Sampling
from video_captioning.metrics.score import USUAL, Scores, score


@dataclass(frozen=True)
class Evaluation:
    """What a model said of some items, and what that scored."""

    items: tuple[Item, ...]
    """Those that were captioned, in the order in which they were given."""
    captions: tuple[Caption, ...]
    """One an item; where `shuffled`, that of the next item, whose clip `Caption.video` names."""
    scores: Scores
    """By the ids of the items, in the same order."""
    failed: dict[str, MediaError]
    """Ids of the items that could not be captioned, and why."""
    sampling: Sampling
    decoding: Decoding
    shuffled: bool
    support: Support
    """Of the content words of the captions."""
    tags: Precision | None
    """Of the concepts; None of a model without."""
    calibration: dict[str, Calibration]
    """Of the confidence of `sentences` and of content `words`; empty of a model without, or that said none."""

    @property
    def references(self) -> dict[str, list[str]]:
        return {item.id: list(item.captions) for item in self.items}

    @property
    def hypotheses(self) -> dict[str, str]:
        return {item.id: caption.text for item, caption in zip(self.items, self.captions, strict=True)}

    def to_dict(self) -> dict[str, Any]:
        """What can be written as JSON: everything but what is known of single items."""
        return {
            **self.scores.to_dict(),
            "failed": {name: str(error) for name, error in self.failed.items()},
            "model": asdict(self.captions[0].model),
            "sampling": asdict(self.sampling),
            "decoding": asdict(self.decoding),
            "shuffled": self.shuffled,
            "support": self.support.to_dict(),
            "tags": self.tags and self.tags.to_dict(),
            "calibration": {of: found.to_dict() for of, found in self.calibration.items()} or None,
        }


def is_checkpoint(model: str | Path) -> bool:
    """What training resumes from, by its name; anything else is a bundle."""
    return Path(model).suffix == ".ckpt"


def load(model: str | Path) -> Captioner:
    """The captioner of a bundle, or of the bundle that a checkpoint is exported to: what is measured is what ships.

    Raises:
        BundleError, CheckpointError: it is missing, damaged or newer than this vidcap.
        ModuleNotFoundError: a checkpoint, without the optional part 'export'.
    """
    if not is_checkpoint(model):
        return Captioner(model)
    from video_captioning.export.onnx import export

    with TemporaryDirectory(prefix="vidcap-") as folder:
        bundle = Path(folder) / "bundle"
        export(model, bundle, name=Path(model).stem)
        return Captioner(bundle)  # it holds all that it needs, so that the folder can go


def evaluate(
    model: Captioner | str | Path,
    items: Sequence[Item],
    decoding: Decoding | None = None,
    shuffle: bool = False,
    *,
    sampling: Sampling | None = None,
    metrics: Collection[type[Any]] = USUAL,
    advance: Callable[[], object] = lambda: None,
) -> Evaluation:
    """Caption items and score what was said against their references.

    Args:
        model: a captioner, a bundle (its folder, or the name of one that ships) or a checkpoint (`.ckpt`).
        items: with ids that differ.
        decoding, sampling: the bundle's own unless given.
        shuffle: give each item the caption of the next one: what a model scores that does not look.
        metrics: those of `metrics.score.NAMES` that are wanted.
        advance: is called after each item.

    Raises:
        DataError: two items with one id.
        VidcapError: nothing could be captioned, or the model or a metric cannot be had.
    """
    check_ids(items)
    captioner = model if isinstance(model, Captioner) else load(model)
    decoding, sampling = decoding or captioner.bundle.decoding, sampling or captioner.bundle.sampling
    concepts = captioner.bundle.concepts
    captioned: list[Item] = []
    captions: list[Caption] = []
    seen: list[Floats] = []
    failed: dict[str, MediaError] = {}
    made = captioner.examined([item.path for item in items], sampling=sampling, decoding=decoding)
    for item, found in zip(items, made, strict=True):
        if isinstance(found, MediaError):
            failed[item.id] = found
        else:
            captioned.append(item)
            captions.append(found.caption)
            if concepts and found.concepts is not None:
                seen.append(concepts.calibrated(found.concepts))
        advance()
    if not captions:
        raise VidcapError(f"nothing could be captioned: {next(iter(failed.values()), 'there are no items')}")
    if shuffle:
        captions, seen = captions[1:] + captions[:1], seen[1:] + seen[:1]
    references = {item.id: item.captions for item in captioned}
    hypotheses = {item.id: caption.text for item, caption in zip(captioned, captions, strict=True)}
    supported = support(references, hypotheses)
    wanted = list(references.values())
    calibrated = {"sentences": of_sentences(captions, supported), "words": of_words(captions, wanted)}
    return Evaluation(
        tuple(captioned),
        tuple(captions),
        score(references, hypotheses, metrics=metrics),
        failed,
        sampling,
        decoding,
        shuffle,
        supported,
        precision(concepts, np.stack(seen), wanted) if concepts and seen else None,
        {of: found for of, found in calibrated.items() if found},
    )


def check_ids(items: Sequence[Item]) -> None:
    known: dict[str, Item] = {}
    for item in items:
        other = known.setdefault(item.id, item)
        if other is not item:
            raise DataError(item.path, f"has the id {item.id}, which {other.path} has too", "give each one of its own")
