"""What captions are worth: the scores of a validation, and the reward of self-critical training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np

from video_captioning.data.items import Item
from video_captioning.metrics.bleu import Bleu, bleu
from video_captioning.metrics.cider import Consensus, cider
from video_captioning.metrics.intervals import Floats
from video_captioning.metrics.meteor import meteor, why_not
from video_captioning.metrics.rouge import rouge
from video_captioning.metrics.tokenization import tokenize
from video_captioning.tokenizer import Tokenizer

END = "</s>"
"""Counts as a word: without it a sentence that breaks off after "with a" would be as good as one that ends."""


class Judge:
    """Compares captions of items with their references."""

    def __init__(self, items: Sequence[Item], tokenizer: Tokenizer) -> None:
        self.items = items
        self.tokenizer = tokenizer
        self.references = [[tokenize(caption) for caption in item.captions] for item in items]

    def scores(self, said: Mapping[int, str]) -> dict[str, float]:
        """Scores of captions by the number of their item, as they are logged; METEOR where it is installed."""
        hypotheses = [tokenize(text) for text in said.values()]
        references = [self.references[number] for number in said]
        found = {
            "val_bleu4": bleu(hypotheses, references).scores[3],
            "val_rouge_l": rouge(hypotheses, references).score,
            "val_cider": cider(hypotheses, references).score,
        }
        if why_not() is None:
            found["val_meteor"] = meteor(hypotheses, references).score
        return found


class Reward:
    """CIDEr-D of sampled captions; beside it, if wanted, BLEU-4 and a price for words that nobody used."""

    def __init__(self, judge: Judge, bleu: float = 0.0, unfounded: float = 0.0) -> None:
        """`bleu`: how much BLEU-4 counts. `unfounded`: how much the share of words counts that no reference has."""
        self.bleu, self.unfounded = bleu, unfounded
        self.references = [[[*words, END] for words in references] for references in judge.references]
        self.words = [frozenset(chain.from_iterable(references)) for references in self.references]
        self.consensus = Consensus(self.references)

    def __call__(self, items: Sequence[int], captions: Sequence[tuple[str, bool]]) -> Floats:
        """Rewards `[N]` of captions of the items of these numbers; each caption says whether it has ended."""
        said = [[*tokenize(text), *([END] if ended else [])] for text, ended in captions]
        rewards = self.consensus.score(items, said)
        if self.bleu:
            metric = Bleu()
            for item, words in zip(items, said, strict=True):
                metric.update(words, self.references[item])
            rewards = rewards + self.bleu * metric.formula(metric.statistics)[:, 3]
        if self.unfounded:
            strange = [
                sum(word not in self.words[item] for word in words) for item, words in zip(items, said, strict=True)
            ]
            rewards = rewards - self.unfounded * np.array(strange) / np.maximum(1, list(map(len, said)))
        return np.asarray(rewards)
