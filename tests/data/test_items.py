"""Listings in every form that people write them, and what is said about those that cannot be read."""

import json
from pathlib import Path

import pytest

from video_captioning.data.items import Item, read_folder
from video_captioning.errors import DataError


def write(tmp_path: Path, name: str, content: str | bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    "content",
    [
        "a.mp4\ta dog\nb.mp4\ta cat\n",
        "file\tcaption\na.mp4\ta dog\nb.mp4\ta cat",
        "\ufefffile\tcaption\r\na.mp4\ta dog\r\n\r\nb.mp4\ta cat\r\n",
        "\n\n  \nfile\tcaption\na.mp4\ta dog\n\t\nb.mp4\ta cat\n\n",
        "a.mp4\ta dog\rb.mp4\ta cat\r",
    ],
    ids=["plain", "heading", "BOM and CRLF", "blank lines", "CR"],
)
def test_tab_separated(tmp_path: Path, content: str) -> None:
    assert read_folder(write(tmp_path, "captions.tsv", content)) == [
        Item("a", tmp_path / "a.mp4", ("a dog",)),
        Item("b", tmp_path / "b.mp4", ("a cat",)),
    ]


def test_tab_separated_text_means_itself(tmp_path: Path) -> None:
    caption = '"quoted, he said \\ "' + "x" * 200_000
    [item] = read_folder(write(tmp_path, "captions.tsv", f"a b/ü\u2028.mp4\t{caption}\n"))
    assert (item.path, item.captions) == (tmp_path / "a b/ü\u2028.mp4", (caption,))


def test_json_lines(tmp_path: Path) -> None:
    rows = [
        {"file": "a.mp4", "captions": ["a dog", " ", "the dog"], "id": 7, "weight": 0.5},
        {"file": "sub/b.mp4", "caption": "a cat", "unknown": None},
    ]
    content = "\ufeff" + "\r\n\r\n".join(json.dumps(row) for row in rows)
    assert read_folder(write(tmp_path, "captions.jsonl", content)) == [
        Item("7", tmp_path / "a.mp4", ("a dog", "the dog"), 0.5),
        Item("b", tmp_path / "sub" / "b.mp4", ("a cat",)),
    ]


def test_a_picture_shown_as_a_still_clip_is_another_item(tmp_path: Path) -> None:
    rows = [{"file": "a.png", "caption": "a red ball", "frames": frames} for frames in (1, 4, 4)]
    content = "\n".join(map(json.dumps, rows))
    assert read_folder(write(tmp_path, "captions.jsonl", content)) == [
        Item("a", tmp_path / "a.png", ("a red ball",)),
        Item("a", tmp_path / "a.png", ("a red ball", "a red ball"), frames=4),
    ]


def test_rows_of_one_file_are_one_item_in_the_place_of_the_first(tmp_path: Path) -> None:
    path = write(tmp_path, "captions.tsv", "a.mp4\ta dog\nb.mp4\ta cat\na.mp4\tthe dog\n")
    assert [(item.id, item.captions) for item in read_folder(path)] == [("a", ("a dog", "the dog")), ("b", ("a cat",))]


def test_an_absolute_path_stays_itself(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere" / "a.mp4"
    [item] = read_folder(write(tmp_path, "captions.tsv", f"{elsewhere}\ta dog\n"))
    assert item.path == elsewhere


@pytest.mark.parametrize("row", ["a.mp4", "a.mp4\ta dog\tanother", "a.mp4\t", "a.mp4\t . ", "\ta dog"])
def test_a_broken_row_is_named_by_its_line(tmp_path: Path, row: str) -> None:
    path = write(tmp_path, "captions.tsv", f"file\tcaption\n\nb.mp4\ta cat\n{row}\n")
    with pytest.raises(DataError, match=r"captions\.tsv: line 4 has ") as caught:
        read_folder(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "row",
    [
        "{",
        "[]",
        "7",
        "null",
        "[" * 100_000,
        '{"captions": ["a dog"]}',
        '{"file": "a.mp4"}',
        '{"file": "a.mp4", "captions": "a dog"}',
        '{"file": "a.mp4", "captions": {"a dog": 1}}',
        '{"file": "a.mp4", "captions": null}',
        '{"file": "a.mp4", "captions": 7}',
        '{"file": "a.mp4", "captions": []}',
        '{"file": "a.mp4", "captions": ["", "..."]}',
        '{"file": "a.mp4", "captions": ["a dog", 7]}',
        '{"file": "a.mp4", "caption": null}',
        '{"file": "a.mp4", "caption": "half a character: \\ud83d"}',
        '{"file": 7, "caption": "a dog"}',
        '{"file": "", "caption": "a dog"}',
        '{"file": "a.mp4", "caption": "a dog", "weight": "much"}',
        '{"file": "a.mp4", "caption": "a dog", "weight": null}',
        '{"file": "a.mp4", "caption": "a dog", "weight": -1}',
        '{"file": "a.mp4", "caption": "a dog", "weight": 0}',
        '{"file": "a.mp4", "caption": "a dog", "weight": NaN}',
        '{"file": "a.mp4", "caption": "a dog", "weight": Infinity}',
        '{"file": "a.mp4", "caption": "a dog", "frames": 0}',
        '{"file": "a.mp4", "caption": "a dog", "frames": 1.5}',
        '{"file": "a.mp4", "caption": "a dog", "frames": true}',
    ],
)
def test_a_broken_json_row_is_named_by_its_line(tmp_path: Path, row: str) -> None:
    path = write(tmp_path, "captions.jsonl", f'{{"file": "b.mp4", "caption": "a cat"}}\n\n{row}\n')
    with pytest.raises(DataError, match=r"captions\.jsonl: line 3 ") as caught:
        read_folder(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["", "\n \n", "file\tcaption\n"])
def test_a_listing_without_rows(tmp_path: Path, content: str) -> None:
    with pytest.raises(DataError, match=r"captions\.tsv: no rows"):
        read_folder(write(tmp_path, "captions.tsv", content))


def test_text_that_is_not_utf_8(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"captions\.tsv: is not UTF-8"):
        read_folder(write(tmp_path, "captions.tsv", "a.mp4\tein Bär\n".encode("latin-1")))


def test_a_listing_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"captions\.tsv: cannot be read \(No such file"):
        read_folder(tmp_path / "captions.tsv")
    with pytest.raises(DataError, match=r"cannot be read \(Is a directory"):
        read_folder(tmp_path)
