"""Every form in which the field keeps captions is read; what is wrong with a file is said with its place."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from video_captioning.errors import DataError
from video_captioning.metrics.files import one_each, read_captions

TWO = {"1": ["a cat", "the cat"], "b": ["a dog"]}
ROWS = [
    {"image_id": 1, "caption": "a cat"},
    {"image_id": "b", "caption": "a dog"},
    {"image_id": 1, "caption": "the cat"},
]
FORMS = {
    "ids.json": json.dumps(TWO),
    "bare.json": json.dumps({"1": ["a cat", "the cat"], "b": "a dog"}),
    "tool.json": json.dumps({"1": [{"caption": "a cat"}, {"caption": "the cat"}], "b": [{"caption": "a dog"}]}),
    "results.json": json.dumps(ROWS),
    "annotations.json": json.dumps({"info": {}, "images": [{"id": 1}], "annotations": ROWS}),
    "msrvtt.json": json.dumps({"videos": [], "sentences": [{"video_id": r["image_id"], **r} for r in ROWS]}),
    "rows.jsonl": "".join(json.dumps({"id": name, "captions": said}) + "\n\n" for name, said in TWO.items()),
    "listing.jsonl": '{"file": "x/1.mp4", "captions": ["a cat", "the cat"]}\r\n{"file": "b.png", "caption": "a dog"}',
    "vidcap.jsonl": "".join(
        json.dumps({"text": text, "video": {"path": f"clips/{name}.mp4"}}) + "\n"
        for name, texts in TWO.items()
        for text in texts
    ),
    "table.tsv": "\ufeffid\tcaption\r\n1\ta cat\r\nb\ta dog\r\n1\tthe cat\r\n",
    "table.txt": "1\ta cat\n1\tthe cat\n\nb\ta dog",
}


@pytest.mark.parametrize("name", FORMS)
def test_forms(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(FORMS[name], newline="")
    assert read_captions(path) == TWO
    packed = tmp_path / f"{name}.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert read_captions(packed) == TWO


def test_real_files(shared: Path) -> None:
    data = shared / "data"
    assert len(read_captions(data / "flickr8k" / "dev.jsonl")) == 1000
    videos = read_captions(data / "msrvtt" / "test_videodatainfo.json.gz")
    assert len(videos) == 2990 and {len(captions) for captions in videos.values()} == {20}


BROKEN = {
    "empty.json": ("", "is not JSON"),
    "nothing.json": ("{}", "holds no captions"),
    "number.json": ("7", "holds a number"),
    "cut.json": ('{"a": ["b"', "is not JSON"),
    "deep.json": ("[" * 100_000, "is not JSON"),
    "twice.json": ('{"a": ["x"], "a": ["y"]}', "has a twice"),
    "none.json": ('{"a": []}', "id a has no captions"),
    "null.json": ('{"a": [null]}', "id a holds nothing for a caption"),
    "nested.json": ('{"a": [["x"]]}', "id a holds a list for a caption"),
    "bool.json": ('[{"id": true, "caption": "x"}]', "row 1 has no id"),
    "strings.json": ('["x"]', "row 1 is text, no row"),
    "uncaptioned.json": ('[{"id": 1, "caption": "x"}, {"id": 2}]', "row 2 has no caption"),
    "number.jsonl": ('{"id": 1, "caption": "x"}\n{"id": 2, "caption": 5}\n', "line 2 holds a number for a caption"),
    "broken.jsonl": ('{"id": 1, "caption": "x"}\n{"id": \n', "line 2 is not JSON"),
    "three.tsv": ("a\tb\n1\ta\tdog\n", "line 2 has 3 columns, not 2"),
    "plain.txt": ("a dog runs\n", "line 1 has 1 columns, not 2"),
    "empty.tsv": ("id\tcaption\n", "holds no captions"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_wrong_is_said(name: str, tmp_path: Path) -> None:
    content, problem = BROKEN[name]
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(DataError) as caught:
        read_captions(path)
    assert str(caught.value).startswith(f"{path}: {problem}")
    assert "; " in str(caught.value), "and the way out"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "plain.json.gz").write_text("{}")
    (tmp_path / "cut.json.gz").write_bytes(gzip.compress(json.dumps(TWO).encode() * 50)[:60])
    for name, problem in {
        "absent.json": "cannot be read (No such file",
        ".": "cannot be read (Is a directory",
        "binary.json": "is not UTF-8",
        "plain.json.gz": "cannot be read (Not a gzipped file",
        "cut.json.gz": "cannot be read (Compressed file ended",
    }.items():
        with pytest.raises(DataError, match=problem.replace("(", r"\(")):
            read_captions(tmp_path / name)


def test_a_system_says_one_caption_of_each() -> None:
    assert one_each("x", {"a": ["one"], "b": ["two"]}) == {"a": "one", "b": "two"}
    with pytest.raises(DataError, match="x: 2 captions of id b"):
        one_each("x", {"a": ["one"], "b": ["two", "three"]})
