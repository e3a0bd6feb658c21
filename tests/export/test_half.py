"""What float16 cannot hold is found, in every tensor of every graph; our models hold nothing of the kind."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner

from tests import tiny
from tests.conftest import MakeClip
from tests.export import kinds
from video_captioning import bundle
from video_captioning.cli.export import export as export_command
from video_captioning.errors import MediaError, VidcapError
from video_captioning.export import onnx as exporter
from video_captioning.export.half import Survival, check, magnitude, round_results
from video_captioning.models import advanced


@pytest.fixture(scope="module")
def media(make_clip: MakeClip, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Clips of one to four frames: in a batch, some slots of the memory are masked."""
    folder = tmp_path_factory.mktemp("half")
    return [
        make_clip(folder / f"{seconds}.mp4", tiny.pictures(2 * seconds, seconds), fps=2, gop=1) for seconds in (1, 2, 3)
    ]


@pytest.mark.parametrize("kind", kinds.KINDS)
def test_each_model_survives(kind: str, media: list[Path]) -> None:
    found = check(bundle.read(kinds.bundle(kind)), media)
    assert found.broken == ()
    assert found.clips == len(media)
    assert found.same_captions >= 2  # with random weights, the next token can hang on the last bit
    assert all(0 < size < 11000 for size in found.largest.values())  # 10000 is the mask
    assert found.tensors > 100


@pytest.mark.parametrize("masked", [-1e9, -np.inf])
def test_the_usual_masks_are_found(
    masked: float, media: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(advanced, "MASKED", masked)
    exporter.export(tiny.checkpoint(), tmp_path / "out", name="masked")
    found = check(bundle.read(tmp_path / "out"), media)
    assert not found.holds()
    assert {tensor.partition(":")[0] for tensor in found.broken} == {"memory", "step"}


def test_logits_that_are_no_numbers(media: list[Path], tmp_path: Path) -> None:
    read = bundle.read(tiny.bundle())
    model = onnx.load(read.graphs["step"])
    [bias] = [tensor for tensor in model.graph.initializer if tensor.name == "model.bias"]
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + np.float32(1e6), bias.name))
    onnx.save(model, tmp_path / "step.onnx")
    found = check(replace(read, graphs=read.graphs | {"step": tmp_path / "step.onnx"}), media)
    assert found.broken == ("step: model.bias", "step: logits")
    assert found.same_captions == 0


def graph(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 18]> {text}')


def results(model: onnx.ModelProto, **feeds: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip([value.name for value in session.get_outputs()], session.run(None, feeds), strict=True))


def test_results_are_rounded_between_operations() -> None:
    """2048 + 0.5 is 2048 in float16; ONNX Runtime itself would keep the half until the next operation."""
    model = graph("g (float[N] x, float[N] y) => (float[N] z) { s = Add (x, y)  z = Sub (s, x) }")
    round_results(model)
    found = results(model, x=np.float32([2048]), y=np.float32([0.5]))
    assert found["z"] == [0]
    assert found["s@half"].dtype == np.float16 and found["s@half"] == [2048]


def test_weights_and_sums_of_squares_are_looked_at() -> None:
    model = graph(
        """g (float[N] x) => (float[M] z) <float[1] w = {1e6}, int64[1] axes = {0}> {
        n = ReduceL2 (x, axes)  z = Mul (n, w) }"""
    )
    weights = round_results(model)
    assert np.isinf(weights["w"])
    assert np.isinf(results(model, x=np.float32([200, 200]))["n@sum@half"])
    assert np.isfinite(results(model, x=np.float32([100, 100]))["n@sum@half"])


def test_int8_weights_are_floats_before_they_are_halves() -> None:
    """A scale below what float16 holds is no error of the model."""
    model = graph(
        """g (float[2] x) => (float[2] z) <int8[2] w = {100, -50}, float[1] s = {1e-9}> {
        f = DequantizeLinear <axis = 0> (w, s)  z = Mul (x, f) }"""
    )
    assert round_results(model) == {}
    assert results(model, x=np.float32([1, 1]))["f@half"].tolist() == np.float16([1e-7, -5e-8]).tolist()


@pytest.mark.parametrize(
    ("values", "largest"), [([], 0), ([1, -3], 3), ([-np.inf, 2], np.inf), ([65504], 65504), ([np.nan], np.nan)]
)
def test_magnitude(values: list[float], largest: float) -> None:
    assert np.array_equal(magnitude(np.float16(values)), np.float16(largest), equal_nan=True)


def test_one_caption_in_fifty_may_change() -> None:
    def survival(same: int, *broken: str) -> Survival:
        return Survival(clips=100, same_captions=same, tensors=1, broken=broken, largest={})

    assert survival(98).holds()
    assert not survival(97).holds()
    assert not survival(100, "step: logits").holds()


@pytest.mark.slow
def test_the_command(media: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = str(media[0].parent)
    done = CliRunner().invoke(export_command, ["check-fp16", str(tiny.bundle()), folder])
    assert done.exit_code == 0, done.output
    assert "3 of 3 captions as in float32" in done.stdout
    missing = CliRunner().invoke(export_command, ["check-fp16", str(tiny.bundle()), str(tmp_path / "none.mp4")])
    assert isinstance(missing.exception, MediaError)
    monkeypatch.setattr(advanced, "MASKED", -1e9)
    exporter.export(tiny.checkpoint(), tmp_path / "out", name="masked")
    broken = CliRunner().invoke(export_command, ["check-fp16", str(tmp_path / "out"), folder])
    assert isinstance(broken.exception, VidcapError)
    assert "tensors are NaN or infinite in float16, the first memory: " in str(broken.exception)


@pytest.mark.slow
def test_the_default_model_on_real_clips(shared: Path) -> None:
    listing = shared / "data" / "clips" / "validation.jsonl"
    files = [listing.parent / json.loads(line)["file"] for line in listing.read_text().splitlines()[:4]]
    found = check(bundle.read("default"), files)
    assert found.holds()
    assert max(found.largest.values()) < 11000
