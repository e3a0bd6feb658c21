"""A bundle says what its checkpoint says, or it is not written."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests import tiny
from video_captioning import bundle
from video_captioning.bundle import Runtime
from video_captioning.decoding import Decoding, Hypothesis, Special, decode
from video_captioning.errors import BundleError, CheckpointError, ConfigError, MediaError, OutputError
from video_captioning.export import onnx, quantize
from video_captioning.export.onnx import export
from video_captioning.export.parity import TorchRuntime
from video_captioning.frames import Resize, Sampling, sample
from video_captioning.models import checkpoint
from video_captioning.models.backbone import Backbone
from video_captioning.models.lite_encoder import LiteEncoder, LiteEncoderConfig
from video_captioning.tokenizer import Tokenizer

SPECIAL = Special(Tokenizer.bos, Tokenizer.eos, Tokenizer.pad, Tokenizer.unk)


def torch_runtime(path: Path) -> TorchRuntime:
    model, description = checkpoint.load(path)
    fields = {name: value for name, value in description.backbone.items() if name != "identity"}
    return TorchRuntime(Backbone(**fields), model)


def onnx_runtime(folder: Path) -> Runtime:
    return Runtime(bundle.read(folder), threads=1)


def clips(lengths: list[int], seed: int = 0) -> list[np.ndarray]:
    size = (tiny.SIDE, tiny.SIDE)
    return [np.stack(tiny.pictures(length, 100 * seed + row, size)) for row, length in enumerate(lengths)]


def said(runtime: TorchRuntime | Runtime, clips: list[np.ndarray], decoding: Decoding) -> list[list[Hypothesis]]:
    memory, state = runtime.remember(*runtime.encode(clips))
    return decode(runtime.step, state, memory, decoding, SPECIAL)


def assert_same(one: list[list[Hypothesis]], other: list[list[Hypothesis]]) -> None:
    for ours, theirs in zip(one, other, strict=True):
        assert [hypothesis.tokens for hypothesis in ours] == [hypothesis.tokens for hypothesis in theirs]
        for a, b in zip(ours, theirs, strict=True):
            assert np.allclose(a.logprobs, b.logprobs, atol=1e-3)
            assert np.allclose(a.attention, b.attention, atol=1e-3)


@pytest.mark.parametrize("concepts", [False, True])
@pytest.mark.parametrize("lengths", [[1], [5], [4, 1, 3], [2] * 7])
@pytest.mark.parametrize("decoding", [Decoding(beam=1, max_tokens=12), Decoding(beam=3, max_tokens=12, alternatives=3)])
def test_any_batch_and_any_length_is_said_as_in_torch(lengths: list[int], decoding: Decoding, concepts: bool) -> None:
    reference = torch_runtime(tiny.checkpoint(concepts=concepts))
    exported = onnx_runtime(tiny.bundle(concepts=concepts))
    media = clips(lengths, seed=len(lengths))
    for one, other in zip(reference.encode(media), exported.encode(media), strict=True):
        assert np.allclose(one, other, atol=1e-4)
    (one_memory, _), (other_memory, _) = (
        runtime.remember(*exported.encode(media)) for runtime in (reference, exported)
    )
    assert one_memory.keys() == other_memory.keys() == {"memory", "memory_mask"} | ({"concepts"} if concepts else set())
    for name, value in one_memory.items():
        assert value.shape == other_memory[name].shape and np.allclose(value, other_memory[name], atol=1e-4)
    if concepts:
        assert one_memory["concepts"].shape == (len(lengths), max(lengths), len(tiny.CONCEPTS))
        assert one_memory["memory"].shape[1] == max(lengths) * 5 + tiny.SLOTS
    assert_same(said(exported, media, decoding), said(reference, media, decoding))


def test_features_of_several_layers_are_exported(tmp_path: Path) -> None:
    path = tiny.checkpoint(layers=(1,))
    export(path, tmp_path / "bundle", name="tiny")
    media, decoding = clips([3, 1]), Decoding(beam=2, max_tokens=12)
    assert_same(said(onnx_runtime(tmp_path / "bundle"), media, decoding), said(torch_runtime(path), media, decoding))


def test_a_model_of_less_precise_features_is_exported_in_float32(tmp_path: Path) -> None:
    saved = torch.load(tiny.checkpoint(), weights_only=True)
    saved["vidcap"]["backbone"]["precision"] = "bfloat16"
    torch.save(saved, tmp_path / "half.ckpt")
    assert export(tmp_path / "half.ckpt", tmp_path / "bundle", name="tiny")["float32"].holds(1e-4)


def test_longer_than_the_model_was_made_for() -> None:
    [hypothesis] = said(onnx_runtime(tiny.bundle()), clips([70]), Decoding(beam=1, max_tokens=40, min_tokens=39))[0]
    assert len(hypothesis.tokens) >= 39
    assert np.isfinite(hypothesis.logprobs).all()


def test_the_manifest_says_what_was_exported() -> None:
    read = bundle.read(tiny.bundle())
    assert (read.name, read.kind, read.licence) == ("tiny", "advanced", "Apache-2.0")
    assert read.resize == Resize(tiny.SIDE)
    assert (read.preprocess["mean"], read.preprocess["std"]) == ([0.5] * 3, [0.5] * 3)
    assert read.sampling == Sampling(max_frames=4)
    assert read.tokenizer.read_bytes() == tiny.tokenizer().model
    assert read.made_by["command"] == "pytest"
    assert read.made_by["config"] == {"seed": 1}
    assert read.made_by["data"] == "0" * 64
    assert len(read.made_by["backbone"]["sha256"]) == 64
    found = read.parity["float32"]
    assert found["same_captions"] == found["clips"] >= 3
    assert found["logits"] <= 1e-3
    manifest = json.loads((tiny.bundle() / "bundle.json").read_text())
    for graph, runtime in zip(("encoder", "memory", "step"), ("_encoder", "_memory", "_step"), strict=True):
        session = getattr(onnx_runtime(tiny.bundle()), runtime)
        assert [value.name for value in session.get_inputs()] == list(manifest["graphs"][graph]["inputs"])


@pytest.mark.parametrize("concepts", [False, True])
def test_the_manifest_lists_every_file(concepts: bool) -> None:
    folder = tiny.bundle(concepts=concepts)
    listed = json.loads((folder / "bundle.json").read_text())["files"]
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "bundle.json"}
    assert ("concepts.json" in files) == concepts
    assert listed == {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()} for name, content in files.items()
    }


def test_concepts_are_named_and_graphs_say_how_many() -> None:
    manifest = json.loads((tiny.bundle(concepts=True) / "bundle.json").read_text())
    assert manifest["concepts"] == {"file": "concepts.json", "scale": 1.0, "shift": 0.0, "threshold": 0.5}
    assert json.loads((tiny.bundle(concepts=True) / "concepts.json").read_text()) == tiny.CONCEPTS
    graphs = manifest["graphs"]
    assert graphs["memory"]["outputs"]["concepts"] == f"[B, T, {len(tiny.CONCEPTS)}]"
    assert graphs["step"]["inputs"]["memory"] == graphs["memory"]["outputs"]["memory"] == f"[B, S + {tiny.SLOTS}, M]"
    assert graphs["step"]["outputs"]["attention"] == "[N, S]"
    assert "concepts" not in graphs["step"]["inputs"]


def test_a_checkpoint_that_names_other_concepts_than_it_has(tmp_path: Path) -> None:
    saved = torch.load(tiny.checkpoint(concepts=True), weights_only=True)
    saved["vidcap"]["concepts"] = tiny.CONCEPTS[:5]
    torch.save(saved, tmp_path / "five.ckpt")
    with pytest.raises(CheckpointError, match=r"five\.ckpt: tells of 12 concepts but names 5; use another"):
        export(tmp_path / "five.ckpt", tmp_path / "out", name="tiny")
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_from_before_there_were_concepts(tmp_path: Path) -> None:
    saved = torch.load(tiny.checkpoint(), weights_only=True)
    del saved["vidcap"]["concepts"], saved["vidcap"]["model"]["concepts"], saved["vidcap"]["model"]["concept_slots"]
    torch.save(saved, tmp_path / "old.ckpt")
    export(tmp_path / "old.ckpt", tmp_path / "out", name="tiny", command="pytest")
    assert bundle.read(tmp_path / "out").sha256 == bundle.read(tiny.bundle()).sha256


def test_a_name_that_is_taken(tmp_path: Path) -> None:
    for taken in (tmp_path / "folder", tmp_path / "file"):
        taken.mkdir() if taken.name == "folder" else taken.write_text("mine")
        with pytest.raises(OutputError, match=f"{taken.name}: exists already; give another name"):
            export(tiny.checkpoint(), taken, name="tiny")
    assert not list((tmp_path / "folder").iterdir())
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_place_that_may_not_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="cannot be made"):
        export(tiny.checkpoint(), tmp_path / "out", name="tiny")


def test_a_place_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file" / "out", tmp_path / ("n" * 300)):
        with pytest.raises(OutputError, match="cannot be made") as caught:
            export(tiny.checkpoint(), out, name="tiny")
        assert "\n" not in str(caught.value)


def test_when_parity_fails_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx, "TOLERANCE", -1.0)
    with pytest.raises(BundleError, match="out: torch and ONNX disagree"):
        export(tiny.checkpoint(), tmp_path / "out", name="tiny")
    assert not list(tmp_path.iterdir())


class Faulty(onnx.StepGraph):
    """A step whose logits are a little off: the captions are the same, their scores are not."""

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        logits, *rest = super().forward(*inputs)
        return logits + 0.01, *rest


def test_a_faulty_graph_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx, "StepGraph", Faulty)
    with pytest.raises(BundleError, match=r"out: torch and ONNX disagree.*; not written") as caught:
        export(tiny.checkpoint(), tmp_path / "out", name="tiny")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_clip_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"missing\.mp4"):
        export(tiny.checkpoint(), tmp_path / "out", name="tiny", clips=[tmp_path / "missing.mp4"])
    assert not list(tmp_path.iterdir())


def test_a_backbone_that_is_gone_or_has_other_weights(tmp_path: Path) -> None:
    folder = tiny.save_backbone(tmp_path / "vit of one run", tiny.vit())
    path = tiny.checkpoint(folder)
    tiny.save_backbone(folder, tiny.vit(seed=1))
    with pytest.raises(CheckpointError, match=r"trained on other weights than the backbone .*one run' has now"):
        export(path, tmp_path / "out", name="tiny")
    shutil.rmtree(folder)
    with pytest.raises(ConfigError, match=r"backbone .*one run' cannot be loaded"):
        export(path, tmp_path / "out", name="tiny")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("concepts", [False, True])
def test_whole_numbers_for_weights(concepts: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantize, "SMALLEST", 256)
    checkpoint, exact = tiny.checkpoint(concepts=concepts), tiny.bundle(concepts=concepts)
    measured = export(checkpoint, tmp_path / "out", name="tiny", int8=True)
    assert list(measured) == ["float32", "int8"]
    assert measured["float32"].holds(1e-3)
    read = bundle.read(tmp_path / "out")
    assert read.parity["int8"]["logits"] == measured["int8"].logits > measured["float32"].logits
    whole, single = (sum(path.stat().st_size for path in at.glob("*.onnx")) for at in (read.folder, exact))
    assert whole < 0.6 * single
    one, other = onnx_runtime(read.folder), torch_runtime(checkpoint)
    features, expected = (runtime.encode(clips([3, 1]))[0] for runtime in (one, other))
    assert np.abs(features - expected).mean() < 0.03 * np.abs(expected).mean()


@settings(deadline=None)
@given(
    arrays(np.float32, st.tuples(*[st.integers(1, 5)] * 3), elements=st.floats(-1e3, 1e3, width=32)), st.integers(0, 2)
)
def test_a_whole_number_is_half_a_step_off_at_most(values: np.ndarray, axis: int) -> None:
    whole, scales = quantize.quantize(values, axis)
    assert whole.dtype == np.int8
    steps = scales.reshape([-1 if dimension == axis else 1 for dimension in range(3)])
    assert (np.abs(whole * steps - values) <= steps * 0.5001).all()


@pytest.mark.slow
def test_the_real_vit_tiny_on_real_clips(shared: Path, tmp_path: Path) -> None:
    weights = shared / "weights" / "vit-tiny-patch16-224"
    if not weights.is_dir():
        pytest.skip("the weights of ViT-tiny are not here")
    path = tiny.checkpoint(weights, grid=7)
    listing = shared / "data" / "clips" / "validation.jsonl"
    files = [listing.parent / json.loads(line)["file"] for line in listing.read_text().splitlines()[:3]]
    measured = export(path, tmp_path / "out", name="real", clips=files)["float32"]
    assert measured.clips >= len(files)
    assert measured.holds(1e-3)
    read = bundle.read(tmp_path / "out")
    media = [
        sample(file, Sampling(frames=count), read.resize).pixels for file, count in zip(files, (1, 4, 2), strict=True)
    ]
    decoding = Decoding(beam=3, max_tokens=10, alternatives=2)
    together = said(onnx_runtime(read.folder), media, decoding)
    assert_same(together, said(torch_runtime(path), media, decoding))
    assert_same(together[1:2], said(onnx_runtime(read.folder), media[1:2], decoding))


def test_the_encoder_of_the_embedded_model(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = LiteEncoder(LiteEncoderConfig(variant="efficientnet-lite0", hidden_size=32))
    settings = tiny.SQUARE | {"size": {"height": 64, "width": 64}}  # two positions a side
    folder = tiny.save_backbone(tmp_path / "lite", model, settings)
    assert export(tiny.checkpoint(folder, concepts=True), tmp_path / "bundle", name="lite")["float32"].holds(1e-3)
