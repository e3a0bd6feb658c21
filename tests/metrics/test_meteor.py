"""METEOR: the jar's numbers, asked where Java is here, else stored ones; and the laws that hold for any caption."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.captions import Set
from tests.metrics import jar
from video_captioning.metrics.meteor import Meteor, count, meteor, why_not
from video_captioning.metrics.meteor_alignment import Match, resolve
from video_captioning.metrics.meteor_lexicon import load_lexicon
from video_captioning.metrics.tokenization import tokenize

if reason := why_not():
    pytest.skip(reason, allow_module_level=True)

SAID: list[tuple[str, list[str], float]] = [
    ("a man is singing", ["a man is singing"], 1.0),
    ("the cat sat down", ["the cat sat"], 0.48704502558483637),
    ("two dogs play", ["two cats play", "dogs play"], 0.4660191824608054),
    ("he speaks at the moment", ["he is currently speaking"], 0.19830255555303156),
    ("it isn't a U.S. car", ["it is not a car"], 0.32927657713143715),
    ("a t-shirt, black-and-white", ["one black and white shirt"], 0.4171787441243018),
    ("large number of birds", ["many birds"], 0.18181818181818182),
    ("geese", ["a goose"], 0.0),
    ("", ["a dog"], 0.0),
    ("dog", [""], 0.0),
    ("3,000 people can't swim", ["3,000 people swim", "nobody swims"], 0.38846543748779433),
    ("f1", ["do"], 1.0),
    ("“quoted” text … 😀 狗", ["quoted text 😀"], 0.4443438716486749),
    ("don't go to http://a.com/b", ["go to a.com"], 0.2992484949068654),
    ("children", ["a kid", "several child actors"], 0.0),
]
"""Hypothesis, references, and what the jar said."""
ALL = 0.33500981427604426
law = settings(deadline=None)
words = st.lists(
    st.sampled_from(["a", "man", "guy", "dogs", "dog", "rides", "riding", "the", "of", "ß", "狗"]), max_size=8
)
references = st.lists(words, min_size=1, max_size=3)
sets = st.lists(st.tuples(words, references), min_size=1, max_size=4)


def test_known_values() -> None:
    said = [tokenize(hypothesis) for hypothesis, _, _ in SAID]
    known = [[tokenize(reference) for reference in of] for _, of, _ in SAID]
    found = meteor(said, known)
    np.testing.assert_allclose(found.segments, [value for _, _, value in SAID], rtol=0, atol=1e-12)
    assert found.score == pytest.approx(ALL, abs=1e-12)


@law
@given(sets)
def test_order_and_halves_do_not_matter(pairs: list[tuple[list[str], list[list[str]]]]) -> None:
    said, wanted = zip(*pairs, strict=True)
    whole = meteor(said, wanted)
    turned = meteor(said[::-1], [known[::-1] for known in wanted[::-1]])
    np.testing.assert_allclose(turned.segments[::-1], whole.segments, atol=1e-9)
    parts = [Meteor(), Meteor()]
    for number, pair in enumerate(pairs):
        parts[number >= len(pairs) // 2].update(*pair)
    parts[0].merge(parts[1])
    np.testing.assert_array_equal(parts[0].compute().segments, whole.segments)
    assert Meteor.formula(parts[0].statistics.sum(0))[0] == whole.score
    assert 0 <= whole.score <= 1 and (whole.segments >= 0).all() and (whole.segments <= 1).all()


@law
@given(words.filter(bool), references)
def test_saying_what_people_said_is_best(sentence: list[str], others: list[list[str]]) -> None:
    assert meteor([sentence], [[*others, sentence]]).score == pytest.approx(1.0)
    assert meteor([sentence], [others]).score <= 1 + 1e-12


@law
@given(words, words)
def test_matches_that_are_chosen_share_no_word(hypothesis: list[str], reference: list[str]) -> None:
    [matches] = load_lexicon().matches(hypothesis, [reference])
    chosen = resolve(matches, len(hypothesis), len(reference))
    assert set(chosen) <= set(matches)
    by_start = sorted(chosen), sorted((match.other, match.span) for match in chosen)
    assert all(one.start + one.length <= next_one.start for one, next_one in pairwise(by_start[0]))
    assert all(other + span <= next_other for (other, span), (next_other, _) in pairwise(by_start[1]))


def test_statistics_of_a_paraphrase() -> None:
    """Of "he is at the moment" and "he is currently", where the three words match the one."""
    chosen = [Match(0, 1, 0, 1, 0), Match(1, 1, 1, 1, 0), Match(2, 3, 2, 1, 3)]
    found = count(chosen, [True, True, True, True, False], [True, True, False])
    assert found == [5, 3, 4, 2, 0, 0, 2, 2, *[0] * 8, 1, 1, 2, 0, 0, 5, 3], "whole and in order: no chunk counts"


def test_a_very_long_caption() -> None:
    long = ["a", "man", "and", "a", "dog"] * 60
    assert meteor([long], [[long]]).score == pytest.approx(1.0)


@pytest.mark.slow
@pytest.mark.parametrize("matcher", range(4))
def test_matches_of_the_jar(matcher: int, msrvtt: Set, tmp_path: Path) -> None:
    """What each matcher finds in real captions; where matches overlap, the jar shows a part of them."""
    lexicon = load_lexicon()
    pairs = [
        (lexicon.normalize(known[0].split()), lexicon.normalize(known[1].split())) for known in _references(msrvtt)
    ]
    module = ("exact", "stem", "synonym", "paraphrase")[matcher]
    clear = 0
    for (one, other), found in zip(pairs, jar.alignments(pairs, module, tmp_path), strict=True):
        matches = [match for match in lexicon.matches(one, [other])[0] if match.matcher == matcher]
        sides = (
            Counter(place for match in matches for place in range(match.start, match.start + match.length)),
            Counter(place for match in matches for place in range(match.other, match.other + match.span)),
        )
        ours = {match[:4] for match in matches}
        assert found <= ours
        if all(times == 1 for side in sides for times in side.values()):
            clear += bool(ours)
            assert found == ours, (one, other)
    assert clear > 200


def _references(captions: Set) -> list[list[str]]:
    return [known for known in captions.references.values() if all(one.split() for one in known[:2])]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["msrvtt", "flickr8k"])
def test_the_numbers_of_the_jar(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Real captions, corrupted ones and empty ones among them."""
    real: Set = request.getfixturevalue(name)
    ids = list(real.hypotheses)[:600]
    pairs = [
        (tokenize(real.hypotheses[one]), [tokenize(reference) for reference in real.references[one]]) for one in ids
    ]
    found = jar.statistics(pairs, tmp_path)
    *segments, total = jar.scores(found, tmp_path)
    ours = meteor(*zip(*pairs, strict=True))
    off = np.abs(ours.segments - segments) > 1e-3
    assert ours.score == pytest.approx(total, abs=1e-4) and off.mean() <= 0.005


@pytest.mark.slow
def test_the_formula_of_the_jar(msrvtt: Set, tmp_path: Path) -> None:
    """What the jar makes of its own statistics."""
    ids = list(msrvtt.hypotheses)[:300]
    pairs = [(msrvtt.hypotheses[one].split(), [known.split() for known in msrvtt.references[one]]) for one in ids]
    found = jar.statistics(pairs, tmp_path)
    *segments, total = jar.scores(found, tmp_path)
    rows = np.array([row.split() for row in found], np.float64)
    rows[(rows[:, -2:] == rows[:, :2]).all(1) & (rows[:, -3] == 1), -3] = 0  # as it does itself when it sums
    np.testing.assert_allclose(Meteor.formula(rows)[:, 0], segments, rtol=0, atol=1e-12)
    assert Meteor.formula(rows.sum(0))[0] == pytest.approx(total, abs=1e-12)
