"""Training sources are all there, plain, and nothing of what is validated or tested on is among them."""

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from recipes.default import sources
from recipes.default.sources import Source
from tests.recipes import made


@pytest.fixture(scope="module")
def real(shared: Path) -> Path:
    if not (shared / "data" / "clips").is_dir():
        pytest.skip("the real data (../shared/data) is not here")
    return shared / "data"


def plain(sentence: str) -> str:
    return " ".join(sentence.lower().split())


def test_every_training_source_is_there(real: Path) -> None:
    pictures, clips = sources.pictures(real), sources.clips(real)
    counts = Counter(source.kind for source in (*pictures, *clips))
    assert counts == {"flickr8k": 6000, "coco": 2561, "web": 10999, "unlabelled": 5162, "clips": 630}
    for source in (*pictures, *clips):
        assert source.path.is_file() and source.captions and all(caption.strip() for caption in source.captions)
    assert len({source.path for source in (*pictures, *clips)}) == len(pictures) + len(clips)


def test_nothing_of_a_validation_set_is_trained_on(real: Path) -> None:
    training = [*sources.pictures(real), *sources.clips(real)]
    validation = sources.validation(real)
    assert {name: len(found) for name, found in validation.items()} == {
        "dev": 1000,
        "validation": 35,
        "more_validation": 78,
    }
    held = [source for found in validation.values() for source in found]
    assert all(source.path.is_file() for source in held)
    assert not {source.id for source in held} & {source.id for source in training}
    assert not {source.path for source in held} & {source.path for source in training}


def test_captions_have_no_times(real: Path) -> None:
    raw = [caption for row in sources.rows(real / "clips" / "train.jsonl") for caption in row["captions"]]
    assert any(caption.startswith("[") for caption in raw)
    assert not any("[" in caption for source in sources.clips(real) for caption in source.captions)


def test_imagenet_has_a_thousand_classes_in_their_order(real: Path) -> None:
    names = sources.class_names(real)
    assert len(names) == 1000
    assert (names[1], names[388], names[967]) == ("goldfish", "giant panda", "espresso")


@pytest.mark.slow
def test_no_sentence_of_a_held_out_video(real: Path) -> None:
    """Those that were only said of videos that are validated or tested on."""
    held = {row["id"].partition("_")[2] for row in sources.rows(real / "clips" / "validation.jsonl")}
    learned: set[str] = set()
    others: set[str] = set()
    for name in ("train_val", "test"):
        with gzip.open(real / "msrvtt" / f"{name}_videodatainfo.json.gz") as file:
            found = json.load(file)
        train = {video["video_id"] for video in found["videos"] if video["split"] == "train"} - held
        for row in found["sentences"]:
            (learned if row["video_id"] in train else others).add(plain(row["caption"]))
    train = set(json.loads((real / "msvd" / "official_split.json").read_text())["train"]) - held
    with gzip.open(real / "msvd" / "AllVideoDescriptions.txt.gz", "rt") as lines:
        for line in lines:
            name, _, sentence = line.partition(" ")
            (learned if name in train else others).add(plain(sentence))
    sentences = set(sources.video_sentences(real))
    assert len(others - learned) > 50_000
    assert not (others - learned) & sentences
    assert sentences <= learned and len(sentences) > 100_000


def test_captions_of_several_listings_of_one_file_are_put_together(data: Path) -> None:
    found = {source.id: source for source in (*sources.pictures(data), *sources.clips(data))}
    assert len(found) == 3 + 2 + 1 + len(made.CLASSES) + 3
    bus = ("A red bus drives down the street.", "a bus in the city", "a red bus is on a street")
    assert found["coco_bus"].captions == bus
    girl = ("a girl is dancing on a stage", "a girl dances in a red dress", "someone dances on stage")
    assert found["web_1"] == Source("web_1", data / "clips" / "train" / "web_1.mp4", girl, "clips", "web")


def test_times_are_cut_off(data: Path) -> None:
    [clip] = [source for source in sources.clips(data) if source.id == "activitynet_v_1"]
    assert clip.captions == ("A woman dances.", "She turns around.")


def test_class_names_are_plain(data: Path) -> None:
    assert sources.class_names(data) == [name.replace("_", " ") for name in made.CLASSES]


def test_sentences_about_training_videos_alone(data: Path) -> None:
    said = ["two dogs run in the grass", "a red ball in the grass", "a man is playing a guitar"]
    assert sources.video_sentences(data) == said


def test_sentences_about_pictures(data: Path) -> None:
    assert list(sources.picture_sentences(data)) == [plain(line) for lines in made.TEXT.values() for line in lines]
