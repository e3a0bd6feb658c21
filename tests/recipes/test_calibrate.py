"""What is fitted is as often right as it says, and the bundle that it is written into uses it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recipes.default import calibrate as room
from recipes.default.calibrate import (
    PRECISION,
    Observations,
    calibrate,
    fit_concepts,
    fit_confidence,
    logistic,
    observe,
    reliability,
)
from tests import tiny
from video_captioning import bundle
from video_captioning.captioner import Captioner
from video_captioning.concepts import Concepts
from video_captioning.confidence import Confidence, Evidence
from video_captioning.data.items import Item
from video_captioning.decoding import Decoding
from video_captioning.evaluation.calibration import calibration

CONCEPTS = Concepts(tuple("abcdefghij"), ("",) * 10)
SCALE, SHIFT = 1.7, -0.8
SEARCH = Decoding(beam=3, max_tokens=8, alternatives=2, support=0.5)


def sigmoid(values: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-values)))


def ones_and(*columns: np.ndarray) -> np.ndarray:
    return np.stack([np.ones_like(columns[0]), *columns], 1)


def test_a_regression_finds_the_coefficients_that_made_its_data() -> None:
    rng = np.random.default_rng(0)
    features = ones_and(*rng.normal(0, 2, (2, 40_000)))
    wanted = np.array([-0.7, 1.2, -0.4])
    right = rng.random(len(features)) < sigmoid(features @ wanted)
    assert logistic(features, right) == pytest.approx(wanted, abs=0.06)


def test_a_row_that_weighs_twice_as_much_counts_twice() -> None:
    rng = np.random.default_rng(1)
    features, right = ones_and(rng.normal(size=50)), rng.random(50) < 0.4
    weights = rng.integers(1, 4, 50)
    found = logistic(features, right, weights.astype(float))
    assert found == pytest.approx(logistic(features.repeat(weights, 0), right.repeat(weights)), abs=1e-3)
    assert found == pytest.approx(logistic(features, right, 0.1 * weights), abs=1e-3)


def test_where_all_are_right_nothing_is_infinite() -> None:
    features = ones_and(np.linspace(-1, 1, 9))
    assert np.isfinite(logistic(features, np.ones(9, bool))).all()
    assert np.isfinite(logistic(features, features[:, 1] > 0)).all()


@pytest.fixture(scope="module")
def seen() -> Observations:
    """Concepts in 4,000 clips, each there as often as the sigmoid of SCALE times its logit plus SHIFT says."""
    rng = np.random.default_rng(2)
    logits = rng.normal(-1, 2, (4000, len(CONCEPTS.names)))
    named = rng.random(logits.shape) < sigmoid(SCALE * logits + SHIFT)
    return Observations(logits=list(logits), named=list(named))


def test_scores_of_concepts_are_probabilities(seen: Observations) -> None:
    found = fit_concepts(seen, CONCEPTS)
    assert (found.scale, found.shift) == (pytest.approx(SCALE, abs=0.1), pytest.approx(SHIFT, abs=0.1))
    assert (found.names, found.phrases) == (CONCEPTS.names, CONCEPTS.phrases)
    scores, right = sigmoid(found.scale * np.concatenate(seen.logits) + found.shift), np.concatenate(seen.named)
    assert calibration(scores.tolist(), right.tolist()).error < 0.01
    raw = sigmoid(np.concatenate(seen.logits))
    assert calibration(raw.tolist(), right.tolist()).error > 0.05


def test_as_many_tags_are_shown_as_are_right_often_enough(seen: Observations) -> None:
    found = fit_concepts(seen, CONCEPTS)
    scores, right = sigmoid(found.scale * np.concatenate(seen.logits) + found.shift), np.concatenate(seen.named)
    assert right[scores >= found.threshold].mean() == pytest.approx(PRECISION, abs=0.005)
    assert right[scores >= found.threshold - 0.05].mean() < PRECISION


def test_where_tags_are_never_right_often_enough_the_threshold_is_a_half() -> None:
    rng = np.random.default_rng(6)
    logits = rng.normal(0, 2, (500, 10))
    named = rng.random(logits.shape) < 0.3 * sigmoid(logits)
    found = fit_concepts(Observations(logits=list(logits), named=list(named)), CONCEPTS)
    assert found.threshold == 0.5 and found.scale > 0


def test_logits_that_tell_the_opposite_are_refused() -> None:
    logits = np.linspace(-2, 2, 500).reshape(50, 10)
    with pytest.raises(ValueError, match=r"concepts\.scale must be above 0"):
        fit_concepts(Observations(logits=list(logits), named=list(logits < 0)), CONCEPTS)


def hypotheses(items: int, seed: int) -> Observations:
    """Three hypotheses of each item, with up to four content words; words are right as their evidence says."""
    rng = np.random.default_rng(seed)
    made = Observations()
    for item in range(items):
        made.logits.append(np.zeros(10))
        made.named.append(np.zeros(10, bool))
        made.moving.append(True)
        for _ in range(3):
            words = []
            for _ in range(rng.integers(0, 5)):
                logprob = float(-rng.exponential(1.5))
                support = float(rng.normal(0, 1.5)) if rng.random() < 0.7 else None
                logit = 1.2 + 0.9 * logprob + (0.0 if support is None else 0.5 + 0.8 * (SCALE * support + SHIFT))
                words.append((logprob, support, bool(rng.random() < sigmoid(np.array(logit)))))
            made.words.append(words)
            made.logprobs.append(float(np.mean([word[0] for word in words])) if words else -1.0)
            made.missed.append(float(rng.normal()))
            made.owners.append(item)
    return made


FITTED = replace(CONCEPTS, scale=SCALE, shift=SHIFT)


@pytest.fixture(scope="module")
def told() -> Observations:
    return hypotheses(2000, 3)


@pytest.fixture(scope="module")
def confidence(told: Observations) -> Confidence:
    return fit_confidence(told, FITTED, np.arange(len(told.words)))


def test_the_confidence_of_a_word_is_that_of_its_evidence(confidence: Confidence) -> None:
    terms = confidence.word
    found = (terms.bias, terms.logprob, terms.support, terms.known)
    assert found == pytest.approx((1.2, 0.9, 0.8, 0.5), abs=0.2)


def test_what_more_speaks_for_is_surer(confidence: Confidence) -> None:
    def sentence(*words: Evidence) -> float:
        logprob = float(np.mean([word.logprob for word in words]))
        return confidence.of_sentence([confidence.of_word(word) for word in words], logprob, missed=0.0)

    clear, doubtful, unlikely = Evidence(-0.1, 2.0, True), Evidence(-0.1, -3.0, True), Evidence(-4.0, 0.0, False)
    logits = [sentence(clear, clear), sentence(clear, doubtful), sentence(doubtful, unlikely)]
    assert logits == sorted(logits, reverse=True) and logits[0] > logits[1] + 1 > logits[2] + 2


def test_a_sentence_is_less_sure_where_it_leaves_out_what_is_seen(told: Observations) -> None:
    blind = [0.0 if logit > 0 else 1.0 for logit in told.missed]
    words = [[(*word[:2], bool(right)) for word in each] for each, right in zip(told.words, blind, strict=True)]
    terms = fit_confidence(replace(told, words=words), FITTED, np.arange(len(words))).sentence
    assert terms.missed < -1


def test_sentences_are_fitted_on_clips_where_there_are_any(told: Observations) -> None:
    wrong = [[(*word[:2], False) for word in each] for each in told.words]
    half = [owner % 2 == 0 for owner in range(len(told.logits))]
    mixed = [one if half[owner] else other for one, other, owner in zip(told.words, wrong, told.owners, strict=True)]
    chosen = np.arange(len(mixed))
    clips = fit_confidence(replace(told, words=mixed, moving=half), FITTED, chosen)
    every = fit_confidence(replace(told, words=mixed), FITTED, chosen)
    assert clips.of_sentence([1.0], -0.5, 0.0) > every.of_sentence([1.0], -0.5, 0.0) + 1


def test_sentences_are_as_often_right_as_others_say(told: Observations) -> None:
    confidences, right = reliability(told, FITTED)
    assert len(confidences) == len(right) == sum(map(bool, told.words))
    assert calibration(confidences.tolist(), right.tolist()).error < 0.05
    order = np.argsort(confidences)
    assert right[order[-500:]].mean() > right[order[:500]].mean() + 0.4


def test_an_item_counts_once_however_many_hypotheses_it_has() -> None:
    once = hypotheses(60, 4)
    twice = replace(once, words=[*once.words, *once.words[:30]])
    twice.logprobs, twice.owners = [*once.logprobs, *once.logprobs[:30]], [*once.owners, *once.owners[:30]]
    twice.missed = [*once.missed, *once.missed[:30]]
    one, other = (fit_confidence(found, FITTED, np.arange(len(found.words))) for found in (once, twice))
    for part in ("word", "sentence"):
        assert list(vars(getattr(one, part)).values()) == pytest.approx(
            list(vars(getattr(other, part)).values()), abs=1e-3
        )


def test_reliability_of_an_item_does_not_depend_on_its_own_truth() -> None:
    found = hypotheses(60, 5)
    owners = np.array([owner for owner, words in zip(found.owners, found.words, strict=True) if words])
    fold = owners % room.FOLDS == 0
    other = replace(
        found,
        words=[
            [(logprob, support, used != (owner % room.FOLDS == 0)) for logprob, support, used in words]
            for owner, words in zip(found.owners, found.words, strict=True)
        ],
    )
    # both are in the order of their folds
    [first, _], [second, _] = reliability(found, FITTED), reliability(other, FITTED)
    assert np.array_equal(first[: fold.sum()], second[: fold.sum()])
    assert not np.array_equal(first[fold.sum() :], second[fold.sum() :])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with concepts whose confidence nobody has fitted yet."""
    return Path(shutil.copytree(tiny.bundle(concepts=True), tmp_path_factory.mktemp("calibrate") / "bundle"))


@pytest.fixture(scope="module")
def items(made: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Item]:
    """Pictures of which people say what the model is surest of, and some other things."""
    folder = tmp_path_factory.mktemp("pictures")
    captioner = Captioner(made, threads=1)
    found = []
    for number, picture in enumerate(tiny.pictures(24, seed=7)):
        path = folder / f"{number}.png"
        Image.fromarray(picture).save(path)
        seen = captioner(path)
        assert seen.tags is not None
        named = [tag.name for tag in seen.tags[: 3 - number % 3]]
        found.append(
            Item(path.stem, path, (f"there is a {' and a '.join(named)}", "the sea", seen.text)[: 2 + number % 2])
        )
    return found


def test_everything_that_the_search_ends_with_is_observed(made: Path, items: list[Item]) -> None:
    captioner = Captioner(made, threads=1)
    found = observe(captioner, items, SEARCH)
    assert len(found.logits) == len(found.named) == len(items)
    assert found.owners == sorted(found.owners) and set(found.owners) == set(range(len(items)))
    assert len(found.words) == len(found.logprobs) == len(found.owners) == SEARCH.beam * len(items)
    assert {used for words in found.words for *_, used in words} == {True, False}
    names = [entry["name"] for entry in tiny.CONCEPTS]
    for item, right in zip(items, found.named, strict=True):
        assert right[names.index("sea")]
        first = item.captions[0].removeprefix("there is a ").split(" and a ")
        assert {name for name, wanted in zip(names, right, strict=True) if wanted} >= set(first)


def test_the_bundle_uses_what_was_fitted(made: Path, items: list[Item]) -> None:
    before = bundle.read(made)
    calibrate(made, items, SEARCH)
    after = bundle.read(made)
    assert after.concepts is not None and before.concepts is not None
    assert after.concepts == replace(
        before.concepts, scale=after.concepts.scale, shift=after.concepts.shift, threshold=after.concepts.threshold
    )
    assert (after.concepts.scale, after.concepts.shift) != (1.0, 0.0)
    assert before.confidence is None and after.confidence is not None
    kept = ("name", "version", "kind", "preprocess", "sampling", "decoding", "made_by", "parity", "graphs")
    assert all(getattr(before, field) == getattr(after, field) for field in kept)

    captioner, plain = Captioner(made, threads=1), Captioner(tiny.bundle(concepts=True), threads=1)
    for item in items[:4]:
        said, other = captioner(item.path), plain(item.path)
        assert said.text == other.text and other.confidence is None
        assert said.confidence is not None and 0 < said.confidence < 1
        content = [word.confidence for word in said.words if word.confidence is not None]
        assert all(0 < sure < 1 for sure in content)
        assert said.tags is not None and all(tag.score >= after.concepts.threshold for tag in said.tags)


def test_fitting_again_changes_nothing(made: Path, items: list[Item]) -> None:
    calibrate(made, items, SEARCH)
    first = json.loads((made / "bundle.json").read_text())
    calibrate(made, items, SEARCH)
    assert json.loads((made / "bundle.json").read_text()) == first
