"""Logits of concepts → tags: the surest first, with the frames that show them, and nothing below the threshold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from video_captioning.concepts import MOST, Concepts

NAMES = tuple(f"thing {number}" for number in range(20))
KNOWN = Concepts(
    ("panda", "giant panda", "run", "sea", "tow truck", "fire truck"),
    ("a panda", "a giant panda", "", "the sea", "a tow truck", "a fire truck"),
)
logits_of_clips = st.integers(1, 5).flatmap(
    lambda frames: arrays(np.float32, (frames, len(NAMES)), elements=st.floats(-9, 9, width=32))
)


@given(logits_of_clips, st.floats(0.1, 3), st.floats(-2, 2), st.floats(0.05, 0.95))
def test_tags(logits: np.ndarray, scale: float, shift: float, threshold: float) -> None:
    times = [frame / 2 for frame in range(len(logits))]
    tags = Concepts(NAMES, NAMES, scale, shift, threshold).tags(logits, times)
    scores = 1 / (1 + np.exp(-(scale * logits.astype(float).mean(0) + shift)))
    assert [tag.score for tag in tags] == pytest.approx(sorted(scores[scores >= threshold], reverse=True)[:MOST])
    own = 1 / (1 + np.exp(-(scale * logits.astype(float) + shift)))
    for tag in tags:
        place = NAMES.index(tag.name)
        assert tag.score == pytest.approx(scores[place])
        assert threshold <= tag.score <= 1
        assert times[own[:, place].argmax()] in tag.times
        assert set(tag.times) >= {times[frame] for frame in np.flatnonzero(own[:, place] > threshold + 1e-9)}
        assert tag.times == tuple(sorted(tag.times))
        assert all(own[times.index(time), place] > threshold - 1e-9 for time in tag.times)


@given(logits_of_clips, st.randoms())
def test_the_order_of_frames_is_no_matter(logits: np.ndarray, random: st.DataObject) -> None:
    order = np.random.default_rng(7).permutation(len(logits))
    times = [float(frame) for frame in range(len(logits))]
    concepts = Concepts(NAMES, NAMES)
    one, other = concepts.tags(logits, times), concepts.tags(logits[order], [times[frame] for frame in order])
    assert {tag.name: tag.score for tag in one} == pytest.approx({tag.name: tag.score for tag in other})
    assert {tag.name: set(tag.times) for tag in one} == {tag.name: set(tag.times) for tag in other}


def test_things_are_the_surest_two_that_differ() -> None:
    logits = np.array([[1.0, 2.0, 3.0, 0.5, -1.0, -1.0]])
    (phrase, score), (other, _) = KNOWN.things(logits, 0.1)
    assert (phrase, other) == ("a giant panda", "the sea"), "running is no thing, and a panda is named already"
    assert score == pytest.approx(1 / (1 + np.exp(-2)))
    assert [phrase for phrase, _ in KNOWN.things(logits, 0.7)] == ["a giant panda"]
    assert KNOWN.things(logits, 0.99) == []


def test_a_word_is_named_alone_or_by_the_last_of_several() -> None:
    assert KNOWN.by_stem == {"panda": [0], "run": [2], "sea": [3], "truck": [4, 5]}


@pytest.mark.parametrize(
    "wrong",
    [
        *({"names": ()}, {"names": ("a",)}, {"names": ("a", "")}, {"names": ("a", 7)}, {"phrases": ("a", None)}),
        *({"scale": 0}, {"scale": -1}, {"scale": float("nan")}, {"scale": "1"}, {"shift": float("inf")}),
        *({"threshold": 1.5}, {"threshold": -0.1}, {"threshold": None}, {"threshold": True}),
    ],
)
def test_what_cannot_be(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="concepts"):
        Concepts(**{"names": ("a", "b"), "phrases": ("a", "b")} | wrong)  # type: ignore[arg-type]
