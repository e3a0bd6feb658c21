"""`vidcap prepare` from local copies: splits, listings that training reads, and everything that can be wrong."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.conftest import MakeClip
from tests.data.conftest import NUMBERS
from video_captioning.cli import vidcap
from video_captioning.data import msrvtt, msvd
from video_captioning.data.claim import claim
from video_captioning.data.items import read_folder


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(vidcap, ["prepare", *map(str, arguments)])


def done(*arguments: str | Path) -> Result:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result


def failure(*arguments: str | Path) -> str:
    result = run(*arguments)
    assert result.exit_code == 1
    return str(result.exception)


def load(path: Path) -> Any:
    return json.loads(path.read_text())


def official(folder: Path, **extra: list[str]) -> Path:
    """Annotations of the miniature as its authors publish them, the test part compressed; `extra` captions by id."""
    folder.mkdir(exist_ok=True)
    for name, splits in zip(msrvtt.OFFICIAL, (("train", "val"), ("test",)), strict=True):
        ids = [f"video{number}" for split in splits for number in NUMBERS[split]]
        sentences = [{"video_id": name, "caption": text} for name in ids for text in extra.get(name, ["a dog runs"])]
        content = json.dumps({"videos": [{"video_id": name, "category": 13} for name in ids], "sentences": sentences})
        if name == msrvtt.OFFICIAL[1]:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content.encode()))
        else:
            (folder / name).write_text(content)
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_official_split_of_the_real_annotations(shared: Path, here: Path) -> None:
    clips = shared / "data" / "clips"
    result = done("msrvtt", "--annotations", shared / "data" / "msrvtt", "--videos", clips)
    splits = {name: load(here / "data" / f"{name}_split.json") for name in ("train", "val", "test")}
    assert splits == {"train": [*range(6513)], "val": [*range(6513, 7010)], "test": [*range(7010, 10000)]}
    real = [row for name in ("train", "validation") for row in map(json.loads, (clips / f"{name}.jsonl").open())]
    captions = {row["id"]: {*row["captions"]} for row in real if row["dataset"] == "msrvtt"}
    items = {split: read_folder(here / "data" / f"{split}.jsonl") for split in ("train", "test")}
    assert {f"msrvtt_{item.id}": {*item.captions} for part in items.values() for item in part} == captions
    assert all(item.path.is_file() for part in items.values() for item in part)
    summary = load(here / "data" / "dataset_summary.json")
    assert summary["videos"] == len(captions) == 49 and summary["missing"] == 10000 - 49
    assert {split: part["missing"] for split, part in summary["splits"].items()} == {
        "train": 6513 - len(items["train"]),
        "val": 497,
        "test": 2990 - len(items["test"]),
    }
    assert sum(summary["categories"].values()) == 49
    assert "val is empty: train with dataset.validation=null" in result.stderr


def test_the_other_splits_of_msrvtt(shared: Path) -> None:
    files = msrvtt.annotation_files(shared / "data" / "msrvtt")
    clips = msrvtt.read_clips(files, {})
    assert (len(clips), sum(len(clip.captions) for clip in clips)) == (10000, 200000)
    for name, sizes in {"7k": (7010, 0, 1000), "9k": (9000, 0, 1000), "random": (8000, 1000, 1000)}.items():
        splits = msrvtt.split(clips, name, 0, files)
        assert tuple(len(splits[part]) for part in ("train", "val", "test")) == sizes
        assert len({index for part in splits.values() for index in part}) == sum(sizes), "no clip is in two"
    assert msrvtt.split(clips, "random", 0, files) == splits != msrvtt.split(clips, "random", 1, files)


def test_msvd_has_both_its_splits(shared: Path, here: Path) -> None:
    done("msvd", "--annotations", shared / "data" / "msvd", "--videos", shared / "data" / "clips")
    published = load(shared / "data" / "msvd" / "official_split.json")
    ids = sorted(name for part in published.values() for name in part)
    out = here / "data" / "msvd"
    for split, names in published.items():
        assert [ids[index] for index in load(out / f"{split}_split.json")] == names
    summary = load(out / "dataset_summary.json")
    assert (summary["videos"], summary["missing"]) == (66, 1970 - 66)
    clips = msvd.read_clips(shared / "data" / "msvd", {})
    assert sum(len(clip.captions) for clip in clips) == 80827
    splits = msvd.split(clips, "random", 3)
    assert [len(splits[part]) for part in ("train", "val", "test")] == [1378, 296, 296]


def test_everything_that_can_be_wrong_with_a_clip_is_counted(here: Path, clips: Path) -> None:
    videos = here / "videos"
    (videos / "TestVideo").mkdir(parents=True)
    for clip in clips.iterdir():
        folder = "TestVideo" if clip.stem in ("video7010", "video7020") else "."
        shutil.copy(clip, videos / folder / clip.name)
    (videos / "video6512.mp4").write_bytes(b"no video at all")
    shutil.copy(videos / "video0.mp4", videos / "video6513.mp4")
    shutil.copy(videos / "video0.mp4", videos / "stranger.mp4")
    same = ["A dog  runs.", "a dog runs", "a cat sleeps here"]
    result = done("msrvtt", "--annotations", official(here / "a", video0=same, video7010=[" . "]), "--videos", videos)
    summary = load(here / "data" / "dataset_summary.json")
    assert summary["splits"] == {
        "train": {"videos": 1, "captions": 3, "missing": 1, "undecodable": 1, "uncaptioned": 0},
        "val": {"videos": 1, "captions": 1, "missing": 0, "undecodable": 0, "uncaptioned": 0},
        "test": {"videos": 1, "captions": 1, "missing": 0, "undecodable": 0, "uncaptioned": 1},
    }
    expected = {"videos": 3, "captions": 5, "missing": 1, "undecodable": 1, "uncaptioned": 1, "unannotated": 1}
    assert {name: summary[name] for name in expected} == expected
    assert (summary["duplicates"], summary["duplicate_videos"], summary["leaks"]) == (1, 1, [["video0", "video6513"]])
    assert summary["vocabulary"] == len({"a", "dog", "runs", "cat", "sleeps", "here"})
    assert summary["caption_lengths"] == {"min": 3, "mean": 3.2, "median": 3, "max": 4}
    assert summary["categories"] == {"animals/pets": 3}
    assert "1 clips cannot be decoded, such as video6512: " in result.stderr
    assert "1 files are in two splits, such as video0, video6513" in result.stderr
    assert "1 files bear no id" in result.stderr and "1 clips are without a caption" in result.stderr
    assert [item.captions for item in read_folder(here / "data" / "train.jsonl")] == [tuple(same)]


def test_nothing_usable_changes_nothing(here: Path, clips: Path) -> None:
    annotations = official(here / "a")
    done("msrvtt", "--annotations", annotations, "--videos", clips)
    before = {path.name: path.read_bytes() for path in (here / "data").iterdir()}
    (here / "empty").mkdir()
    message = failure("msrvtt", "--annotations", annotations, "--videos", "empty")
    assert message == "data: none of the 6 clips can be used: 6 missing; check the media"
    assert {path.name: path.read_bytes() for path in (here / "data").iterdir()} == before


def test_a_full_disk_leaves_what_was_there(here: Path, clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    annotations = official(here / "a")
    done("msrvtt", "--annotations", annotations, "--videos", clips)
    before = {path.name: path.read_bytes() for path in (here / "data").iterdir()}

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    arguments = ("msrvtt", "--annotations", annotations, "--videos", clips, "--split", "random")
    assert "cannot be written (No space left on device); make room" in failure(*arguments)
    assert {path.name: path.read_bytes() for path in (here / "data").iterdir()} == before


def test_two_runs_do_not_mix(here: Path, clips: Path) -> None:
    (here / "data").mkdir()
    with claim(here / "data"):
        said = failure("msrvtt", "--annotations", "a", "--videos", clips)
    assert "data: is in use by another run; wait" in said


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"videos": [', "a/train_val_videodatainfo.json: is not JSON"),
        ('{"sentences": [{"video_id": "video0"}]}', "row 1 has no caption"),
        ('{"sentences": [{"caption": "a dog"}]}', "row 1 has no id"),
        ('{"sentences": [{"video_id": "video0", "caption": 5}]}', "row 1 holds a caption that is no text"),
        ('{"sentences": [{"video_id": "clip0", "caption": "a dog"}]}', "has the id clip0; ids of MSR-VTT are video0"),
    ],
)
def test_broken_annotations_of_msrvtt(here: Path, clips: Path, content: str, message: str) -> None:
    (here / "a").mkdir()
    (here / "a" / "train_val_videodatainfo.json").write_text(content)
    assert message in failure("msrvtt", "--annotations", "a", "--videos", clips)


def test_what_is_not_there_is_named(here: Path, clips: Path) -> None:
    annotations = official(here / "a")
    assert "clips: is no folder" in failure("msrvtt", "--annotations", annotations, "--videos", "clips")
    assert "holds neither train_val_videodatainfo.json nor" in failure(
        "msrvtt", "--annotations", ".", "--videos", clips
    )
    message = failure("msrvtt", "--annotations", annotations, "--videos", clips, "--split", "9k")
    assert "holds neither MSRVTT_JSFUSION_test.csv nor msrvtt_test_1k.json" in message
    (annotations / "MSRVTT_JSFUSION_test.csv").write_text("key,vid_key,video_id,sentence\nret0,msr7020,video7020,a\n")
    done("msrvtt", "--annotations", annotations, "--videos", clips, "--split", "9k")
    assert [item.id for item in read_folder(here / "data" / "test.jsonl")] == ["video7020"]
    assert load(here / "data" / "train_split.json") == [0, 1, 2, 3, 4]
    assert ".: holds no AllVideoDescriptions.txt" in failure("msvd", "--annotations", ".", "--videos", clips)
    (here / "AllVideoDescriptions.txt").write_text("# a heading\nx_1_2 a dog\n\nx_1_2\n")
    assert "line 4 has no caption" in failure("msvd", "--annotations", ".", "--videos", clips)


def test_msvd_from_its_own_folders(here: Path, make_clip: MakeClip) -> None:
    (here / "YouTubeClips").mkdir()
    for name in ("-4wsuPCjDBc_5_15", "zzz_1_2"):
        make_clip(here / "YouTubeClips" / f"{name}.avi", frames=4, codec="mpeg4")
    rows = ["-4wsuPCjDBc_5_15 a squirrel is eating", "zzz_1_2 a man is talking", "-4wsuPCjDBc_5_15 a peanut"]
    (here / "AllVideoDescriptions.txt").write_text("\n".join(rows))
    done("msvd", "--annotations", ".")
    [item] = read_folder(here / "data" / "msvd" / "train.jsonl")
    assert (item.id, item.captions) == ("-4wsuPCjDBc_5_15", ("a squirrel is eating", "a peanut"))
    assert [item.id for item in read_folder(here / "data" / "msvd" / "test.jsonl")] == ["zzz_1_2"]


# Folders


@pytest.fixture
def listing(here: Path, make_clip: MakeClip) -> Path:
    """Twenty rows of ten clips in a folder beside the listing."""
    (here / "mine" / "clips").mkdir(parents=True)
    for number in range(10):
        make_clip(here / "mine" / "clips" / f"{number}.mp4", frames=3 + number)
    rows = [f"clips/{number}.mp4\tcaption {kind} of {number}" for kind in "ab" for number in range(10)]
    (here / "mine" / "captions.tsv").write_text("\n".join(rows))
    return here / "mine" / "captions.tsv"


def test_a_folder_is_split_by_the_seed(here: Path, listing: Path) -> None:
    done("folder", listing)
    out = here / "data" / "folder"
    items = {split: read_folder(out / f"{split}.jsonl") for split in ("train", "val", "test")}
    assert [len(part) for part in items.values()] == [8, 1, 1]
    known = {item.id: item for item in read_folder(listing)}
    for item in (item for part in items.values() for item in part):
        assert item.captions == known.pop(item.id).captions and item.path.is_file()
    first = [load(out / f"{split}_split.json") for split in items]
    done("folder", listing, "--out", "again")
    assert [load(here / "again" / f"{split}_split.json") for split in items] == first
    done("folder", listing, "--out", "other", "--seed", "1")
    assert [load(here / "other" / f"{split}_split.json") for split in items] != first


def test_given_listings_stay_what_they_are(here: Path, listing: Path) -> None:
    rows = [{"file": "mine/clips/9.mp4", "caption": "nine", "weight": 0.5}, {"file": "gone.mp4", "caption": "gone"}]
    (here / "val.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (here / "picture.jsonl").write_text(json.dumps({"file": "mine/clips/8.mp4", "caption": "eight", "frames": 4}))
    done("folder", listing, "--validation", "val.jsonl", "--test", "picture.jsonl", "--out", "out")
    assert len(read_folder(here / "out" / "train.jsonl")) == 10
    [val] = read_folder(here / "out" / "val.jsonl")
    assert (val.captions, val.weight, val.path.resolve()) == (("nine",), 0.5, here / "mine" / "clips" / "9.mp4")
    [test] = read_folder(here / "out" / "test.jsonl")
    assert test.frames == 4
    summary = load(here / "out" / "dataset_summary.json")
    assert summary["splits"]["val"]["missing"] == 1
    assert summary["leaks"] == [["8", "8"], ["9", "9"]], "they are among the clips to train with, too"


def test_rows_of_a_folder_that_cannot_be_read(here: Path, listing: Path) -> None:
    listing.write_text("clips/0.mp4\ta dog\nclips/1.mp4 a cat\n")
    assert "captions.tsv: line 2 has 1 columns" in failure("folder", listing)
    listing.write_text("clips/0.mp4\ta dog\nclips/1.mp4\t .\n")
    assert "captions.tsv: line 2 has no caption" in failure("folder", listing)
    assert not list(here.rglob("*.jsonl"))


def test_a_listing_is_not_overwritten_by_what_is_made_of_it(here: Path, listing: Path) -> None:
    done("folder", listing)
    train = here / "data" / "folder" / "train.jsonl"
    before = train.read_bytes()
    assert "train.jsonl: it would be overwritten; name another folder in --out" in failure("folder", train)
    assert train.read_bytes() == before


def test_captions_are_mended_on_demand_but_not_those_of_test(here: Path, clips: Path) -> None:
    many = ["a man is riding a horse"] * 25
    annotations = official(here / "a", video0=[*many, "a man is rdiing the brown horse there"], video7010=many)
    done("msrvtt", "--annotations", annotations, "--videos", clips)
    assert load(here / "data" / "dataset_summary.json")["cleaned"] is None
    assert len(read_folder(here / "data" / "train.jsonl")[0].captions) == 26
    result = done("msrvtt", "--annotations", annotations, "--videos", clips, "--clean")
    mended = ("a man is riding a horse", "a man is riding the brown horse there")
    assert read_folder(here / "data" / "train.jsonl")[0].captions == mended
    assert read_folder(here / "data" / "test.jsonl")[0].captions == tuple(many)
    cleaned = load(here / "data" / "dataset_summary.json")["cleaned"]
    assert cleaned == {"split": 0, "spelling": 1, "duplicates": 24}
    assert "captions mended: split 0, spelling 1, duplicates 24" in result.stderr
