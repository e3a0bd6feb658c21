"""BLEU, ROUGE-L and CIDEr-D: the COCO caption tool's numbers, and the laws that hold whatever the captions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.captions import Set
from video_captioning.metrics.bleu import Bleu, bleu
from video_captioning.metrics.cider import Cider, Consensus, cider, document_frequency
from video_captioning.metrics.rouge import Rouge, common_lengths, rouge

EXACT = {"rtol": 0, "atol": 1e-9}
law = settings(deadline=None)
words = st.lists(st.sampled_from(["a", "man", "dog", "rides", "the", "red", ".", "ß", "狗"]), max_size=9)
references = st.lists(words, min_size=1, max_size=4)
sets = st.lists(st.tuples(words, references), min_size=1, max_size=6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["msrvtt", "flickr8k"])
def test_the_numbers_of_the_coco_tool(name: str, request: pytest.FixtureRequest) -> None:
    """The tool's Python part, on thousands of real captions, corrupted ones and empty ones among them."""
    pytest.importorskip("pycocoevalcap")
    from pycocoevalcap.bleu.bleu import Bleu as ToolBleu
    from pycocoevalcap.cider.cider import Cider as ToolCider
    from pycocoevalcap.rouge.rouge import Rouge as ToolRouge

    real: Set = request.getfixturevalue(name)
    assert "" in real.hypotheses.values()
    said = [hypothesis.split() for hypothesis in real.hypotheses.values()]
    wanted = [[reference.split() for reference in known] for known in real.references.values()]
    one_each = {name: [hypothesis] for name, hypothesis in real.hypotheses.items()}

    scores, segments = ToolBleu(4).compute_score(real.references, one_each, verbose=0)
    ours = bleu(said, wanted)
    np.testing.assert_allclose(ours.scores, scores, **EXACT)
    np.testing.assert_allclose(ours.segments, np.transpose(segments), **EXACT)
    for tool, metric in ((ToolRouge(), rouge), (ToolCider(), cider)):
        score, segments = tool.compute_score(real.references, one_each)
        found: Any = metric(said, wanted)
        assert found.score == pytest.approx(score, abs=1e-9)
        np.testing.assert_allclose(found.segments, segments, **EXACT)


def test_known_values() -> None:
    """Worked by hand from the papers' equations."""
    said, wanted = ["a", "man", "rides"], [["a", "man", "rides", "a", "horse"], ["the", "man"]]
    found = bleu([said], [wanted])
    assert found.scores[0] == pytest.approx(1.0), "the closest reference is the shorter of two that are as close"
    assert bleu([["a", "a", "a"]], [wanted]).scores[0] == pytest.approx(2 / 3), "clipped at what one reference has"
    precision, recall = 3 / 3, 3 / 5
    assert rouge([said], [wanted]).score == pytest.approx(2.44 * precision * recall / (recall + 1.44 * precision))
    two = [[["a", "cat"]], [["a", "dog"]]]
    assert cider([["a", "cat"], ["a", "cat"]], two).segments == pytest.approx([5.0, 0.0]), "no triples: half of 10"


@law
@given(sets)
def test_order_and_halves_do_not_matter(pairs: list[tuple[list[str], list[list[str]]]]) -> None:
    said, wanted = zip(*pairs, strict=True)
    half = len(pairs) // 2
    for kind, metric in ((Bleu, bleu), (Rouge, rouge), (Cider, cider)):
        whole: Any = metric(said, wanted)
        turned: Any = metric(said[::-1], [known[::-1] for known in wanted[::-1]])
        np.testing.assert_allclose(turned.segments[::-1], whole.segments, **EXACT)
        parts: list[Any] = [kind(), kind()]
        for number, pair in enumerate(pairs):
            parts[number >= half].update(*pair)
        parts[0].merge(parts[1])
        merged = parts[0].compute()
        np.testing.assert_allclose(merged.segments, whole.segments, **EXACT)
        total = np.atleast_1d(whole.scores if kind is Bleu else whole.score)
        np.testing.assert_allclose(kind.formula(parts[0].statistics.sum(0)), total, **EXACT)


@law
@given(sets)
def test_scores_stay_in_their_range(pairs: list[tuple[list[str], list[list[str]]]]) -> None:
    said, wanted = zip(*pairs, strict=True)
    assert ((bleu(said, wanted).segments >= 0) & (bleu(said, wanted).segments <= 1)).all()
    assert ((rouge(said, wanted).segments >= 0) & (rouge(said, wanted).segments <= 1)).all()
    assert ((cider(said, wanted).segments >= 0) & (cider(said, wanted).segments <= 10 + 1e-9)).all()


@law
@given(words.filter(bool), references)
def test_saying_what_people_said_is_best(sentence: list[str], others: list[list[str]]) -> None:
    found = bleu([sentence], [[*others, sentence]]).scores
    assert found[: len(sentence)] == pytest.approx((1.0,) * min(4, len(sentence)), abs=1e-6)
    assert rouge([sentence], [[*others, sentence]]).score == pytest.approx(1.0)


@law
@given(words, words)
def test_common_subsequences_are_as_long_as_the_table_says(one: list[str], other: list[str]) -> None:
    table = np.zeros((len(one) + 1, len(other) + 1), int)
    for i, first in enumerate(one):
        for j, second in enumerate(other):
            table[i + 1, j + 1] = table[i, j] + 1 if first == second else max(table[i, j + 1], table[i + 1, j])
    assert common_lengths(one, [other]) == [table[-1, -1]]


@law
@given(sets, sets)
def test_a_reward_is_the_metric(
    pairs: list[tuple[list[str], list[list[str]]]], more: list[tuple[list[str], list[list[str]]]]
) -> None:
    """Whatever is asked of the same references, in whatever order, is what the metric says of it alone."""
    said, wanted = zip(*pairs, strict=True)
    reward = Consensus(wanted)
    np.testing.assert_allclose(reward.score(range(len(said)), said), cider(said, wanted).segments, **EXACT)
    others = [hypothesis for hypothesis, _ in more]
    clips = [number % len(wanted) for number in range(len(others))]
    for clip, hypothesis, score in zip(clips, others, reward.score(clips, others), strict=True):
        alone = [*said]
        alone[clip] = hypothesis
        assert cider(alone, wanted).segments[clip] == pytest.approx(score, abs=1e-9)


@law
@given(sets)
def test_weights_borrowed_from_the_same_set_change_nothing(pairs: list[tuple[list[str], list[list[str]]]]) -> None:
    said, wanted = zip(*pairs, strict=True)
    borrowed = cider(said, wanted, document_frequency(wanted))
    np.testing.assert_allclose(borrowed.segments, cider(said, wanted).segments, **EXACT)


def test_weights_of_a_larger_set_are_those_that_clips_have_in_it() -> None:
    wanted = [[["a", "cat", "sits"]], [["a", "dog", "runs"]], [["a", "cat", "runs", "home"]]]
    said = [["a", "cat"], ["a", "dog", "sits"], ["the", "cat", "runs"]]
    whole = cider(said, wanted)
    part = cider(said[1:], wanted[1:], document_frequency(wanted))
    np.testing.assert_allclose(part.segments, whole.segments[1:], **EXACT)
    assert not np.allclose(cider(said[1:], wanted[1:]).segments, whole.segments[1:])
