"""Pictures get sentences about videos that are true of them; nothing that is validated on is learned from."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes.default import mixture, sources
from recipes.default.mixture import SENTENCES, match
from recipes.default.sources import Source
from tests.recipes import made
from video_captioning.data.items import read_folder
from video_captioning.words import content_stems


def source(*captions: str) -> Source:
    return Source("id", Path("picture.avif"), captions, "coco")


DOG = source("A brown dog runs over the grass .", "A dog is running through a field .")
GUITAR = source("a man with a hat plays guitars on a stage")
SAID = Counter(
    {
        "a dog is running in the grass": 3,
        "a dog runs on a field": 1,
        "a dog is running after a cat": 9,
        "a man is playing a guitar": 40,
        "a man plays the guitar on stage": 1,
        "the dog": 5,
        "it is a dog": 5,
    }
)
WORDS = ["dog", "dogs", "run", "running", "grass", "a", "the", "is", "on", "red", "ball", "balls", "kite", "beach"]
sentences = st.lists(st.sampled_from(WORDS), min_size=1, max_size=7).map(" ".join)


def test_every_content_word_of_a_match_was_said_of_the_picture() -> None:
    dog, guitar = match([DOG, GUITAR], SAID)
    assert set(dog) == {"a dog is running in the grass", "a dog runs on a field"}
    assert set(guitar) == {"a man is playing a guitar", "a man plays the guitar on stage"}


def test_a_picture_that_nothing_fits_gets_nothing() -> None:
    assert match([source("two kites")], SAID) == [[]]


@settings(deadline=None)
@given(
    st.lists(st.lists(sentences, min_size=1, max_size=4), min_size=1, max_size=4),
    st.dictionaries(sentences, st.integers(1, 50), max_size=30),
    st.integers(1, 3),
)
def test_matches_say_only_what_the_captions_say(captions: list[list[str]], counts: dict[str, int], block: int) -> None:
    counts["a giraffe eats leaves"] = 1  # without any sentence there is nothing to match
    found = match([source(*texts) for texts in captions], Counter(counts), block)
    assert len(found) == len(captions)
    for texts, matched in zip(captions, found, strict=True):
        used = {word for text in texts for word in content_stems(text)}
        fitting = [
            s
            for s in counts
            if len(s.split()) >= 4 and len(set(content_stems(s))) >= 2 and set(content_stems(s)) <= used
        ]
        assert set(matched) <= set(fitting)
        assert len(matched) == len(set(matched)) == min(SENTENCES, len(fitting))
    assert found == match([source(*texts) for texts in captions], Counter(counts)), "of whatever blocks"


def test_what_was_said_often_and_shares_rare_words_comes_first() -> None:
    said = Counter({"a dog is on grass": 1, "a dog lies on grass": 30, "a spotted dog on grass": 1} | dict(SAID))
    [found] = match([source("a spotted dog lies on the grass")], said)
    assert found.index("a spotted dog on grass") < found.index("a dog is on grass")
    assert found.index("a dog lies on grass") < found.index("a dog is on grass")


@pytest.fixture(scope="module")
def written(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mixture")
    mixture.write(data, folder)
    return folder


def test_the_training_listing_has_every_source_and_pictures_that_stand_still(written: Path, data: Path) -> None:
    items = read_folder(written / "train.jsonl")
    shown = [item for item in items if item.frames == 1]
    assert [(item.id, item.path, item.captions) for item in shown] == [
        (source.id, source.path, source.captions) for source in (*sources.pictures(data), *sources.clips(data))
    ]
    assert {item.path.parent.parent.name: item.weight for item in shown if item.path.parent.name == "images"} == {
        kind: mixture.WEIGHTS[kind] for kind in ("flickr8k", "coco", "web")
    }
    assert {item.weight for item in shown if item.path.suffix == ".mp4"} == {mixture.WEIGHTS["clips"]}
    stills = [item for item in items if item.frames > 1]
    assert {item.id: item.captions for item in stills} == {
        "flickr8k_dogs": ("two dogs run in the grass",),
        "flickr8k_ball": ("a red ball in the grass",),
        "flickr8k_man": ("a man is playing a guitar",),
    }
    assert {(item.frames, item.weight) for item in stills} == {(mixture.STILL_FRAMES, mixture.STILL["flickr8k"])}


def test_what_is_validated_on_is_all_there(written: Path, data: Path) -> None:
    found = {item.path: item.captions for item in read_folder(written / "validation.jsonl")}
    held = [source for part in sources.validation(data).values() for source in part]
    assert found == {source.path: source.captions for source in held}


def test_what_is_there_is_not_written_again(written: Path, tmp_path: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in written.iterdir()}
    assert set(before) == {"train.jsonl", "references.jsonl", "validation.jsonl", "text.txt"}
    mixture.write(tmp_path / "no data", written)
    assert {path.name: path.stat().st_mtime_ns for path in written.iterdir()} == before


def test_what_several_people_described_is_rewarded_and_clips_more_often(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mixture, "PEOPLE", 3)
    mixture.write(data, tmp_path)
    items = read_folder(tmp_path / "references.jsonl")
    assert {item.id: item.weight for item in items} == {
        "coco_bus": mixture.REWARDED["coco"],
        "web_1": mixture.REWARDED["clips"],
    }
    assert all(len(item.captions) >= 3 for item in items)


def test_text_has_every_sentence_once(written: Path) -> None:
    lines = (written / "text.txt").read_text().splitlines()
    assert len(lines) == len(set(lines)) == 3 + sum(map(len, made.TEXT.values()))
    assert lines[0] == "two dogs run in the grass" and lines[-1] == "the girl turns."


@pytest.mark.slow
def test_the_real_mixture_is_true_of_its_pictures_and_knows_nothing_of_what_it_is_judged_by(shared: Path) -> None:
    """A twentieth of the pictures and of the sentences."""
    data = shared / "data"
    shown = sources.pictures(data)[::20]
    found = match(shown, Counter(sources.video_sentences(data)[::20]))
    assert sum(map(bool, found)) > 200
    for one, matched in zip(shown, found, strict=True):
        used = {word for caption in one.captions for word in content_stems(caption)}
        assert all(set(content_stems(sentence)) <= used for sentence in matched)
    judged = {row["file"] for row in mixture.held(data)}
    assert len(judged) == mixture.VALIDATED + 35 + 78
    assert not judged & {row["file"] for row in mixture.references(data)}
