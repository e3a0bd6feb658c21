"""What `vidcap export triton` writes: a repository that is whole, and says what the graphs are."""

import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner
from google.protobuf import text_format

from tests import tiny
from tests.export.triton_bundles import SIZES, of_kind
from video_captioning import bundle
from video_captioning.cli import vidcap
from video_captioning.decoding import Decoding
from video_captioning.errors import BundleError, FileError, OutputError
from video_captioning.export import triton

protos = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="Triton's client is not installed")

ELEMENTS = {
    onnx.TensorProto.BOOL: "TYPE_BOOL",
    onnx.TensorProto.FLOAT: "TYPE_FP32",
    onnx.TensorProto.INT64: "TYPE_INT64",
    onnx.TensorProto.UINT8: "TYPE_UINT8",
}


def read_config(file: Path) -> Any:
    return text_format.Parse(file.read_text(), protos.ModelConfig())


def stated(value: Any, batched: bool) -> tuple[str, list[int]]:
    """Type and shape of an input or output as its client sees them, the batch axis first."""
    dims = list(value.dims)
    if value.HasField("reshape"):
        assert (dims, list(value.reshape.shape)) == ([1], [])
        dims = []
    return protos.DataType.Name(value.data_type), ([-1] if batched else []) + dims


def actual(value: onnx.ValueInfoProto) -> tuple[str, list[int]]:
    tensor = value.type.tensor_type
    return ELEMENTS[tensor.elem_type], [
        size.dim_value if size.HasField("dim_value") else -1 for size in tensor.shape.dim
    ]


@pytest.mark.parametrize("kind", SIZES)
def test_configs_say_what_the_graphs_are(kind: str, tmp_path: Path) -> None:
    triton.export(of_kind(kind), tmp_path / "repository")
    for name in bundle.GRAPHS:
        folder = tmp_path / "repository" / name
        config, graph = read_config(folder / "config.pbtxt"), onnx.load(folder / "1" / "model.onnx").graph
        batched = config.max_batch_size > 0
        assert (config.name, config.backend) == (name, "onnxruntime")
        assert batched == config.HasField("dynamic_batching") == (name != "step")
        assert {v.name: stated(v, batched) for v in config.input} == {v.name: actual(v) for v in graph.input}
        outputs = {v.name: stated(v, batched) for v in config.output}
        assert outputs.keys() == {v.name for v in graph.output}
        for value in graph.output:
            (kind_stated, shape), (kind_actual, known) = outputs[value.name], actual(value)
            assert kind_stated == kind_actual
            assert [size if there != -1 else -1 for size, there in zip(shape, known, strict=True)] == known


def test_requests_for_int8_arithmetic_are_not_joined(tmp_path: Path) -> None:
    triton.export("default", tmp_path / "repository")
    assert bundle.read("default").int8["encoder"] == bundle.ARITHMETIC
    for name, joined in (("encoder", False), ("memory", True)):
        assert read_config(tmp_path / "repository" / name / "config.pbtxt").HasField("dynamic_batching") == joined


def test_graphs_say_in_a_plain_session_what_the_bundle_says(tmp_path: Path) -> None:
    """Also those whose weights alone are int8, which a plain session would compute with."""
    triton.export("default", tmp_path / "repository")
    found = bundle.read("default")
    runtime = bundle.Runtime(found, threads=1)
    frames = np.stack(tiny.pictures(4, size=(found.resize.size,) * 2))
    features, mask = runtime.encode([frames])
    memory, _ = runtime.remember(features, mask)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1

    def run(graph: str, output: str, **inputs: np.ndarray) -> np.ndarray:
        file = tmp_path / "repository" / graph / "1" / "model.onnx"
        [found] = onnxruntime.InferenceSession(file, options).run([output], inputs)
        return np.asarray(found)

    assert np.allclose(run("encoder", "features", frames=frames), features[0], atol=1e-3)
    assert np.allclose(run("memory", "memory", features=features, frame_mask=mask), memory["memory"], atol=1e-3)


def test_the_captioner_takes_every_option_of_a_sentence(tmp_path: Path) -> None:
    triton.export(tiny.bundle(), tmp_path / "repository")
    config = read_config(tmp_path / "repository" / "captioner" / "config.pbtxt")
    kinds = {value.name: protos.DataType.Name(value.data_type) for value in config.input}
    options = {field.name: field.type for field in fields(Decoding) if field.name != "alternatives"}
    assert set(kinds) == {"video", "frames", *options}
    for name, kind in options.items():
        assert kinds[name] == ("TYPE_INT64" if kind == "int" else "TYPE_FP64")
    assert all(value.optional for value in config.input)
    assert list(next(value.dims for value in config.input if value.name == "frames")) == [-1, tiny.SIDE, tiny.SIDE, 3]


def test_the_repository_holds_the_bundle_and_nothing_beside(tmp_path: Path) -> None:
    source = shutil.copytree(tiny.bundle(), tmp_path / "bundle")
    (source / "notes.txt").write_text("not of the bundle")
    triton.export(source, tmp_path / "repository")
    copied = bundle.read(tmp_path / "repository" / "captioner" / "1" / "bundle")
    assert copied.sha256 == bundle.read(source).sha256
    files = {path.relative_to(tmp_path / "repository").as_posix() for path in (tmp_path / "repository").rglob("*.*")}
    graphs = {f"{name}/{file}" for name in bundle.GRAPHS for file in ("config.pbtxt", "1/model.onnx")}
    of_bundle = {f"captioner/1/bundle/{path.name}" for path in tiny.bundle().iterdir()}
    assert files == {*graphs, *of_bundle, "captioner/config.pbtxt", "captioner/1/model.py"}


def test_engines_take_the_place_of_graphs(tmp_path: Path) -> None:
    engines = tmp_path / "engines"
    engines.mkdir()
    for name in bundle.GRAPHS:
        (engines / f"{name}.plan").write_text(f"engine of {name}")
    triton.export(tiny.bundle(), tmp_path / "trt", backend="tensorrt", engines=engines)
    triton.export(tiny.bundle(), tmp_path / "onnx")
    for name in bundle.GRAPHS:
        assert (tmp_path / "trt" / name / "1" / "model.plan").read_text() == f"engine of {name}"
        assert not (tmp_path / "trt" / name / "1" / "model.onnx").exists()
        config, other = (read_config(tmp_path / kind / name / "config.pbtxt") for kind in ("trt", "onnx"))
        assert config.backend == "tensorrt"
        assert (config.input, config.output) == (other.input, other.output)


def test_an_engine_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"encoder\.plan: there is no such TensorRT engine; build it first"):
        triton.export(tiny.bundle(), tmp_path / "repository", backend="tensorrt", engines=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_place_that_is_taken(tmp_path: Path) -> None:
    (tmp_path / "repository").mkdir()
    with pytest.raises(OutputError, match="repository: exists already"):
        triton.export(tiny.bundle(), tmp_path / "repository")
    assert not list((tmp_path / "repository").iterdir())


def test_a_bundle_that_is_damaged(tmp_path: Path) -> None:
    source = shutil.copytree(tiny.bundle(), tmp_path / "bundle")
    (source / "step.onnx").write_bytes(b"")
    with pytest.raises(BundleError, match=r"step\.onnx: is 0 bytes"):
        triton.export(source, tmp_path / "repository")
    assert not (tmp_path / "repository").exists()


def test_no_room_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", no_room)
    with pytest.raises(OutputError, match=r"cannot be written .No space left on device.; make room"):
        triton.export(tiny.bundle(), tmp_path / "repository")
    assert not list(tmp_path.iterdir())


def test_the_command(tmp_path: Path) -> None:
    done = CliRunner().invoke(vidcap, ["export", "triton", str(tiny.bundle()), str(tmp_path / "repository")])
    assert done.exit_code == 0, done.output
    assert done.output == f"{tmp_path / 'repository'}: captioner, and with onnxruntime: encoder, memory, step\n"
    assert (tmp_path / "repository" / "captioner" / "1" / "model.py").is_file()
