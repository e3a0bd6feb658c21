"""Does a bundle say what the checkpoint says? The same frames through torch and through ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from video_captioning.bundle import Runtime
from video_captioning.decoding import Arrays, Decoding, Hypothesis, decode
from video_captioning.export.runtime import SPECIAL, TorchRuntime
from video_captioning.tokenizer import Tokenizer

GREEDY = Decoding(beam=1)


@dataclass(frozen=True)
class Parity:
    """How far a bundle is from its checkpoint."""

    clips: int
    same_captions: int
    """Clips whose greedy tokens are identical."""
    features: float
    """Largest difference of features."""
    logits: float
    """Largest difference of logits along torch's greedy captions."""
    attention: float
    concepts: float = 0.0
    """Largest difference of the logits of concepts, where there are any."""

    def holds(self, tolerance: float) -> bool:
        """Every caption the same, and no logit or weight further off than `tolerance`."""
        return self.same_captions == self.clips and max(self.logits, self.attention, self.concepts) <= tolerance


def check(reference: TorchRuntime, bundle: Runtime, clips: Sequence[np.ndarray]) -> Parity:
    """Compare on clips, uint8 `[T, S, S, 3]` each, together in one batch."""
    expected, mask = reference.encode(clips)
    features, _ = bundle.encode(clips)
    memory, state = reference.remember(expected, mask)
    said = [best for best, *_ in decode(reference.step, state, memory, GREEDY, SPECIAL)]
    other_memory, other_state = bundle.remember(features, mask)
    same = [best for best, *_ in decode(bundle.step, other_state, other_memory, GREEDY, SPECIAL)]
    tokens = teacher_forced(said)
    logits, attention = follow(reference.step, tokens, state, memory)
    other_logits, other_attention = follow(bundle.step, tokens, other_state, other_memory)
    return Parity(
        clips=len(clips),
        same_captions=sum(a.tokens == b.tokens for a, b in zip(said, same, strict=True)),
        features=float(np.abs(features - expected).max()),
        logits=float(np.abs(other_logits - logits).max()),
        attention=float(np.abs(other_attention - attention).max()),
        concepts=float(np.abs(other_memory["concepts"] - memory["concepts"]).max()) if "concepts" in memory else 0.0,
    )


def teacher_forced(hypotheses: Sequence[Hypothesis]) -> np.ndarray:
    """Input tokens `[B, L]`; shorter captions are continued with `pad`, which both sides are fed alike."""
    longest = max(len(hypothesis.tokens) for hypothesis in hypotheses)
    tokens = np.full((len(hypotheses), 1 + longest), Tokenizer.pad)
    tokens[:, 0] = Tokenizer.bos
    for row, hypothesis in enumerate(hypotheses):
        tokens[row, 1 : 1 + len(hypothesis.tokens)] = hypothesis.tokens
    return tokens


def follow(
    step: Callable[[np.ndarray, Arrays, Arrays], tuple[np.ndarray, Arrays, np.ndarray]],
    tokens: np.ndarray,
    state: Arrays,
    memory: Arrays,
) -> tuple[np.ndarray, np.ndarray]:
    """Logits `[L, B, V]` and attention `[L, B, slots]` along given tokens `[B, L]`."""
    logits, attention = [], []
    for column in tokens.T:
        scores, state, weights = step(np.ascontiguousarray(column), state, memory)
        logits.append(scores)
        attention.append(weights)
    return np.stack(logits), np.stack(attention)
