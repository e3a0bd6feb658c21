"""What `vidcap benchmark` measures and writes. Speed itself is not tested."""

from __future__ import annotations

import json
import shutil
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests import tiny
from tests.conftest import MakeClip
from tests.export.triton_server import Server, serving
from video_captioning import bundle
from video_captioning.cli import vidcap
from video_captioning.decoding import Decoding
from video_captioning.errors import (
    BundleError,
    CheckpointError,
    MissingExtraError,
    MissingFileError,
    NotMediaError,
    OutputError,
    VidcapError,
)
from video_captioning.export import triton
from video_captioning.export.benchmark import measure, read_clips, same_captions
from video_captioning.export.engines import Answer, Clip, Engine, Loader, in_triton
from video_captioning.export.quantize import quantize_weights

QUICK = ("--threads", "1", "--batch", "1", "--repeat", "1")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory, make_clip: MakeClip) -> list[Path]:
    """Clips that differ, of which the model says different things."""
    folder = tmp_path_factory.mktemp("clips")
    return [make_clip(folder / f"{seed}.mp4", tiny.pictures(2 + seed, seed), fps=2) for seed in range(3)]


@pytest.fixture(scope="module")
def int8(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle with its larger weights as int8."""
    folder = shutil.copytree(tiny.bundle(), tmp_path_factory.mktemp("int8") / "bundle")
    for graph in bundle.read(folder).graphs.values():
        quantize_weights(graph)
    manifest = json.loads((folder / bundle.MANIFEST).read_text())
    del manifest["schema_version"], manifest["files"]
    for graph in manifest["graphs"].values():
        graph["int8"] = bundle.WEIGHTS
    bundle.write_manifest(folder, manifest)
    return folder


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(vidcap, ["benchmark", *map(str, arguments)])


def rows(result: Result) -> list[dict[str, str]]:
    """The Markdown table that was printed."""
    assert result.exit_code == 0, result.exception
    lines = [line.strip("|").split("|") for line in result.stdout.splitlines() if line.startswith("|")]
    columns, _, *cells = [[cell.strip() for cell in line] for line in lines]
    return [dict(zip(columns, line, strict=True)) for line in cells]


@pytest.mark.slow
def test_all_local_engines_side_by_side(int8: Path, clips: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "found"
    options = ("--checkpoint", tiny.checkpoint(), "--threads", "2,1", "--batch", "2", "--repeat", "2", "-o", out)
    shown = rows(run(int8, *clips, *options))

    engines = ["torch", "ONNX float32", "ONNX int8"]
    assert [(row["threads"], row["batch"], row["engine"]) for row in shown] == [
        (threads, "2", engine) for threads in "12" for engine in engines
    ]
    assert [row["all ×"] for row in shown if row["engine"] == "ONNX float32"] == ["1.00", "1.00"]
    assert {row["captions"] for row in shown if row["engine"] != "ONNX int8"} == {"3 of 3"}

    found = json.loads((out / "benchmark.json").read_text())
    assert (found["clips"], found["rounds"], found["reference"]) == (3, 2, "ONNX float32")
    assert found["model"]["sha256"] == bundle.read(int8).sha256
    assert found["same_greedy_captions"] | {"ONNX int8": 3} == dict.fromkeys(engines, 3)
    for one in found["results"]:
        assert list(one["milliseconds"]) == ["decode", "encode", "memory", "generate", "all"]
        assert all(0 < stage["least"] <= stage["median"] for stage in one["milliseconds"].values())
    assert (out / "benchmark.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["found"]


def test_a_float_bundle_is_measured_as_it_is(clips: list[Path]) -> None:
    assert [row["engine"] for row in rows(run(tiny.bundle(), clips[0], *QUICK))] == ["ONNX float32"]


def test_without_onnx_int8_is_measured_alone(int8: Path, clips: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "video_captioning.export.quantize")
    monkeypatch.setitem(sys.modules, "onnx", None)
    result = run(int8, clips[0], *QUICK)
    assert [(row["engine"], row["all ×"]) for row in rows(result)] == [("ONNX int8", "1.00")]
    assert "float32, too, needs the optional part 'export'" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.slow
def test_the_embedded_model_on_a_real_clip(shared: Path) -> None:
    clip = shared / "data" / "clips" / "validation" / "msvd_klteYv1Uv9A_27_33.avi"
    float32, whole = rows(run("default", clip, *QUICK))
    assert [float32["captions"], whole["captions"]] == ["1 of 1", "1 of 1"]  # a plain clip: what int8 changes is close


# The arithmetic, with engines whose seconds are known


def engine(seconds: dict[str, float], seen: list[int], words: Callable[[Clip], tuple[int, ...]]) -> Loader:
    def caption(batch: Sequence[Clip], decoding: Decoding) -> Answer:
        seen.append(len(batch))
        return Answer([words(clip) for clip in batch], seconds)

    def load(threads: int) -> Engine:
        return caption

    return load


def test_figures_of_known_seconds(clips: list[Path]) -> None:
    read = bundle.read(tiny.bundle())
    frames, seen = read_clips(clips, read, 1), list[int]()
    engines = {
        "slow": engine({"encode": 0.8, "memory": 0.1, "generate": 0.4}, seen, lambda clip: ()),
        "fast": engine({"encode": 0.2, "memory": 0.1, "generate": 0.4}, seen, lambda clip: ()),
        "server": engine({"all": 0.5}, seen, lambda clip: ()),
    }
    [[slow, fast, server]] = measure(engines, frames, read, "slow", threads=[1], batches=[2], rounds=3)
    assert set(seen) == {2}  # the last batch is filled up
    assert (slow.engine, slow.threads, slow.batch) == ("slow", 1, 2)
    assert slow.milliseconds["encode"].median == slow.milliseconds["encode"].least == pytest.approx(400)
    stages = sum(slow.milliseconds[name].least for name in ("decode", "encode", "memory", "generate"))
    assert slow.milliseconds["all"].least == pytest.approx(stages)
    assert slow.latency.median == pytest.approx(2 * slow.milliseconds["all"].median, rel=0.1)
    assert slow.milliseconds["decode"] == fast.milliseconds["decode"]
    assert fast.speedup["encode"] == pytest.approx(4)
    assert fast.speedup["memory"] == fast.speedup["decode"] == pytest.approx(1)
    assert 1 < fast.speedup["all"] < 1.3 / 0.7
    assert (list(server.milliseconds), server.latency.median) == (["all"], pytest.approx(500))
    assert (server.milliseconds["all"].median, server.clips_per_second) == (pytest.approx(250), pytest.approx(4))


def test_captions_are_compared_clip_by_clip(clips: list[Path]) -> None:
    frames = read_clips(clips, bundle.read(tiny.bundle()), 1)
    usual = engine({}, [], lambda clip: (len(clip.pixels),))
    other = engine({}, [], lambda clip: (0 if clip is frames[1] else len(clip.pixels),))
    assert same_captions({"usual": usual, "other": other}, frames, "usual", 1) == {"usual": 3, "other": 2}


# Bad input


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--threads", "0"], "must be 1 to 256; there is 0"),
        (["--batch", "1,257"], "must be 1 to 256; there is 1,257"),
        (["--batch", "1,x"], "1,x is not whole numbers between commas"),
        (["--threads", ""], "not whole numbers"),
        (["--repeat", "0"], "--repeat"),
        (["--triton", "localhost"], "no address such as http://localhost:8000"),
    ],
)
def test_options_out_of_range(options: list[str], told: str, clips: list[Path]) -> None:
    result = run("default", clips[0], *options)
    assert result.exit_code == 2
    assert told in " ".join(result.stderr.split())


def test_no_clip() -> None:
    assert run("default").exit_code == 2


def broken(folder: Path) -> Path:
    copy = shutil.copytree(tiny.bundle(), folder / "broken")
    (copy / "step.onnx").write_bytes(b"cut")
    return copy


@pytest.mark.parametrize(
    ("arguments", "error", "told"),
    [
        (lambda folder, clip: (tiny.bundle(), folder / "no.mp4"), MissingFileError, "no.mp4"),
        (lambda folder, clip: (tiny.bundle(), clip, folder / "text.mp4"), NotMediaError, "text.mp4"),
        (lambda folder, clip: (folder / "none", clip), BundleError, "no such bundle"),
        (lambda folder, clip: (broken(folder), clip), BundleError, "step.onnx"),
        (lambda folder, clip: (tiny.bundle(), clip, "--checkpoint", folder / "text.mp4"), CheckpointError, "text.mp4"),
        (lambda folder, clip: ("default", clip, "--checkpoint", tiny.checkpoint()), CheckpointError, "another vocab"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_written(
    arguments: Callable[[Path, Path], tuple[str | Path, ...]],
    error: type[VidcapError],
    told: str,
    clips: list[Path],
    tmp_path: Path,
) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    result = run(*arguments(tmp_path, clips[0]), *QUICK, "-o", tmp_path / "found")
    assert isinstance(result.exception, error)
    assert told in str(result.exception)
    assert "found" not in "".join(path.name for path in tmp_path.iterdir())


def test_an_output_that_exists_stays_as_it_is(clips: list[Path], tmp_path: Path) -> None:
    assert isinstance(run(tiny.bundle(), clips[0], *QUICK, "-o", tmp_path).exception, OutputError)
    assert not list(tmp_path.iterdir())


def test_a_picture_needs_matplotlib(clips: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = run(tiny.bundle(), clips[0], *QUICK, "-o", tmp_path / "found")
    assert isinstance(result.exception, MissingExtraError)
    assert "pip install 'vidcap[plots]'" in str(result.exception)
    assert not list(tmp_path.iterdir())


# Triton


def test_a_triton_that_is_not_up(clips: list[Path], tmp_path: Path) -> None:
    pytest.importorskip("tritonclient.http")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens there, and nobody else will
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        result = run(tiny.bundle(), clips[0], *QUICK, "--triton", address, "-o", tmp_path / "found")
    assert isinstance(result.exception, VidcapError)
    assert str(result.exception).startswith(f"{address}: no Triton answers")
    assert "\n" not in str(result.exception)
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    pytest.importorskip("tritonclient.http", reason="Triton's client is not installed")
    room = tmp_path_factory.mktemp("triton")
    triton.export(tiny.bundle(), room / "repository")
    with serving(room / "repository", ["captioner"], room) as running:
        yield running


@pytest.mark.slow
def test_triton_beside_onnx(server: Server, clips: list[Path], tmp_path: Path) -> None:
    options: tuple[Any, ...] = ("--threads", "1", "--batch", "1,3", "--repeat", "1", "-o", tmp_path / "found")
    shown = rows(run(tiny.bundle(), *clips, "--triton", f"http://{server.http}", *options))
    assert [(row["engine"], row["batch"]) for row in shown] == [
        (engine, batch) for batch in "13" for engine in ("ONNX float32", "Triton")
    ]
    assert {row["captions"] for row in shown} == {"3 of 3"}
    found = json.loads((tmp_path / "found" / "benchmark.json").read_text())
    assert [list(one["milliseconds"]) for one in found["results"] if one["engine"] == "Triton"] == [["all"], ["all"]]


@pytest.mark.slow
def test_what_triton_refuses_is_told_in_one_line(server: Server, tmp_path: Path) -> None:
    (tmp_path / "corrupt.mp4").write_bytes(bytes(5000))
    corrupt = Clip(tmp_path / "corrupt.mp4", tiny.pictures(1)[0][None])
    with pytest.raises(VidcapError, match=r"corrupt\.mp4: no caption \(.*; see the server's log") as caught:
        in_triton(server.http)(1)([corrupt], Decoding(beam=1))
    assert "\n" not in str(caught.value)
