"""How sure a model is, what it prefers to say for that, and what it says instead where it is not sure enough."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests import tiny
from tests.conftest import MakeClip
from video_captioning.captioner import Caption, Captioner, sentence
from video_captioning.concepts import Concepts
from video_captioning.confidence import Judge
from video_captioning.decoding import Decoding
from video_captioning.errors import ConfigError
from video_captioning.words import content_words, stem

DECODING = Decoding(beam=4, alternatives=2, max_tokens=10)
WIDE = replace(DECODING, alternatives=4)
NAMED = {concept["name"] for concept in tiny.CONCEPTS} - {"giant panda", "red ball"}  # a panda, a ball are of their own


@pytest.fixture(scope="module")
def captioner() -> Captioner:
    return Captioner(tiny.sure_bundle(), threads=1)


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory, make_clip: MakeClip) -> list[Path]:
    """A picture, and clips of one to five frames."""
    folder = tmp_path_factory.mktemp("media")
    Image.fromarray(tiny.pictures(1, 7)[0]).save(folder / "still.png")
    clips = [make_clip(folder / f"{n}.mp4", tiny.pictures(n + 1, n), fps=2, gop=1) for n in range(5)]
    return [folder / "still.png", *clips]


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def logit(value: float) -> float:
    return math.log(value / (1 - value))


def test_tags_are_those_of_the_frames(captioner: Captioner, media: list[Path]) -> None:
    known = captioner.bundle.concepts
    assert known is not None and len(known.names) == len(tiny.CONCEPTS)
    for path in media:
        found = captioner.examine(path, decoding=DECODING)
        assert found.concepts is not None
        assert found.concepts.shape == (len(found.caption.frames), len(tiny.CONCEPTS))
        assert found.caption.tags == known.tags(found.concepts, found.caption.frames)
    assert any(found.caption.tags for found in map(captioner.examine, media))


def test_confidences_are_what_the_bundle_states(captioner: Captioner, media: list[Path]) -> None:
    """The formulas, written out once more."""
    word, whole = tiny.CONFIDENCE["word"], tiny.CONFIDENCE["sentence"]
    supported = left_out = 0
    for path in media:
        found = captioner.examine(path, decoding=DECODING)
        assert found.concepts is not None
        calibrated = 0.5 * found.concepts.astype(float).mean(0) + 0.25
        pieces = [len(places) for _, places in captioner.tokenizer.words(found.hypothesis.tokens)]
        told = []
        for said, count in zip(found.caption.words, pieces, strict=True):
            content = content_words(said.text)
            assert (said.confidence is None) == (not content)
            if not content:
                continue
            named = [
                calibrated[place]
                for place, concept in enumerate(tiny.CONCEPTS)
                if concept["name"] in NAMED and stem(concept["name"].split()[-1]) == stem(content[-1])
            ]
            supported += bool(named)
            value = word["bias"] + word["logprob"] * said.logprob / count
            value += word["support"] * max(named) + word["known"] if named else 0
            assert said.confidence == pytest.approx(sigmoid(value), abs=1e-6)
            told.append(value)
        value = whole["bias"] + whole["logprob"] * found.caption.score
        value += whole["mean"] * np.mean(told) + whole["least"] * min(told) if told else 0
        spoken = {stem(word) for word in content_words(found.caption.text)}
        missed = [
            calibrated[place]
            for place, concept in enumerate(tiny.CONCEPTS)
            if concept["phrase"] and not spoken & {stem(part) for part in content_words(concept["name"])}
        ]
        left_out += bool(missed)
        value += whole["missed"] * sigmoid(max(missed)) if missed else 0
        assert found.caption.confidence == pytest.approx(sigmoid(value), abs=1e-6)
    assert supported, "some words are the names of concepts"
    assert left_out, "and some concepts are not named"


@pytest.mark.parametrize("batch_size", [1, 2, 6])
@pytest.mark.parametrize("least", [None, 0.5])
def test_no_clip_depends_on_its_batch(
    captioner: Captioner, media: list[Path], batch_size: int, least: float | None
) -> None:
    decoding = replace(DECODING, support=1.0)
    together = captioner.captions(media, decoding=decoding, batch_size=batch_size, min_confidence=least)
    for path, one in zip(media, together, strict=True):
        other = captioner(path, decoding=decoding, min_confidence=least)
        assert isinstance(one, Caption)
        assert one.text == other.text
        assert one.confidence == pytest.approx(other.confidence, abs=1e-4)
        assert one.tags is not None and other.tags is not None
        assert [(tag.name, tag.times) for tag in one.tags] == [(tag.name, tag.times) for tag in other.tags]
        assert [tag.score for tag in one.tags] == pytest.approx([tag.score for tag in other.tags], abs=1e-4)
        assert [each.confidence for each in one.alternatives] == pytest.approx(
            [each.confidence for each in other.alternatives], abs=1e-4
        )


@pytest.mark.parametrize("support", [0.0, 0.3, 2.0, 100.0])
def test_support_ranks_the_whole_beam(captioner: Captioner, media: list[Path], support: float) -> None:
    judge = Judge(captioner.tokenizer, captioner.bundle.concepts, captioner.bundle.confidence)
    for path in media:
        found = captioner.examine(path, decoding=WIDE)
        pixels = found.frames.pixels
        [plain] = captioner.hypotheses([pixels], WIDE)
        weights = {one.tokens: one.score + support * judge(one, found.concepts).support for one in plain}
        expected = sorted(plain, key=lambda one: -weights[one.tokens])
        for alternatives in (1, 3):
            decoding = replace(DECODING, alternatives=alternatives, support=support)
            [said] = captioner.hypotheses([pixels], decoding)
            assert [one.tokens for one in said] == [one.tokens for one in expected][:alternatives]
            assert [one.score for one in said] == pytest.approx(sorted(weights.values(), reverse=True)[:alternatives])
            caption = captioner(path, decoding=decoding)
            assert [caption.text, *(one.text for one in caption.alternatives)] == [captioner.text(one) for one in said]


def test_support_changes_what_is_said(captioner: Captioner, media: list[Path]) -> None:
    said = {
        support: [captioner(path, decoding=replace(DECODING, support=support)).text for path in media]
        for support in (0.0, 100.0)
    }
    assert said[0.0] != said[100.0]


def test_support_is_nothing_to_a_model_without(media: list[Path]) -> None:
    plain = Captioner(tiny.bundle(), threads=1)
    for path in media[:3]:
        one, other = (plain(path, decoding=replace(DECODING, support=weight)) for weight in (0.0, 100.0))
        assert one.text == other.text
        assert (one.confidence, one.tags) == (None, None)
        assert all(word.confidence is None for word in one.words)
        assert all(said.confidence is None for said in one.alternatives)


def test_a_least_confidence_of_0_changes_nothing(captioner: Captioner, media: list[Path]) -> None:
    for path in media:
        for decoding in (DECODING, replace(DECODING, beam=1, alternatives=1), replace(DECODING, consensus=1.0)):
            one, other = (captioner(path, decoding=decoding, min_confidence=least) for least in (None, 0.0))
            assert replace(one, timings=other.timings) == other


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 5), st.floats(0, 1), st.sampled_from([DECODING, WIDE, replace(DECODING, beam=1, alternatives=1)]))
def test_what_is_said_is_sure_enough_or_less(number: int, least: float, decoding: Decoding) -> None:
    captioner, path = kept()[0], kept()[1][number]
    caption = captioner(path, decoding=decoding, min_confidence=least)
    ranked = captioner(path, decoding=replace(decoding, alternatives=decoding.beam))
    sentences = [ranked, *ranked.alternatives]
    sure = [one for one in sentences if one.confidence is not None and one.confidence >= least]
    assert caption.confidence is not None and caption.tags == ranked.tags
    if sure:
        given = [caption, *caption.alternatives]
        assert [one.text for one in given] == [one.text for one in sure][: decoding.alternatives]
        assert [one.confidence for one in given] == [one.confidence for one in sure][: decoding.alternatives]
        assert sentence(" ".join(word.text for word in caption.words)) == caption.text
        assert caption.warnings == ()
        return
    assert (caption.words, caption.alternatives, caption.score) == ((), (), ranked.score)
    if caption.text:
        kind = "picture" if path.suffix == ".png" else "video"
        things = caption.text.removeprefix(f"A {kind} of ").removesuffix(".").split(" and ")
        phrases = {concept["phrase"]: concept["name"] for concept in tiny.CONCEPTS}
        scores = {tag.name: tag.score for tag in caption.tags or ()}
        told = [scores[phrases[thing]] for thing in things]
        assert caption.confidence == min(told) >= least
        assert 1 <= len(things) <= 2 and told == sorted(told, reverse=True)
        assert caption.warnings == ()
    else:
        most = max(one.confidence or 0 for one in sentences)
        assert caption.confidence == most < least
        assert caption.warnings == (
            f"the model is not sure enough of any sentence (confidence {most:.2f}, wanted {least:.2f})",
        )


def kept() -> tuple[Captioner, list[Path]]:
    return _KEPT[0]


_KEPT: list[tuple[Captioner, list[Path]]] = []


@pytest.fixture(autouse=True)
def keep(captioner: Captioner, media: list[Path]) -> None:
    """For a law, whose examples share what takes long."""
    _KEPT[:] = [(captioner, media)]


def test_every_way_of_saying_less_is_taken(captioner: Captioner, media: list[Path]) -> None:
    """What the law above compares is not one case only."""
    said = {
        least: [captioner(path, decoding=DECODING, min_confidence=least) for path in media]
        for least in (0.0, 0.4, 0.5, 0.65, 1.0)
    }
    assert all(caption.words for caption in said[0.0])
    assert all(caption.text == "" and caption.warnings for caption in said[1.0])
    texts = [caption.text for caption in said[0.65]]
    assert any(text.startswith("A video of ") for text in texts)
    wide = Decoding(beam=8, alternatives=8, max_tokens=10)
    for path in media:
        first = captioner(path, decoding=wide)
        surest = max(first.alternatives, key=lambda one: one.confidence or 0)
        if first.confidence and surest.confidence and surest.confidence > first.confidence:
            other = captioner(path, decoding=wide, min_confidence=surest.confidence)
            assert other.text == surest.text and other.words, "another sentence of the search"
            return
    pytest.fail("the first sentence is always the surest")


def test_without_things_nothing_is_said(captioner: Captioner, media: list[Path]) -> None:
    known = captioner.bundle.concepts
    assert known is not None
    nothing = Concepts(known.names, ("",) * len(known.names), known.scale, known.shift, known.threshold)
    mute = Captioner(replace(captioner.bundle, concepts=nothing), threads=1)
    assert mute(media[1], min_confidence=0.99).text == ""
    sightless = Captioner(replace(captioner.bundle, concepts=None), threads=1)
    caption = sightless(media[1], min_confidence=0.99)
    assert (caption.text, caption.tags) == ("", None) and caption.confidence is not None


def test_segments_say_less_as_well(captioner: Captioner, media: list[Path]) -> None:
    assert [caption.text for caption in captioner.segments(media[3], min_confidence=1.0)] == [""]


@pytest.mark.parametrize("wrong", [-0.1, 1.1, float("nan"), float("inf"), "0.5", True])
def test_a_least_confidence_that_is_none(captioner: Captioner, media: list[Path], wrong: float) -> None:
    for call in (captioner, captioner.examine, lambda path, **options: captioner.captions([path], **options)):
        with pytest.raises(ConfigError, match="min_confidence must be a number from 0 to 1; it is "):
            call(media[0], min_confidence=wrong)


def test_a_model_that_does_not_tell_how_sure_it_is(media: list[Path]) -> None:
    with pytest.raises(ConfigError, match=r"the model 'tiny' does not tell how sure it is.*such as default") as caught:
        Captioner(tiny.bundle(), threads=1)(media[0], min_confidence=0.5)
    assert "\n" not in str(caught.value)


def test_as_json(captioner: Captioner, media: list[Path]) -> None:
    caption = captioner(media[2], decoding=DECODING)
    said = json.loads(json.dumps(caption.to_dict(), allow_nan=False))
    assert said["confidence"] == caption.confidence
    assert said["alternatives"][0]["confidence"] == caption.alternatives[0].confidence
    assert said["words"][0].keys() == {"text", "logprob", "weights", "confidence"}
    assert caption.tags and said["tags"][0] == {
        "name": caption.tags[0].name,
        "score": caption.tags[0].score,
        "times": list(caption.tags[0].times),
    }
