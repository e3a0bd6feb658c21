"""Pictures get sentences about videos that are true of them; nothing of validation or test is learned from."""

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from scripts.default_mixture import content, match, references, stem, text, training, validation, video_sentences

DOG = {"captions": ["A brown dog runs over the grass .", "A dog is running through a field ."]}
GUITAR = {"captions": ["a man with a hat plays guitars on a stage"]}
SENTENCES = Counter(
    {
        "a dog is running in the grass": 3,
        "a dog runs on a field": 1,
        "a dog is running after a man": 9,
        "a man is playing a guitar": 40,
        "a man plays the guitar on stage": 1,
        "the dog": 5,
    }
)


@pytest.mark.parametrize("words", ["run runs running", "slice slices slicing sliced", "play plays playing played"])
def test_forms_of_a_word_have_one_stem(words: str) -> None:
    assert len({stem(word) for word in words.split()}) == 1


@pytest.mark.parametrize(("one", "other"), [("male", "mall"), ("sing", "sin"), ("bus", "bu"), ("red", "r")])
def test_what_only_looks_like_an_ending_stays(one: str, other: str) -> None:
    assert stem(one) != stem(other)


def test_every_content_word_of_a_match_was_said_of_the_picture() -> None:
    dog, guitar = match([DOG, GUITAR], SENTENCES)
    assert set(dog) == {"a dog is running in the grass", "a dog runs on a field"}
    assert set(guitar) == {"a man is playing a guitar", "a man plays the guitar on stage"}


def test_a_picture_that_nothing_fits_gets_nothing() -> None:
    assert match([{"captions": ["two kites"]}], SENTENCES) == [[]]


@pytest.mark.slow
def test_the_mixture_is_true_of_its_pictures_and_knows_nothing_of_what_it_is_judged_by(shared: Path) -> None:
    data = shared / "data"
    items = training(data)
    people = {row["file"]: " ".join(row["captions"]) for row in items if "frames" not in row}
    stills = [row for row in items if "frames" in row]
    assert len(stills) > 5000
    for row in stills[::50]:
        for caption in row["captions"]:
            assert set(content(caption)) <= set(content(people[row["file"]]))
    judged = {row["file"] for row in validation(data)}
    assert not judged & {row["file"] for row in items}


def test_no_sentence_of_a_held_out_video(shared: Path) -> None:
    data = shared / "data"
    with gzip.open(data / "msrvtt" / "train_val_videodatainfo.json.gz") as file:
        found = json.load(file)
    split = {video["video_id"]: video["split"] for video in found["videos"]}
    said = {kind: set() for kind in ("train", "validate")}
    for row in found["sentences"]:
        said[split[row["video_id"]]].add(" ".join(row["caption"].lower().split()))
    with gzip.open(data / "msvd" / "AllVideoDescriptions.txt.gz", "rt") as lines:
        msvd = {" ".join(line.split()[1:]) for line in lines}
    only_held_out = said["validate"] - said["train"] - msvd
    assert len(only_held_out) > 5000
    assert not only_held_out & set(video_sentences(data))


@pytest.mark.slow
def test_text_alone_is_of_one_grey_picture_and_of_it_standing_still(shared: Path, tmp_path: Path) -> None:
    pictures, videos = text(shared / "data", tmp_path / "grey.png")
    assert pictures["file"] == videos["file"] == str(tmp_path / "grey.png")
    assert Path(pictures["file"]).stat().st_size < 10_000
    assert pictures["frames"] == 1
    assert videos["frames"] > 1
    assert min(len(pictures["captions"]), len(videos["captions"])) > 100_000
    assert set(videos["captions"]) == set(video_sentences(shared / "data"))


def test_clips_are_rewarded_more_often_unless_they_show_what_too_many_show(shared: Path) -> None:
    listed = references(shared / "data", 15.0)
    assert all(len(row["captions"]) >= 5 for row in listed)
    clips = [row for row in listed if "/clips/" in row["file"]]
    assert {row["weight"] for row in clips} == {1.0, 15.0}
    telephones = [row for row in clips if row["weight"] == 1.0]
    assert len(telephones) == 5 and all("phone" in " ".join(row["captions"]) for row in telephones)
    assert {row["weight"] for row in listed if "/clips/" not in row["file"]} == {1.0}
