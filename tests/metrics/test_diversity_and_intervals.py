"""Monotony is seen, and how sure a score is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from video_captioning.metrics.bleu import Bleu
from video_captioning.metrics.diversity import Diversity, diversity
from video_captioning.metrics.intervals import bootstrap, significance
from video_captioning.metrics.rouge import Rouge

captions = st.lists(st.lists(st.sampled_from("abcd"), max_size=4), min_size=1, max_size=8)


def test_a_captioner_that_always_says_the_same_is_seen() -> None:
    talking = ["a", "man", "is", "talking"]
    found = diversity([talking, talking, ["a", "dog"], talking], known=[["a", "dog"]])
    assert found.repeated == 0.75 and found.most_repeated == "a man is talking"
    assert found.distinct == 0.5 and found.vocabulary == 5 and found.words == 3.5
    assert found.distinct_1 == 5 / 14 and found.distinct_2 == 4 / 10
    assert found.novel == 0.75
    assert diversity([talking]).novel is None, "nothing is known"


def test_captions_without_a_word_can_be_counted() -> None:
    found = diversity([[], []])
    assert (found.distinct_1, found.distinct_2, found.words, found.repeated) == (0, 0, 0, 1)


@settings(deadline=None)
@given(captions, captions)
def test_merged_is_as_one(first: list[list[str]], second: list[list[str]]) -> None:
    one, other = Diversity(), Diversity()
    for metric, part in ((one, first), (other, second)):
        for caption in part:
            metric.update(caption)
    one.merge(other)
    assert one.compute() == diversity([*first, *second])


def statistics(shares: np.ndarray) -> np.ndarray:
    """Of a metric that is a mean."""
    return np.column_stack([shares, np.ones(len(shares))])


def test_an_interval_of_a_mean_is_what_theory_says() -> None:
    values = np.random.default_rng(1).normal(0.5, 0.1, 4000)
    (interval,) = bootstrap(statistics(values), Rouge.formula, resamples=4000)
    error = 1.96 * values.std() / np.sqrt(len(values))
    assert interval.low == pytest.approx(values.mean() - error, abs=error / 10)
    assert interval.high == pytest.approx(values.mean() + error, abs=error / 10)


def test_an_interval_is_of_the_whole_formula_and_the_same_each_time() -> None:
    rng = np.random.default_rng(0)
    counts = np.concatenate([rng.integers(0, 5, (300, 4)), rng.integers(5, 9, (300, 4)), np.full((300, 2), 9)], 1)
    intervals = bootstrap(counts.astype(float), Bleu.formula)
    assert intervals == bootstrap(counts.astype(float), Bleu.formula)
    for interval, score in zip(intervals, Bleu.formula(counts.sum(0)), strict=True):
        assert interval.low < score < interval.high < 1.2 * interval.low
    assert intervals != bootstrap(counts.astype(float), Bleu.formula, seed=1)


def test_many_resamples_of_many_items_fit_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    values = statistics(np.random.default_rng(0).random(50))
    whole = significance(values, values[::-1], Rouge.formula, rounds=100)
    monkeypatch.setattr("video_captioning.metrics.intervals.BLOCK", 500)
    assert significance(values, values[::-1], Rouge.formula, rounds=100) == whole, "the same draws, in parts"
    assert len(bootstrap(values, Rouge.formula, resamples=100)) == 1


def test_chance_explains_no_difference_and_not_a_large_one() -> None:
    rng = np.random.default_rng(0)
    values = rng.random(200)
    noise = rng.normal(0, 0.05, 200)
    alike, better = statistics(values + noise - noise.mean()), statistics(values + noise + 0.05)
    assert significance(statistics(values), statistics(values), Rouge.formula) == [1.0]
    assert significance(statistics(values), alike, Rouge.formula)[0] > 0.9
    assert significance(statistics(values), better, Rouge.formula)[0] < 0.001


def test_chances_are_as_often_small_as_they_say() -> None:
    """Under chance alone p is uniform: below 0.2 one time in five."""
    rng = np.random.default_rng(0)
    found = [
        significance(statistics(rng.random(40)), statistics(rng.random(40)), Rouge.formula, rounds=200)[0]
        for _ in range(300)
    ]
    assert 0.13 < np.mean(np.array(found) < 0.2) < 0.27
