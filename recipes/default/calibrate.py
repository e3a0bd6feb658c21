"""How sure the model may be: concepts and confidence, fitted on the validation sets and written into the bundle.

A word is right where a reference uses it, a concept where enough of them do, a sentence where at least half of its
content words are right. Logistic regressions tell how likely that is; fitting them on four fifths and measuring on the
rest, in turn, tells how well (the figures of the model card).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize

from video_captioning import bundle
from video_captioning.captioner import Captioner
from video_captioning.concepts import Concepts, probability, sigmoid
from video_captioning.confidence import Confidence, Evidence, Judge, SentenceTerms, WordTerms
from video_captioning.data.items import Item
from video_captioning.decoding import Decoding
from video_captioning.evaluation.tags import spoken_of
from video_captioning.frames import sample
from video_captioning.words import content_stems, stems

BATCH = 16
PRECISION = 0.45
"""Of the tags that are shown this share, at least, is named by a reference; more are true."""
SHOWN = 100
"""Tags, at least, over which that share is taken: of a few it is chance."""
RIDGE = 1e-3
FOLDS = 5

Array = np.ndarray[Any, Any]


@dataclass
class Observations:
    """What the model found on validation items, and what of it was right."""

    logits: list[Array] = field(default_factory=list)
    """Mean over the frames of each item, `[C]`."""
    named: list[Array] = field(default_factory=list)
    """Which concepts its references name, bool `[C]`."""
    moving: list[bool] = field(default_factory=list)
    """Is the item a clip, and no picture?"""
    words: list[list[tuple[float, float | None, bool]]] = field(default_factory=list)
    """Of each content word of each hypothesis: log-probability, mean logit of the concept that it names (None without
    one), and whether a reference uses it."""
    logprobs: list[float] = field(default_factory=list)
    """Mean log-probability of each hypothesis's tokens."""
    missed: list[float] = field(default_factory=list)
    """Logit of the surest thing that each hypothesis does not name, mean over the frames."""
    owners: list[int] = field(default_factory=list)
    """Number of the item of each hypothesis."""


def observe(captioner: Captioner, items: Sequence[Item], decoding: Decoding) -> Observations:
    """Everything that the search ends with, for each item."""
    found = Observations()
    concepts = captioner.bundle.concepts
    assert concepts is not None
    names = [frozenset(stems(name)) for name in concepts.names]
    judge = Judge(captioner.tokenizer, replace(concepts, scale=1.0, shift=0.0), None)
    for at in range(0, len(items), BATCH):
        part = items[at : at + BATCH]
        clips = [sample(item.path, captioner.bundle.sampling, captioner.bundle.resize).pixels for item in part]
        features, mask = captioner.runtime.encode(clips)
        memory, state = captioner.runtime.remember(features, mask)
        searched = judge.search(captioner.runtime.step, state, memory, mask, decoding, whole=True)
        for number, (item, one) in enumerate(zip(part, searched, strict=True)):
            assert one.logits is not None
            used = {s for caption in item.captions for s in stems(caption)}
            found.logits.append(one.logits.mean(0))
            found.named.append(spoken_of(names, item.captions))
            found.moving.append(len(one.logits) > 1)
            for told in one.said:
                evidence = judge.evidence(told.hypothesis, one.logits)
                texts = [text for text, _ in captioner.tokenizer.words(told.hypothesis.tokens)]
                found.words.append(
                    [
                        (each.logprob, each.support if each.known else None, content_stems(text)[-1] in used)
                        for text, each in zip(texts, evidence, strict=True)
                        if each is not None
                    ]
                )
                found.logprobs.append(told.hypothesis.mean_logprob)
                score = judge.missed(told.hypothesis, one.logits)
                found.missed.append(float(np.log(score) - np.log1p(-score)))
                found.owners.append(at + number)
    return found


def logistic(features: Array, right: Array, weights: Array | None = None) -> Array:
    """Coefficients `[F]` of a ridge logistic regression on features `[N, F]`, the first of them all one."""
    signs = np.where(right, 1.0, -1.0)
    weights = np.ones(len(right)) if weights is None else weights

    def loss(coefficients: Array) -> tuple[float, Array]:
        margins = signs * (features @ coefficients)
        value = (weights * np.logaddexp(0, -margins)).sum() / weights.sum() + RIDGE * (coefficients[1:] ** 2).sum()
        pull = -(weights * signs / (1 + np.exp(np.clip(margins, -50, 50)))) @ features / weights.sum()
        return value, pull + 2 * RIDGE * np.r_[0.0, coefficients[1:]]

    made: Array = minimize(loss, np.zeros(features.shape[1]), jac=True, method="L-BFGS-B").x
    return made


def fit_concepts(found: Observations, concepts: Concepts) -> Concepts:
    """Scale and shift by which scores are probabilities, and the threshold at which enough tags are right."""
    logits, right = np.concatenate(found.logits), np.concatenate(found.named)
    shift, scale = logistic(np.stack([np.ones_like(logits), logits], 1), right)
    scores = sigmoid(scale * logits + shift)
    order = np.argsort(-scores)
    precision = right[order].cumsum() / np.arange(1, len(order) + 1)
    enough = np.flatnonzero(precision[SHOWN:] >= PRECISION)
    threshold = float(scores[order[SHOWN + enough[-1]]]) if len(enough) else 0.5
    return replace(concepts, scale=float(scale), shift=float(shift), threshold=round(threshold, 3))


def fit_confidence(found: Observations, concepts: Concepts, chosen: Array) -> Confidence:
    """Coefficients from the hypotheses `chosen` (numbers); each item counts the same.

    Words are judged in pictures, too; sentences in clips alone, if there are any: that is what they are for.
    """
    counts = np.bincount([found.owners[i] for i in chosen], minlength=len(found.logits))
    rows, right, weights = [], [], []
    for i in chosen:
        for logprob, support, used in found.words[i]:
            rows.append([1.0, *map(float, evidence(concepts, logprob, support))])
            right.append(used)
            weights.append(1 / counts[found.owners[i]])
    word = WordTerms(*logistic(np.array(rows), np.array(right), np.array(weights)).tolist())
    partly = Confidence(word, SentenceTerms(0.0, 0.0, 0.0, 0.0))
    with_words = sentences(found, chosen)
    words = [word_logits(found, concepts, partly, i) for i in with_words]
    features = np.array(
        [
            [1.0, np.mean(own), min(own), found.logprobs[i], missed(found, concepts, i)]
            for own, i in zip(words, with_words, strict=True)
        ]
    )
    held = np.array([np.mean([used for *_, used in found.words[i]]) >= 0.5 for i in with_words])
    shares = np.array([1 / counts[found.owners[i]] for i in with_words])
    return replace(partly, sentence=SentenceTerms(*logistic(features, held, shares).tolist()))


def sentences(found: Observations, chosen: Array) -> list[int]:
    """Those of the hypotheses `chosen` that have content words: of clips, or of all items if there is no clip."""
    with_words = [i for i in chosen.tolist() if found.words[i]]
    return [i for i in with_words if found.moving[found.owners[i]]] or with_words


def word_logits(found: Observations, concepts: Concepts, confidence: Confidence, number: int) -> list[float]:
    """Logits of the confidence of each content word of a hypothesis."""
    return [confidence.of_word(evidence(concepts, logprob, support)) for logprob, support, _ in found.words[number]]


def missed(found: Observations, concepts: Concepts, number: int) -> float:
    """The score of the surest thing that a hypothesis does not name."""
    return probability(concepts.scale * found.missed[number] + concepts.shift)


def evidence(concepts: Concepts, logprob: float, support: float | None) -> Evidence:
    """What speaks for a word, given the logit of the concept that it names, None without one."""
    known = support is not None
    return Evidence(logprob, concepts.scale * support + concepts.shift if support is not None else 0.0, known)


def reliability(found: Observations, concepts: Concepts) -> tuple[Array, Array]:
    """Confidence of each hypothesis, and whether it is right; each measured by what was fitted on other items."""
    chosen = np.array(sentences(found, np.arange(len(found.words))))
    folds = np.array(found.owners) % FOLDS
    logits, right = [], []
    for fold in range(FOLDS):
        fitted = fit_confidence(found, concepts, np.flatnonzero(folds != fold))
        for i in chosen[folds[chosen] == fold].tolist():
            own = word_logits(found, concepts, fitted, i)
            logits.append(fitted.of_sentence(own, found.logprobs[i], missed(found, concepts, i)))
            right.append(np.mean([used for *_, used in found.words[i]]) >= 0.5)
    return sigmoid(np.array(logits)), np.array(right)


def calibrate(folder: Path, items: Sequence[Item], decoding: Decoding) -> None:
    """Write concepts and confidence into the bundle, fitted on the items."""
    captioner = Captioner(folder)
    found = observe(captioner, items, decoding)
    assert captioner.bundle.concepts is not None
    concepts = fit_concepts(found, captioner.bundle.concepts)
    confidence = fit_confidence(found, concepts, np.arange(len(found.words)))
    manifest = json.loads((folder / bundle.MANIFEST).read_text())
    manifest["concepts"] |= {"scale": concepts.scale, "shift": concepts.shift, "threshold": concepts.threshold}
    manifest["confidence"] = {"word": vars(confidence.word), "sentence": vars(confidence.sentence)}
    bundle.write_manifest(folder, manifest)
