"""One file, frames to token ids: what torch says greedily, for any batch and any length, or nothing is written."""

import resource
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from tests import tiny
from tests.export import kinds
from tests.export.test_onnx import clips, torch_runtime
from video_captioning import bundle
from video_captioning.decoding import Decoding, Hypothesis, decode
from video_captioning.errors import BundleError, CheckpointError, MediaError, OutputError
from video_captioning.export import greedy
from video_captioning.export.greedy import convert
from video_captioning.export.runtime import SPECIAL
from video_captioning.tokenizer import Tokenizer

KINDS = pytest.mark.parametrize("kind", kinds.KINDS)
NEVER = {Tokenizer.bos, Tokenizer.unk}


@cache
def converted(kind: str) -> Path:
    out = kinds.checkpoint(kind).with_name(f"one-{kind}.onnx")
    convert(kinds.checkpoint(kind), out)
    return out


@cache
def session(kind: str) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(converted(kind), providers=["CPUExecutionProvider"])


def tokens(kind: str, media: list[np.ndarray], padding: int = 0) -> np.ndarray:
    mask = np.arange(max(map(len, media))) < np.array([[len(clip)] for clip in media])
    frames = np.full((*mask.shape, tiny.SIDE, tiny.SIDE, 3), padding, np.uint8)
    frames[mask] = np.concatenate(media)
    (found,) = session(kind).run(None, {"frames": frames, "frame_mask": mask})
    assert isinstance(found, np.ndarray) and found.dtype == np.int64
    return found


def said_by_torch(kind: str, media: list[np.ndarray]) -> list[Hypothesis]:
    runtime = torch_runtime(kinds.checkpoint(kind))
    memory, state = runtime.remember(*runtime.encode(media))
    return [best for best, *_ in decode(runtime.step, state, memory, Decoding(beam=1), SPECIAL)]


@KINDS
@pytest.mark.parametrize("lengths", [[1], [6], [4, 1, 3], [2] * 5])
def test_tokens_are_those_of_torch(kind: str, lengths: list[int]) -> None:
    media = clips(lengths, seed=7 + len(lengths))
    found = tokens(kind, media)
    expected = said_by_torch(kind, media)
    for row, hypothesis in zip(found.tolist(), expected, strict=True):
        own = [*hypothesis.tokens, *[Tokenizer.eos] * hypothesis.finished]
        assert row == own + [Tokenizer.pad] * (len(row) - len(own))
        assert not NEVER & set(row)
    assert found.shape[1] == max(len(h.tokens) + h.finished for h in expected)


@KINDS
def test_clips_do_not_see_each_other_or_the_padding(kind: str) -> None:
    media = clips([5, 2, 3], seed=3)
    together = tokens(kind, media)
    assert np.array_equal(together, tokens(kind, media, padding=255))
    for row, clip in zip(together, media, strict=True):
        alone = tokens(kind, [clip])[0]
        assert np.array_equal(row[: len(alone)], alone)
        assert (row[len(alone) :] == Tokenizer.pad).all()


def test_some_captions_end_and_some_are_cut() -> None:
    """What the other tests compare is not one kind of caption only."""
    rows = [row for kind in kinds.KINDS for row in tokens(kind, clips([1, 2, 3, 4, 5, 6, 7, 8], seed=1)).tolist()]
    ended = [Tokenizer.eos in row for row in rows]
    assert any(ended) and not all(ended)
    assert max(map(len, rows)) == 30
    assert len({tuple(row) for row in rows}) > 3


@KINDS
def test_the_bundle_lies_beside_it(kind: str) -> None:
    read = bundle.read(converted(kind).with_suffix(""))
    assert (read.name, read.kind) == (f"one-{kind}", kind.partition("_")[0])
    model = onnx.load(converted(kind))
    onnx.checker.check_model(model, full_check=True)
    shapes = {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {
        "frames": ["B", "T", tiny.SIDE, tiny.SIDE, 3],
        "frame_mask": ["B", "T"],
        "tokens": ["B", "L"],
    }


@pytest.mark.slow
def test_a_graph_that_says_something_else_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(greedy, "CHOOSE", greedy.CHOOSE.replace("ArgMax", "ArgMin"))
    with pytest.raises(BundleError, match=r"out\.onnx: torch and ONNX disagree; not written"):
        convert(tiny.checkpoint(), tmp_path / "out.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("taken", ["out.onnx", "out"])
def test_a_name_that_is_taken(taken: str, tmp_path: Path) -> None:
    (tmp_path / taken).write_text("mine")
    with pytest.raises(OutputError, match=f"{taken}: exists already"):
        convert(tiny.checkpoint(), tmp_path / "out.onnx")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.slow
def test_no_room_for_the_file(tmp_path: Path) -> None:
    """The three graphs of the bundle are smaller than the one that holds them all."""
    room = converted("advanced").stat().st_size - 1
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        with pytest.raises(OutputError, match=r"out\.onnx: cannot be written \(File too large\); make room"):
            convert(tiny.checkpoint(), tmp_path / "out.onnx")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


def test_bad_input(tmp_path: Path) -> None:
    whole = tiny.checkpoint().read_bytes()
    (tmp_path / "short.ckpt").write_bytes(whole[: len(whole) // 2])
    place = tmp_path / "place"
    with pytest.raises(CheckpointError, match=r"short\.ckpt: cannot be read, perhaps cut short"):
        convert(tmp_path / "short.ckpt", place / "out.onnx")
    with pytest.raises(MediaError, match=r"missing\.mp4"):
        convert(tiny.checkpoint(), place / "out.onnx", clips=[tmp_path / "missing.mp4"])
    with pytest.raises(OutputError, match=r"out: does not end in \.onnx"):
        convert(tiny.checkpoint(), place / "out")
    assert not list(place.iterdir())
