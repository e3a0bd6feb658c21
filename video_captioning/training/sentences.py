"""Sentences alone as training: their words stand in for the concepts of a clip that nobody has (ViECap, CapDec).

Nukrai et al. 2022 (arXiv 2211.00575) and Fei et al. 2023 (arXiv 2307.16525): what is shown must be as noisy as what an
encoder sees, or a decoder trusts it too much.
"""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from video_captioning.errors import ConfigError, DataError
from video_captioning.models.advanced import Shown
from video_captioning.tokenizer import Tokenizer
from video_captioning.words import stems

KEPT = 0.75
"""Share of a sentence's own concepts that are shown."""
CLEAR, DOUBTFUL = (0.5, 1.5), (-1.5, 1.0)
"""Mean and deviation of the logits of a sentence's own concepts, and of the others that are shown beside them."""


@dataclass(frozen=True)
class Sentence:
    """A sentence as tokens, `bos` and `eos` included, and the concepts that it names."""

    tokens: list[int]
    concepts: list[int]


class Sentences:
    """Sentences that name at least one concept, drawn at random with noisy concepts."""

    def __init__(
        self, lines: Iterable[str], concepts: Sequence[str], tokenizer: Tokenizer, max_tokens: int, slots: int
    ) -> None:
        """`concepts`: names. Raises ConfigError where no line names any of them."""
        numbers = {frozenset(stems(name)): number for number, name in enumerate(concepts)}
        self.slots = slots
        self.sentences = []
        for line in lines:
            used = stems(line)
            named = [numbers[key] for s in sorted(set(used)) if (key := frozenset([s])) in numbers]
            named += [numbers[key] for pair in itertools.pairwise(used) if (key := frozenset(pair)) in numbers]
            if named:
                tokens = [tokenizer.bos, *tokenizer.encode(line)[: max_tokens - 2], tokenizer.eos]
                self.sentences.append(Sentence(tokens, named))
        if not self.sentences:
            raise ConfigError("dataset.text holds no sentence that names a concept of the model; give other sentences")
        counts = np.bincount([c for sentence in self.sentences for c in sentence.concepts], minlength=len(concepts))
        self.likely = np.sqrt(counts) / np.sqrt(counts).sum()

    def draw(self, count: int, rng: np.random.Generator) -> tuple[Tensor, Shown]:
        """Tokens int64 `[count, 1, L]` of random sentences, and noisy concepts of each."""
        drawn = [self.sentences[i] for i in rng.integers(len(self.sentences), size=count)]
        drawn.sort(key=lambda sentence: len(sentence.tokens))
        tokens = torch.full((count, 1, len(drawn[-1].tokens)), Tokenizer.pad)
        numbers = rng.choice(len(self.likely), (count, self.slots), p=self.likely)
        logits = rng.normal(*DOUBTFUL, (count, self.slots))
        for row, sentence in enumerate(drawn):
            tokens[row, 0, : len(sentence.tokens)] = torch.tensor(sentence.tokens)
            own = [c for c in sentence.concepts if rng.random() < KEPT][: self.slots]
            numbers[row, : len(own)] = own
            logits[row, : len(own)] = rng.normal(*CLEAR, len(own))
        return tokens, Shown(torch.from_numpy(numbers), torch.from_numpy(logits).float())


def read_sentences(path: str | Path) -> list[str]:
    """Lines of a text file, gzipped where its name ends in `.gz`. Raises DataError where it cannot be read."""
    try:
        text = gzip.decompress(Path(path).read_bytes()) if Path(path).suffix == ".gz" else Path(path).read_bytes()
        return [line for line in text.decode().splitlines() if line.strip()]
    except (OSError, EOFError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(path, f"cannot be read ({reason})", "give a text file with one sentence per line") from error
