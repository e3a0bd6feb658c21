"""How sure a model is of what it says: of each content word, and of the sentence.

A logistic regression on what the decoder and the encoder tell, fitted on clips that were kept back and stated by the
bundle. Log-probabilities are of the tokens; what the encoder sees supports the words that name it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from video_captioning.concepts import Concepts, Floats, is_number, probability
from video_captioning.decoding import Arrays, Decoding, Hypothesis, Special, Step, decode
from video_captioning.tokenizer import Tokenizer
from video_captioning.words import content_stems

SPECIAL = Special(Tokenizer.bos, Tokenizer.eos, Tokenizer.pad, Tokenizer.unk)


@dataclass(frozen=True)
class WordTerms:
    """Coefficients of a content word's confidence."""

    bias: float
    logprob: float
    """Of the mean log-probability of its tokens."""
    support: float
    """Of the calibrated logit of the surest concept that it names; 0 where there is none."""
    known: float
    """Where there is one."""


@dataclass(frozen=True)
class SentenceTerms:
    """Coefficients of a sentence's confidence. Without content words it has `bias` and `logprob` alone."""

    bias: float
    mean: float
    """Of the mean of its content words' logits of confidence."""
    least: float
    """Of the least of them."""
    logprob: float
    """Of the mean log-probability of its tokens, the end's included."""
    missed: float = 0.0
    """Of the score of the surest thing that it does not name."""


class Evidence(NamedTuple):
    """What speaks for a content word."""

    logprob: float
    support: float
    known: bool


@dataclass(frozen=True)
class Confidence:
    """What a bundle states. Raises ValueError for a coefficient that is no number."""

    word: WordTerms
    sentence: SentenceTerms

    def __post_init__(self) -> None:
        for name, terms in (("word", self.word), ("sentence", self.sentence)):
            for field in fields(terms):
                if not is_number(getattr(terms, field.name)):
                    raise ValueError(f"confidence.{name}.{field.name} is not a number")

    def of_word(self, evidence: Evidence) -> float:
        """The logit of a content word's confidence."""
        terms = self.word
        seen = terms.support * evidence.support + terms.known * evidence.known
        return terms.bias + terms.logprob * evidence.logprob + seen

    def of_sentence(self, words: Sequence[float], logprob: float, missed: float) -> float:
        """The logit of a sentence's confidence.

        Args:
            words: logits of its content words' confidences.
            logprob: mean of its tokens.
            missed: score of the surest thing that it does not name.
        """
        terms = self.sentence
        told = terms.mean * (sum(words) / len(words)) + terms.least * min(words) if words else 0.0
        return terms.bias + terms.logprob * logprob + terms.missed * missed + told


def read_confidence(section: Mapping[str, Any]) -> Confidence:
    """The coefficients that a bundle states. Raises ValueError, TypeError, KeyError: they are something else."""
    if set(section) != {"word", "sentence"}:
        raise ValueError("confidence: not `word` and `sentence`")
    return Confidence(WordTerms(**section["word"]), SentenceTerms(**section["sentence"]))


@dataclass(frozen=True, eq=False)
class Said:
    """A hypothesis, and how sure the model is of it; None throughout of a model without confidence."""

    hypothesis: Hypothesis
    words: tuple[float | None, ...]
    """Of each word, 0 to 1; None of a function word."""
    confidence: float | None
    support: float
    """Mean confidence of the content words, 0 without any; a word that was used before counts 0."""


class Found(NamedTuple):
    """What a search found for one clip."""

    said: list[Said]
    """The best first."""
    logits: Floats | None
    """Of the concepts in each frame, `[frames, C]`; None of a model without."""


class Seen(NamedTuple):
    """What the encoder sees in a clip: the same for all that is said of it."""

    calibrated: Floats
    """Logits of the concepts, `[C]`."""
    things: list[tuple[float, frozenset[str]]]
    """Scores and stems of the things that are likeliest, the surest first."""


def _missed(stems: set[str], seen: Seen | None) -> float:
    return next((score for score, thing in seen.things if not thing & stems), 0.0) if seen else 0.0


@lru_cache(maxsize=4096)
def content_stem(word: str) -> str | None:
    """The stem of a content word, of its last part where it is a compound; None of a function word."""
    stems = content_stems(word)
    return stems[-1] if stems else None


class Judge:
    """Tells how sure a model is of hypotheses."""

    def __init__(self, tokenizer: Tokenizer, concepts: Concepts | None, confidence: Confidence | None) -> None:
        self.tokenizer = tokenizer
        self.concepts = concepts
        self.confidence = confidence

    def evidence(self, hypothesis: Hypothesis, logits: Floats | None) -> list[Evidence | None]:
        """What speaks for each word; None of a function word.

        Args:
            logits: of the concepts in the clip's frames, `[T, C]`.
        """
        return [evidence for _, evidence in self._words(hypothesis, self._seen(logits))]

    def missed(self, hypothesis: Hypothesis, logits: Floats | None) -> float:
        """The score of the surest thing that a hypothesis does not name; 0 of a model without concepts."""
        seen = self._seen(logits)
        return _missed({stem for stem, _ in self._words(hypothesis, seen) if stem}, seen)

    def __call__(self, hypothesis: Hypothesis, logits: Floats | None) -> Said:
        """How sure the model is of one hypothesis."""
        return self._judged(hypothesis, self._seen(logits))

    def _seen(self, logits: Floats | None) -> Seen | None:
        if self.concepts is None or logits is None:
            return None
        calibrated = self.concepts.calibrated(logits)
        return Seen(calibrated, self.concepts.surest_things(calibrated))

    def _words(self, hypothesis: Hypothesis, seen: Seen | None) -> list[tuple[str | None, Evidence | None]]:
        """The stem of each word, and what speaks for it; None of a function word."""
        words: list[tuple[str | None, Evidence | None]] = []
        for text, places in self.tokenizer.words(hypothesis.tokens):
            stem = content_stem(text)
            if stem is None:
                words.append((None, None))
                continue
            logprob = sum(hypothesis.logprobs[place] for place in places) / len(places)
            known, support = False, 0.0
            if self.concepts and seen and (named := self.concepts.by_stem.get(stem)):
                known, support = True, max(float(seen.calibrated[place]) for place in named)
            words.append((stem, Evidence(logprob, support, known)))
        return words

    def _judged(self, hypothesis: Hypothesis, seen: Seen | None) -> Said:
        if self.confidence is None:
            return Said(hypothesis, (None,) * len(self.tokenizer.words(hypothesis.tokens)), None, 0.0)
        sure: list[float | None] = []
        logits: list[float] = []
        told: list[float] = []
        used: set[str] = set()
        for stem, evidence in self._words(hypothesis, seen):
            if evidence is None or stem is None:
                sure.append(None)
                continue
            logits.append(self.confidence.of_word(evidence))
            sure.append(one := probability(logits[-1]))
            told.append(0.0 if stem in used else one)
            used.add(stem)
        whole = self.confidence.of_sentence(logits, hypothesis.mean_logprob, _missed(used, seen))
        return Said(hypothesis, tuple(sure), probability(whole), sum(told) / len(told) if told else 0.0)

    def search(
        self,
        step: Step,
        state: Arrays,
        memory: Arrays,
        frame_mask: np.ndarray,
        decoding: Decoding,
        keys: Sequence[int] | None = None,
        *,
        whole: bool = False,
    ) -> list[Found]:
        """As `decoding.decode`, with `Decoding.support` and the confidence of each hypothesis.

        Args:
            frame_mask: `[B, T]`, true at real frames.
            whole: give all that the search ends with, not `alternatives` alone.
        """
        weighed = bool(decoding.support and self.concepts and self.confidence)
        wide = replace(decoding, alternatives=decoding.width) if weighed or whole else decoding
        count = None if whole else decoding.alternatives
        told = memory.get("concepts")
        found = []
        for place, hypotheses in enumerate(decode(step, state, memory, wide, SPECIAL, keys)):
            logits = None if told is None else told[place][frame_mask[place]]
            seen = self._seen(logits)
            said = [self._judged(one, seen) for one in hypotheses]
            found.append(Found((supported(said, decoding.support) if weighed else said)[:count], logits))
        return found


def supported(said: Sequence[Said], weight: float) -> list[Said]:
    """Ranked once more, by scores to which the support of their content words is added."""
    scores = [one.hypothesis.score + weight * one.support for one in said]
    weighed = [
        replace(one, hypothesis=replace(one.hypothesis, score=score)) for one, score in zip(said, scores, strict=True)
    ]
    return sorted(weighed, key=lambda one: -one.hypothesis.score)


def sure_enough(said: Sequence[Said], least: float | None) -> list[Said]:
    """Those with a confidence of at least `least`; all of them where that is None."""
    return [one for one in said if least is None or (one.confidence is not None and one.confidence >= least)]
