"""A bundle is read only when it is whole, unchanged and of a schema we know; what is wrong is said in one line."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import tiny
from video_captioning import bundle
from video_captioning.bundle import BUILT_IN, FRAMES_PER_CALL, Runtime, read, writing
from video_captioning.concepts import Concepts
from video_captioning.confidence import Confidence, SentenceTerms, WordTerms
from video_captioning.decoding import Decoding
from video_captioning.errors import BundleError, OutputError
from video_captioning.frames import Sampling

FILES = ("bundle.json", "encoder.onnx", "memory.onnx", "step.onnx", "tokenizer.model")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of a bundle, to be spoilt."""
    return Path(shutil.copytree(tiny.bundle(), tmp_path / "copy"))


def refused(folder: Path, *says: str) -> str:
    with pytest.raises(BundleError) as caught:
        read(folder)
    message = str(caught.value)
    assert str(folder) in message
    assert "; " in message, "there is a way out"
    assert "\n" not in message
    for text in says:
        assert text in message
    return message


def change(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Edit bundle.json as someone would who knows what it holds."""
    manifest = json.loads((folder / "bundle.json").read_text())
    edit(manifest)
    (folder / "bundle.json").write_text(json.dumps(manifest))


def test_a_whole_bundle_is_read(copy: Path) -> None:
    one, other = read(tiny.bundle()), read(str(copy))
    assert other.folder == copy
    assert one.sha256 == other.sha256
    assert one.bytes == sum((copy / name).stat().st_size for name in FILES[1:])
    assert (one.sampling, one.decoding) == (Sampling(max_frames=4), Decoding(max_tokens=18, no_repeat_ngram=3))


def test_another_manifest_is_another_model(copy: Path) -> None:
    change(copy, lambda manifest: manifest.update(name="other"))
    assert read(copy).name == "other"
    assert read(copy).sha256 != read(tiny.bundle()).sha256


def test_nothing_there(tmp_path: Path) -> None:
    refused(tmp_path / "none", "none: no such bundle; give a bundle's folder or one of")
    refused(tmp_path, "holds no bundle.json")
    (tmp_path / "file").write_text("")
    refused(tmp_path / "file", "file: no such bundle")
    with pytest.raises(BundleError, match="cannot be read"):
        read("n" * 300)


def test_a_bundle_that_ships_is_known_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in bundle.built_in():
        assert read(name).folder == BUILT_IN / name
    monkeypatch.setattr(bundle, "BUILT_IN", tmp_path / "bundles")
    shutil.copytree(tiny.bundle(), tmp_path / "bundles" / "ours")
    assert bundle.built_in() == ["ours"]
    monkeypatch.chdir(tmp_path)
    assert read("ours").folder == tmp_path / "bundles" / "ours"
    refused(Path("theirs"), "one of: ours")
    shutil.copytree(tiny.bundle(), tmp_path / "ours")
    assert read("ours").folder == Path("ours"), "a folder comes first"


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    refused(copy, name)


@pytest.mark.parametrize("name", FILES[1:])
def test_a_truncated_file_is_named(copy: Path, name: str) -> None:
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(content[:-1])
    refused(copy, f"{name}: is {len(content) - 1} bytes instead of {len(content)}")


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(FILES[1:]), st.floats(0, 1, exclude_max=True), st.integers(1, 255))
def test_any_changed_byte_is_found(name: str, where: float, flip: int) -> None:
    folder = spoilt()
    content = bytearray((tiny.bundle() / name).read_bytes())
    content[int(len(content) * where)] ^= flip
    (folder / name).write_bytes(content)
    try:
        refused(folder, f"{name}: does not have the stated SHA-256")
    finally:
        (folder / name).write_bytes((tiny.bundle() / name).read_bytes())


@settings(max_examples=200, deadline=None)
@given(st.floats(0, 1, exclude_max=True), st.integers(1, 255))
def test_any_changed_byte_of_the_manifest_is_refused_or_is_another_model(where: float, flip: int) -> None:
    folder = spoilt()
    content = bytearray((tiny.bundle() / "bundle.json").read_bytes())
    content[int(len(content) * where)] ^= flip
    (folder / "bundle.json").write_bytes(content)
    try:
        assert read(folder).sha256 != read(tiny.bundle()).sha256
    except BundleError as error:
        assert "\n" not in str(error)
    finally:
        (folder / "bundle.json").write_bytes((tiny.bundle() / "bundle.json").read_bytes())


def spoilt() -> Path:
    """One copy for all examples of a law; each mends what it broke."""
    folder = tiny.bundle().parent / "spoilt"
    return folder if folder.exists() else Path(shutil.copytree(tiny.bundle(), folder))


@settings(max_examples=50, deadline=None)
@given(st.floats(0, 0.999))
def test_a_truncated_manifest(share: float) -> None:
    folder = spoilt()
    content = (tiny.bundle() / "bundle.json").read_bytes().rstrip()
    (folder / "bundle.json").write_bytes(content[: int(len(content) * share)])
    try:
        refused(folder, "bundle.json: is damaged")
    finally:
        (folder / "bundle.json").write_bytes((tiny.bundle() / "bundle.json").read_bytes())


@pytest.mark.parametrize(
    "text", ["", "[]", "7", "null", '"text"', "{}", "\xff\xfe", "[" * 100_000, '{"schema_version": 1e999}']
)
def test_a_manifest_that_is_none(copy: Path, text: str) -> None:
    (copy / "bundle.json").write_bytes(text.encode("latin-1"))
    refused(copy, "bundle.json: is damaged: it is not a bundle's JSON")


def test_a_newer_schema(copy: Path) -> None:
    change(copy, lambda manifest: manifest.update(schema_version=2, files="in a form of its own"))
    refused(copy, "has schema 2, newer than 1, which this vidcap reads; upgrade vidcap")


GROUPS = ("preprocess", "sampling", "decoding", "tokenizer", "graphs", "files", "made_by", "scores", "parity")


@pytest.mark.parametrize("field", ["name", "version", "kind", "licence", *GROUPS])
def test_a_missing_field_is_named(copy: Path, field: str) -> None:
    change(copy, lambda manifest: manifest.pop(field))
    refused(copy, "bundle.json: lacks or misstates a field", field)


@pytest.mark.parametrize("value", [None, 7, "text", [7], True])
@pytest.mark.parametrize("field", GROUPS)
def test_a_field_of_a_wrong_type(copy: Path, field: str, value: Any) -> None:
    change(copy, lambda manifest: manifest.update({field: value}))
    refused(copy, "bundle.json: lacks or misstates a field")


WRONG: dict[str, Callable[[dict[str, Any]], object]] = {
    "no graph": lambda m: m["graphs"].pop("step"),
    "a graph without a file": lambda m: m["graphs"]["step"].pop("file"),
    "a number for a file": lambda m: m["graphs"]["step"].update(file=7),
    "no size": lambda m: m["files"]["step.onnx"].pop("bytes"),
    "no hash": lambda m: m["files"]["step.onnx"].pop("sha256"),
    "an unknown option of sampling": lambda m: m["sampling"].update(speed=2),
    "sampling out of range": lambda m: m["sampling"].update(fps=-1),
    "text for a number": lambda m: m["sampling"].update(fps="fast"),
    "decoding out of range": lambda m: m["decoding"].update(beam=0),
    "no picture size": lambda m: m["preprocess"].pop("size"),
    "text for a picture size": lambda m: m["preprocess"].update(size="small"),
    "no such filter": lambda m: m["preprocess"]["resize"].update(filter="magic"),
    "an unknown way to resize": lambda m: m["preprocess"]["resize"].update(speed=2),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_part_of_a_field_that_is_wrong(copy: Path, wrong: str) -> None:
    change(copy, WRONG[wrong])
    refused(copy, "bundle.json: ")


def test_concepts_and_confidence_are_read() -> None:
    read_one = read(tiny.sure_bundle())
    names, phrases = ([concept[field] for concept in tiny.CONCEPTS] for field in ("name", "phrase"))
    assert read_one.concepts == Concepts(tuple(names), tuple(phrases), 0.5, 0.25, 0.6)
    assert read_one.confidence == Confidence(
        WordTerms(**tiny.CONFIDENCE["word"]), SentenceTerms(**tiny.CONFIDENCE["sentence"])
    )


def test_a_bundle_of_the_old_kind(copy: Path) -> None:
    """From before there were concepts, confidence and support."""
    change(copy, lambda manifest: manifest["decoding"].pop("support"))
    old = read(copy)
    assert (old.concepts, old.confidence, old.decoding.support) == (None, None, 0)
    frames = np.stack(tiny.pictures(2, 1, (tiny.SIDE, tiny.SIDE)))
    memory, _ = (runtime := Runtime(old, threads=1)).remember(*runtime.encode([frames]))
    assert set(memory) == {"memory", "memory_mask"}


UNSURE: dict[str, Callable[[dict[str, Any]], object]] = {
    "no file": lambda m: m["concepts"].pop("file"),
    "a file that is not listed": lambda m: m["concepts"].update(file="other.json"),
    "a file that is something else": lambda m: m["concepts"].update(file="tokenizer.model"),
    "an unknown field": lambda m: m["concepts"].update(colour=1),
    "a scale of 0": lambda m: m["concepts"].update(scale=0),
    "a shift that is no number": lambda m: m["concepts"].update(shift=float("nan")),
    "a threshold above 1": lambda m: m["concepts"].update(threshold=1.5),
    "a threshold in words": lambda m: m["concepts"].update(threshold="half"),
    "a list of concepts": lambda m: m.update(concepts=[]),
    "a graph that tells of none": lambda m: m["graphs"]["memory"]["outputs"].pop("concepts"),
    "a graph that tells of fewer": lambda m: m["graphs"]["memory"]["outputs"].update(concepts="[B, T, 11]"),
    "no terms of words": lambda m: m["confidence"].pop("word"),
    "other terms": lambda m: m["confidence"].update(verb={}),
    "a coefficient that nobody knows": lambda m: m["confidence"]["word"].update(length=1),
    "a coefficient that lacks": lambda m: m["confidence"]["sentence"].pop("least"),
    "an infinite coefficient": lambda m: m["confidence"]["word"].update(bias=float("inf")),
    "a coefficient in words": lambda m: m["confidence"]["sentence"].update(mean="much"),
    "a number for confidence": lambda m: m.update(confidence=1),
}


@pytest.mark.parametrize("wrong", UNSURE)
def test_concepts_or_confidence_that_are_wrong(tmp_path: Path, wrong: str) -> None:
    folder = Path(shutil.copytree(tiny.sure_bundle(), tmp_path / "copy"))
    change(folder, UNSURE[wrong])
    refused(folder, "bundle.json: ")


@pytest.mark.parametrize(
    "text",
    [
        *("", "{}", "[]", "7", "[7]", '["panda"]', '[{"name": "panda"}]', '[{"name": "", "phrase": ""}]', "\xff"),
        *('[{"name": 7, "phrase": "a panda"}]', "[" * 100_000, json.dumps(tiny.CONCEPTS[1:])),
    ],
)
def test_names_of_concepts_that_are_none(tmp_path: Path, text: str) -> None:
    folder = Path(shutil.copytree(tiny.sure_bundle(), tmp_path / "copy"))
    (folder / "concepts.json").write_bytes(text.encode("latin-1"))
    tiny.state(folder, lambda manifest: None)
    refused(folder, "bundle.json: lacks or misstates a field (concepts")


def test_names_of_other_concepts_than_the_graph_has(tmp_path: Path) -> None:
    """Where the manifest goes along with the names, loading finds it."""
    folder = Path(shutil.copytree(tiny.sure_bundle(), tmp_path / "copy"))
    (folder / "concepts.json").write_text(json.dumps(tiny.CONCEPTS[1:]))
    tiny.state(folder, lambda manifest: manifest["graphs"]["memory"]["outputs"].update(concepts="[B, T, 11]"))
    with pytest.raises(BundleError, match=r"copy: its memory graph does not give the concepts that it names; "):
        Runtime(read(folder), threads=1)


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "sub/file", "..", "nul\0"])
def test_a_file_outside_the_folder_is_not_even_read(copy: Path, name: str) -> None:
    (copy.parent / "outside").write_text("mine")
    change(copy, lambda manifest: manifest["files"].update({name: {"bytes": 4, "sha256": "0" * 64}}))
    message = refused(copy)
    assert "SHA-256" not in message


@pytest.mark.parametrize("name", ["../step.onnx", "/step.onnx", "./step.onnx", "other.onnx"])
@pytest.mark.parametrize("part", ["graph", "tokenizer"])
def test_a_file_that_is_used_but_not_listed(copy: Path, name: str, part: str) -> None:
    shutil.copy(copy / "step.onnx", copy.parent)
    shutil.copy(copy / "step.onnx", copy / "other.onnx")
    change(copy, lambda m: (m["graphs"]["step"] if part == "graph" else m["tokenizer"]).update(file=name))
    refused(copy, f"bundle.json: uses a file that it does not list: {name}")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read anything")
def test_no_permission(copy: Path) -> None:
    (copy / "bundle.json").chmod(0)
    refused(copy, "cannot be read (Permission denied); check the permissions")


@pytest.mark.parametrize("name", FILES[1:])
def test_a_folder_in_the_place_of_a_file(copy: Path, name: str) -> None:
    (copy / name).unlink()
    (copy / name).mkdir()
    refused(copy, name)


def test_graphs_that_are_none(copy: Path) -> None:
    (copy / "step.onnx").write_bytes(b"not a graph")
    change(copy, lambda m: m.pop("schema_version") and m.pop("files"))
    manifest = json.loads((copy / "bundle.json").read_text())
    bundle.write_manifest(copy, manifest)
    with pytest.raises(BundleError, match="its graphs cannot be loaded") as caught:
        Runtime(read(copy), threads=1)
    assert "\n" not in str(caught.value)


def test_writing_is_whole_or_not_at_all(tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    with writing(out) as folder:
        assert folder.parent == out.parent
        (folder / "file").write_text("content")
        assert not out.exists()
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    assert (out / "file").read_text() == "content"
    with pytest.raises(KeyboardInterrupt), writing(tmp_path / "other") as folder:
        (folder / "file").write_text("content")
        raise KeyboardInterrupt
    with pytest.raises(OutputError, match=r"other: cannot be written \(No space left"), writing(tmp_path / "other"):
        raise OSError(28, "No space left on device")
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_frames_are_encoded_in_calls_of_bounded_size() -> None:
    runtime = Runtime(read(tiny.bundle()), threads=1)
    lengths = [FRAMES_PER_CALL - 1, 1, 2, FRAMES_PER_CALL]
    clips = [np.stack(tiny.pictures(length, length, (tiny.SIDE, tiny.SIDE))) for length in lengths]
    features, mask = runtime.encode(clips)
    assert features.shape[:2] == mask.shape == (4, FRAMES_PER_CALL)
    assert mask.sum(1).tolist() == lengths
    assert not features[~mask].any()
    for row, clip in enumerate(clips):
        assert np.allclose(features[row, mask[row]], runtime.encode([clip])[0][0], atol=1e-5)


def test_what_int8_makes_of_a_clip_depends_on_no_other() -> None:
    found = read("default")
    runtime, size = Runtime(found, threads=1), (found.resize.size,) * 2
    clips = [np.stack(tiny.pictures(count, count, size)) // dark for count, dark in ((3, 1), (2, 9), (1, 3))]
    features, mask = runtime.encode(clips)
    for row, clip in enumerate(clips):
        assert np.array_equal(features[row, mask[row]], runtime.encode([clip])[0][0])
