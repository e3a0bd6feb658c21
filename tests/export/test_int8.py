"""What of a bundle becomes int8 is chosen by measurement, and what needs floats gets them back."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner

from tests import hybrid, tiny
from tests.conftest import MakeClip
from video_captioning import bundle
from video_captioning.bundle import Bundle, Runtime
from video_captioning.cli.export import export as command
from video_captioning.data.items import read_folder
from video_captioning.errors import BundleError
from video_captioning.export import half, int8, quantize, tensorrt, triton
from video_captioning.export.card import model_card
from video_captioning.export.int8 import Quantization
from video_captioning.export.onnx import export
from video_captioning.export.quantize import float_weights, in_float, quantize_operators, quantize_products
from video_captioning.frames import sample
from video_captioning.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hybrid.save(tmp_path_factory.mktemp("int8") / "hybrid")


@pytest.fixture(scope="module")
def checkpoint(backbone: Path) -> Path:
    return tiny.checkpoint(backbone)


@pytest.fixture(scope="module")
def exact(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("int8") / "exact"
    export(checkpoint, folder, name="hybrid")
    return bundle.read(folder)


@pytest.fixture(scope="module")
def seeing(backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Of a model with concepts."""
    folder = tmp_path_factory.mktemp("int8") / "seeing"
    export(tiny.checkpoint(backbone, concepts=True), folder, name="seeing")
    return bundle.read(folder)


@pytest.fixture(autouse=True)
def narrow_is_wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantize, "WIDE", 16)


def clips(count: int) -> list[np.ndarray]:
    return [np.stack(tiny.pictures(2, number, (tiny.SIDE, tiny.SIDE))) for number in range(count)]


def copy(exact: Bundle, folder: Path) -> Bundle:
    shutil.copytree(exact.folder, folder)
    return bundle.read(folder)


def products(path: Path) -> None:
    quantize_products(path)


def convolutions(path: Path) -> None:
    quantize_operators(path, clips(3), ["Conv"])


def both(path: Path) -> None:
    convolutions(path)
    products(path)


def everything(path: Path) -> None:
    quantize_operators(path, clips(3), [])


def computing_in_int8(exact: Bundle, folder: Path, encoder: Callable[[Path], None] = both) -> Bundle:
    """A bundle all graphs of which do."""
    made = copy(exact, folder)
    manifest = json.loads((folder / "bundle.json").read_text())
    for name, file in made.graphs.items():
        encoder(file) if name == "encoder" else quantize_products(file)
        manifest["graphs"][name]["int8"] = "arithmetic"
    bundle.write_manifest(
        folder, {name: manifest[name] for name in manifest if name not in ("schema_version", "files")}
    )
    return bundle.read(folder)


def operators(model: onnx.ModelProto) -> set[str]:
    return {node.op_type for node in model.graph.node}


WHOLE = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger"}


@pytest.mark.parametrize(
    ("rewrite", "expected"),
    [
        (products, {"DynamicQuantizeLinear", "MatMulInteger"}),
        (convolutions, {"QuantizeLinear", "DequantizeLinear"}),
        (both, WHOLE),
        (everything, {"QuantizeLinear", "DequantizeLinear"}),
    ],
)
def test_what_computes_in_int8_can_be_made_floats(
    rewrite: Callable[[Path], None], expected: set[str], seeing: Bundle, tmp_path: Path
) -> None:
    made = computing_in_int8(seeing, tmp_path / "int8", rewrite)
    assert operators(onnx.load(made.graphs["encoder"])) & WHOLE == expected
    for name, file in made.graphs.items():
        model, original = onnx.load(file), onnx.load(seeing.graphs[name])
        float_weights(model)
        onnx.checker.check_model(model)
        assert not operators(model) & WHOLE
        ours, theirs = (
            {
                t.name: list(t.dims)
                for t in graph.initializer
                if t.data_type == onnx.TensorProto.FLOAT and len(t.dims) > 1
            }
            for graph in (model.graph, original.graph)
        )
        assert ours == theirs
    frames = clips(4)
    expected_features, _ = Runtime(seeing, 1).encode(frames)
    with in_float(made) as floats:
        assert not floats.int8
        for one in (made, floats):
            features, _ = Runtime(one, 1).encode(frames)
            assert 0 < np.abs(features - expected_features).mean() < 0.1 * np.abs(expected_features).mean()


def test_the_first_layers_see_pixels_and_stay_floats(exact: Bundle, tmp_path: Path) -> None:
    made = computing_in_int8(exact, tmp_path / "int8", convolutions)
    graph = onnx.load(made.graphs["encoder"]).graph
    weights = {tensor.name for tensor in graph.initializer}
    floats = [node.input[1] in weights for node in graph.node if node.op_type == "Conv"]
    assert floats[0]
    assert floats == sorted(floats, reverse=True)
    assert not floats[-1]


def test_the_session_computes_as_the_bundle_states(exact: Bundle, tmp_path: Path) -> None:
    def dequantizes_at_once(read: Bundle) -> list[str]:
        runtime = Runtime(read, 1)
        return [
            getattr(runtime, f"_{name}").get_session_options().get_session_config_entry("session.disable_quant_qdq")
            for name in bundle.GRAPHS
        ]

    assert exact.int8 == {}
    assert dequantizes_at_once(exact) == ["1", "1", "1"]
    made = computing_in_int8(exact, tmp_path / "int8")
    assert dequantizes_at_once(made) == ["0", "0", "0"]
    assert dequantizes_at_once(replace(made, int8={"encoder": "arithmetic", "step": "weights"})) == ["0", "1", "1"]


def test_an_int8_that_nobody_knows(exact: Bundle, tmp_path: Path) -> None:
    made = copy(exact, tmp_path / "other")
    text = (made.folder / "bundle.json").read_text().replace('"file": "encoder', '"int8": "dreams", "file": "encoder')
    (made.folder / "bundle.json").write_text(text)
    with pytest.raises(BundleError, match=r"lacks or misstates a field \(int8: dreams\)"):
        bundle.read(made.folder)


def quantized(
    exact: Bundle, folder: Path, count: int = 3, force: bool = False, **options: list[list[str]]
) -> Quantization:
    return int8.quantize(copy(exact, folder), clips(count), force=force, **options)


def test_arithmetic_only_where_it_pays(exact: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8, "AGREEMENT", 0.0)
    monkeypatch.setattr(int8, "FASTER", np.inf)
    found = quantized(exact, tmp_path / "slow", count=12)
    assert found.int8 == dict.fromkeys(bundle.GRAPHS, "weights")
    assert (found.calibrated_on, found.clips) == (3, 9)
    assert [row.encoder for row in found.rows][:2] == ["float32", "weights"]
    assert found.rows[found.chosen].encoder == "weights"
    assert found.rows[0].same_captions == 9
    assert all(row.frame_ms > 0 and row.step_ms > 0 and row.cider is None for row in found.rows)
    monkeypatch.setattr(int8, "FASTER", 0.0)
    found = quantized(exact, tmp_path / "fast")
    assert found.int8 == {"encoder": "arithmetic", "memory": "weights", "step": "weights"}
    assert (found.calibrated_on, found.clips) == (3, 3)
    assert len(found.rows) == 6
    chosen, encoders = found.rows[found.chosen], found.rows[2:]
    assert chosen.frame_speed == max(row.frame_speed for row in encoders)
    assert {row.words for row in encoders} == {"weights"}
    kept = sum((tmp_path / "fast" / f"{name}.onnx").stat().st_size for name in bundle.GRAPHS)
    assert chosen.megabytes == pytest.approx(kept / 1e6)


def test_too_many_other_captions(exact: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8, "AGREEMENT", 1.1)
    with pytest.raises(
        BundleError, match=r"int8 changes too much: only \d of 3 captions stay.*; not written; .*--force"
    ):
        quantized(exact, tmp_path / "refused")
    graphs = (exact.graphs, bundle.read(tmp_path / "refused").graphs)
    assert len({b"".join(file.read_bytes() for file in one.values()) for one in graphs}) == 1
    assert quantized(exact, tmp_path / "forced", force=True).held_by == "force"
    tokenizer = Tokenizer.load(exact.tokenizer)
    said = [[tokenizer.decode(tokens)] for tokens in half.greedy(Runtime(exact, 1), clips(3))]
    monkeypatch.setattr(int8, "CIDER", 0.0)
    found = quantized(exact, tmp_path / "scored", references=said)
    assert found.held_by == "CIDEr-D"
    assert all(row.cider is not None for row in found.rows)
    assert found.rows[0].cider == max(row.cider or 0 for row in found.rows)


def test_without_clips_only_weights(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="only weights become int8: .* name some with --clip"):
        export(checkpoint, tmp_path / "out", name="hybrid", int8=True)
    read = bundle.read(tmp_path / "out")
    assert read.int8 == dict.fromkeys(bundle.GRAPHS, "weights")
    assert read.quantization == {}


def test_the_command(checkpoint: Path, tmp_path: Path, make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [f"{make_clip(tmp_path / f'{n}.mp4', tiny.pictures(4, n)).name}\ttwo dogs run" for n in range(3)]
    (tmp_path / "clips.tsv").write_text("\n".join(rows))
    arguments = [
        "onnx",
        str(checkpoint),
        str(tmp_path / "out"),
        "--name",
        "mine",
        "--clip",
        str(tmp_path / "clips.tsv"),
    ]
    monkeypatch.setattr(int8, "AGREEMENT", 1.1)
    refused = CliRunner().invoke(command, [*arguments, "--int8"])
    assert isinstance(refused.exception, BundleError)
    assert f"{tmp_path / 'out'}: int8 changes too much" in str(refused.exception)
    assert {path.name for path in tmp_path.iterdir()} == {"0.mp4", "1.mp4", "2.mp4", "clips.tsv"}
    done = CliRunner().invoke(command, [*arguments, "--int8", "--force"])
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert sum(line.lstrip().startswith("→") for line in lines) == 1
    assert "Measured on 3 clips, calibrated on the same" in done.output
    assert "3 of 3" in next(line for line in lines if line.split()[:2] == ["float32", "float32"])
    read = bundle.read(tmp_path / "out")
    assert read.quantization["held_by"] == "force"
    assert read.parity["int8"]["clips"] == read.parity["float32"]["clips"]
    assert "## Int8\n" in model_card(read, "me/mine")
    assert CliRunner().invoke(command, [*arguments, "--force"]).exit_code == 2


def test_float16_is_tried_on_floats(seeing: Bundle, tmp_path: Path, make_clip: MakeClip) -> None:
    clip = make_clip(tmp_path / "clip.mp4", tiny.pictures(4))
    made = computing_in_int8(seeing, tmp_path / "int8")
    found = half.check(made, [clip])
    with in_float(made) as floats:
        assert found == half.check(floats, [clip])
    assert not found.broken


def test_others_get_what_they_can_compute(seeing: Bundle, tmp_path: Path) -> None:
    made = computing_in_int8(seeing, tmp_path / "int8")
    assert not operators(tensorrt.load(made.graphs["encoder"])) & WHOLE
    triton.export(made.folder, tmp_path / "repository")
    served = onnxruntime.InferenceSession(tmp_path / "repository" / "encoder" / "1" / "model.onnx")
    frames = clips(1)
    assert np.allclose(served.run(None, {"frames": frames[0]})[0], Runtime(made, 1).encode(frames)[0][0], atol=1e-6)


@pytest.mark.slow
def test_the_embedded_model_on_real_clips(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    items = read_folder(shared / "data" / "clips" / "validation.jsonl")
    with in_float(bundle.read("default")) as floats:
        media = [sample(item.path, floats.sampling, floats.resize).pixels for item in items]
        found = int8.quantize(floats, media, [item.captions for item in items])
    chosen = found.rows[found.chosen]
    assert found.int8["encoder"] == "arithmetic"
    assert chosen.frame_speed > 1.2  # of processor time, in turns; alone on the machine 2
    assert found.held_by
    assert chosen.megabytes < 0.5 * found.rows[0].megabytes
