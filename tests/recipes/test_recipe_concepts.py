"""Concepts are words that people use of several things, and ImageNet's classes; each source shows those it names."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes.default import concepts
from recipes.default.concepts import Concept, choose, common_forms, targets
from video_captioning.words import stem

DOGS = ["a white dog runs across the grass", "a dog is running on the grass", "two dogs run over grass"]
OWLS = ["an owl sits in a tree", "an owl is in the tree", "the white owl sleeps"]
FROGS = ["a green frog sits on a leaf", "a frog in the grass", "the frog jumps into the water"]
PLACES = ["a white house and a dog", "a dog and a white owl stand in the grass", "a running man with a white horse"]
CAPTIONS = [DOGS, OWLS, FROGS, PLACES]
CLASSES = ["tree frog", "owl", "crane", "great white shark", "crane", "dogs"]

FORMS = {
    "dog": ["dog", "dogs", "Dog", "dog.", "'dog'"],
    "run": ["run", "runs", "running", "runs,"],
    "slice": ["slice", "slices", "sliced", "slicing"],
    "tree frog": ["tree frog", "tree frogs", "frog in a tree", "tree-frog", "Tree Frog."],
    "giant panda": ["giant panda", "a panda, giant,", "giant pandas"],
    "woman": ["woman", "Woman", "(woman)"],
}
NAMED = [Concept(name, "", tuple(stem(word) for word in name.split())) for name in FORMS]
OTHERS = ["a kite flies", "two trees", "giants walk", "people", "the video of it", "frogspawn"]


@pytest.fixture
def two_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    """A word of two sources is a concept."""
    monkeypatch.setattr(concepts, "SOURCES", 2)


@pytest.fixture
def chosen(two_sources: None) -> dict[str, Concept]:
    return {concept.name: concept for concept in choose(CAPTIONS, ["the grass is green"] * 3, CLASSES)}


def test_words_of_enough_sources_are_concepts_however_often_one_says_them(chosen: dict[str, Concept]) -> None:
    words = {name for name, concept in chosen.items() if len(concept.stems) == 1 and not concept.classes}
    assert words == {"white", "grass", "running", "sits"}
    assert {"dog", "owl"} < chosen.keys(), "which are classes, too"
    assert not {"tree", "frog", "house"} & chosen.keys(), "which one source has"


def test_a_class_is_merged_with_the_word_of_its_name(chosen: dict[str, Concept]) -> None:
    assert chosen["owl"].classes == (1,)
    assert chosen["dog"].classes == (5,), "of whatever form"
    assert chosen["grass"].classes == ()
    assert sum(1 in concept.classes for concept in chosen.values()) == 1


def test_other_classes_are_concepts_of_their_own(chosen: dict[str, Concept]) -> None:
    assert chosen["tree frog"] == Concept("tree frog", "a tree frog", ("tre", "frog"), (0,))
    assert chosen["crane"].classes == (2, 4), "of one name"
    assert {number for concept in chosen.values() for number in concept.classes} == set(range(len(CLASSES)))


def test_things_have_an_article_where_people_give_them_one(chosen: dict[str, Concept]) -> None:
    assert chosen["dog"].phrase == "a dog"
    assert chosen["owl"].phrase == "an owl"
    assert chosen["grass"].phrase == "grass"


@pytest.mark.parametrize("name", ["running", "white"])
def test_what_is_done_or_how_it_looks_is_no_thing(chosen: dict[str, Concept], name: str) -> None:
    assert chosen[name].phrase == ""


def test_the_most_used_word_comes_first(two_sources: None) -> None:
    found = choose([["a cat"], ["cats and a dog"], ["one cat", "dogs"], ["a kite"]], [], ["kite"])
    assert [concept.name for concept in found] == ["cat", "dog", "kite"]


@pytest.mark.parametrize(
    ("text", "name", "phrase"),
    [
        (["a dog runs", "the dog sleeps", "two dogs"], "dog", "a dog"),
        (["an owl sits", "an owl", "the owls are there"], "owl", "an owl"),
        (["on the grass", "green grass in the yard", "dogs in grass", "the grass"], "grass", "grass"),
        (["a white dog", "the white owl", "a white horse and white grass"], "white", ""),
        (["the men are running", "a dog is running", "in running"], "running", ""),
        (["a pair of scissors", "the scissors are on it", "with scissors"], "scissors", "scissors"),
        (["he is bored", "the bored child", "a bored"], "bored", ""),
        (["A bus.", "a red bus, a bus", "buses"], "bus", "a bus"),
    ],
)
def test_the_form_that_people_use_and_its_phrase(text: list[str], name: str, phrase: str) -> None:
    s = stem(name)
    assert common_forms(text, {s}) == {s: (name, phrase)}


def test_an_article_for_every_name() -> None:
    assert concepts.with_article("owl") == "an owl"
    assert concepts.with_article("tree frog") == "a tree frog"


caption = st.tuples(st.lists(st.sampled_from(list(FORMS)), max_size=3, unique=True), st.sampled_from(OTHERS)).flatmap(
    lambda drawn: st.tuples(
        st.just(set(drawn[0])), st.tuples(*(st.sampled_from(FORMS[name]) for name in drawn[0]), st.just(drawn[1]))
    )
)
"""The names of what a caption is of, and its parts."""


@settings(deadline=None)
@given(st.lists(st.lists(caption, max_size=4), min_size=1, max_size=3))
def test_a_target_is_the_share_of_captions_that_name_it_in_any_form(
    drawn: list[list[tuple[set[str], tuple[str, ...]]]],
) -> None:
    found = targets([[" ".join(parts) for _, parts in texts] for texts in drawn], NAMED)
    assert found.shape == (len(drawn), len(NAMED)) and found.dtype == np.float32
    assert ((found >= 0) & (found <= 1)).all()
    for row, texts in zip(found, drawn, strict=True):
        for share, name in zip(row, FORMS, strict=True):
            assert share == pytest.approx(sum(name in names for names, _ in texts) / max(1, len(texts)))


@settings(deadline=None)
@given(st.text(max_size=60), st.text(max_size=60))
def test_a_caption_is_any_text(one: str, other: str) -> None:
    found = targets([[one, other], [one], []], NAMED)
    assert ((found >= 0) & (found <= 1)).all() and not found[2].any()
    assert (2 * found[0] >= found[1] - 1e-6).all()


def test_a_name_of_several_words_needs_them_all() -> None:
    names = [Concept("tree frog", "", ("tre", "frog")), Concept("frog", "", ("frog",))]
    found = targets([["a frog"], ["a tree"], ["a frog in a tree"], ["frogs", "a tree"]], names)
    assert found.tolist() == [[0, 1], [0, 0], [1, 1], [0, 0.5]]


def test_every_chosen_word_is_found_where_it_was_said(chosen: dict[str, Concept]) -> None:
    found = targets(CAPTIONS, list(chosen.values()))
    said = {name: [round(float(share), 2) for share in found[:, column]] for column, name in enumerate(chosen)}
    assert said["dog"] == [1, 0, 0, 0.67]
    assert said["white"] == [0.33, 0.33, 0, 1]
    assert said["running"] == [1, 0, 0, 0.33]
    assert said["tree frog"] == said["crane"] == [0, 0, 0, 0]
