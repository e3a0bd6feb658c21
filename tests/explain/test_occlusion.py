"""Occlusion: held against one clip at a time, and against pictures in which nothing can be hidden."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from tests import tiny
from tests.export import kinds
from video_captioning.captioner import Captioner
from video_captioning.decoding import Decoding, Hypothesis
from video_captioning.explain import occlusion
from video_captioning.explain.occlusion import hide_frames, hide_regions, logprobs, rank_correlation
from video_captioning.tokenizer import BOS, EOS

DECODING = Decoding(beam=2, min_tokens=3, max_tokens=8)


@cache
def captioner(kind: str) -> Captioner:
    return Captioner(kinds.bundle(kind), threads=1)


def frames(count: int) -> np.ndarray:
    return np.stack(tiny.pictures(count, seed=5, size=(tiny.SIDE, tiny.SIDE)))


def said(kind: str, clip: np.ndarray) -> tuple[Hypothesis, list[int]]:
    [[best]] = captioner(kind).hypotheses([clip], DECODING)
    return best, [BOS, *best.tokens, *([EOS] if best.finished else [])]


def alone(kind: str, clip: np.ndarray, tokens: list[int]) -> list[float]:
    """Log-probabilities of tokens, a clip and a step at a time, by another way to log-softmax."""
    runtime = captioner(kind).runtime
    memory, state = runtime.remember(*runtime.encode([clip]))
    found = []
    for token, following in pairwise(tokens):
        [logits], state, _ = runtime.step(np.array([token]), state, memory)
        found.append(float(logits[following] - np.logaddexp.reduce(logits.astype(float))))
    return found


@pytest.mark.parametrize("kind", kinds.KINDS)
def test_with_nothing_hidden_it_is_what_decoding_found(kind: str) -> None:
    best, tokens = said(kind, frames(4))
    features, _ = captioner(kind).runtime.encode([frames(4)])
    [found] = logprobs(captioner(kind).runtime, features, tokens)
    np.testing.assert_allclose(found, best.logprobs, atol=1e-4)


@pytest.mark.parametrize("kind", kinds.KINDS)
@pytest.mark.parametrize("slots", [1, 40, 10_000])
def test_each_frame_is_left_out_in_turn(kind: str, slots: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(occlusion, "MOST_SLOTS", slots)  # one at a time, a few, all at once
    clip = frames(4)
    _, tokens = said(kind, clip)
    [features], _ = captioner(kind).runtime.encode([clip])
    found = hide_frames(captioner(kind).runtime, features, tokens)
    whole = np.array(alone(kind, clip, tokens))
    falls = [whole - alone(kind, np.delete(clip, place, axis=0), tokens) for place in range(4)]
    np.testing.assert_allclose(found.tokens, falls, atol=1e-4)
    np.testing.assert_allclose(found.caption, np.sum(falls, axis=1), atol=1e-3)
    assert np.ptp(found.caption) > 0.01, "frames matter, and not alike"


@pytest.mark.parametrize("kind", kinds.KINDS)
def test_each_square_of_a_picture_is_painted_over_in_turn(kind: str) -> None:
    clip = frames(1)
    clip[0, :16, 16:] = 255 - clip[0, :16, 16:]
    _, tokens = said(kind, clip)
    found = hide_regions(captioner(kind).runtime, clip[0], tokens, 2)
    painted = clip.copy()
    painted[0, :16, 16:] = clip[0].mean((0, 1)).round()
    fall = np.array(alone(kind, clip, tokens)) - alone(kind, painted, tokens)
    np.testing.assert_allclose(found.tokens[1], fall, atol=1e-4)
    assert len(found.caption) == 4
    assert np.ptp(found.caption) > 0.01


def test_where_there_is_nothing_to_see_nothing_can_be_hidden() -> None:
    plain = np.full((tiny.SIDE, tiny.SIDE, 3), (10, 200, 90), np.uint8)
    _, tokens = said("advanced", plain[None])
    found = hide_regions(captioner("advanced").runtime, plain, tokens, 3)
    np.testing.assert_allclose(found.tokens, 0, atol=1e-4)


@given(st.lists(st.tuples(st.integers(-4, 4), st.integers(-4, 4)), min_size=2, max_size=30))
def test_rank_correlation_is_spearmans(pairs: list[tuple[int, int]]) -> None:
    one, other = np.array(pairs, float).T
    found = rank_correlation(one, other)
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        assert found is None
    else:
        assert found == pytest.approx(spearmanr(one, other).statistic)


def test_of_a_single_number_there_is_none() -> None:
    assert rank_correlation(np.array([1.0]), np.array([2.0])) is None
