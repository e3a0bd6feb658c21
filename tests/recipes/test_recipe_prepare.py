"""Pixels, words, and what two teachers see, of every frame that is learned from or validated on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel

from recipes.default import prepare, sources
from recipes.default.concepts import Concept
from recipes.default.prepare import GRID, SIDE, layout, load_pixels, pooled
from tests.recipes import made
from video_captioning.frames import Resize, Sampling, sample
from video_captioning.models.efficientnet_lite import EfficientNetLite
from video_captioning.tokenizer import Tokenizer

FILES = {"pixels.bin", "owners.npy", "tokenizer.model", "words.npy", "concepts.json", "classes.npy", "teacher.npy"}
TREE_FROG = "unlabelled_imagenet_n00000008_tree_frog"


def read_concepts(folder: Path) -> list[Concept]:
    return [
        Concept(entry["name"], entry["phrase"], tuple(entry["stems"]), tuple(entry["classes"]))
        for entry in json.loads((folder / "concepts.json").read_text())
    ]


def test_run_again_it_does_nothing(prepared: Path, tmp_path: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in prepared.iterdir()}
    assert set(before) == FILES
    prepare.prepare(tmp_path / "no data", tmp_path / "no teacher", "no variant", prepared)
    assert {path.name: path.stat().st_mtime_ns for path in prepared.iterdir()} == before


def test_what_is_missing_is_made_again(prepared: Path, data: Path, teacher: Path) -> None:
    content = {path.name: path.read_bytes() for path in prepared.iterdir()}
    (prepared / "teacher.npy").unlink()
    (prepared / "concepts.json").unlink()
    prepare.prepare(data, teacher, made.NAME, prepared)
    assert {path.name: path.read_bytes() for path in prepared.iterdir()} == content


def test_frames_lie_in_the_order_of_their_sources(prepared: Path, data: Path) -> None:
    training, held = layout(data)
    assert [source.id for source in held] == [
        *("flickr8k_held1", "flickr8k_held3"),
        *("msrvtt_video1", "msvd_abc_1_5", "web_3"),
    ], "every second picture of dev"
    pixels, owners = load_pixels(prepared), np.load(prepared / "owners.npy")
    assert pixels.shape == (len(owners), SIDE, SIDE, 3)
    assert (np.diff(owners) >= 0).all() and set(owners) == set(range(len(training) + len(held)))
    for number, source in enumerate([*training, *held]):
        count = 1 if source.path.suffix == ".png" else prepare.FRAMES if number < len(training) else prepare.HELD_FRAMES
        expected = sample(source.path, Sampling(frames=count), Resize(SIDE, filter="bicubic")).pixels
        assert np.array_equal(pixels[owners == number], expected)


def test_words_are_of_each_source(prepared: Path, data: Path) -> None:
    found = read_concepts(prepared)
    training, held = layout(data)
    words = np.load(prepared / "words.npy")
    assert words.shape == (len(training) + len(held), len(found)) and words.dtype == np.float16
    columns = {concept.name: column for column, concept in enumerate(found)}
    numbers = {source.id: row for row, source in enumerate([*training, *held])}
    assert words[numbers["flickr8k_ball"], columns["ball"]] == 1
    assert words[numbers["flickr8k_ball"], columns["red"]] == 0.5
    assert words[numbers[TREE_FROG], columns["tree frog"]] == 0.5
    assert np.flatnonzero(words[:, columns["tree frog"]]).tolist() == [numbers[TREE_FROG]]
    classes = sources.class_names(data)
    for concept in found:
        assert all(set(concept.name.split()) == set(classes[number].split()) for number in concept.classes)
    assert sorted(number for concept in found for number in concept.classes) == list(range(len(classes)))


def test_the_tokenizer_knows_the_captions(prepared: Path, data: Path) -> None:
    tokenizer = Tokenizer.load(prepared / "tokenizer.model")
    for source in layout(data)[0]:
        for caption in source.captions:
            assert Tokenizer.unk not in tokenizer.encode(caption)


def test_classes_are_what_the_classifier_thinks(prepared: Path, network: EfficientNetLite) -> None:
    classes = np.load(prepared / "classes.npy")
    pixels = torch.from_numpy(np.array(load_pixels(prepared)[::5])).permute(0, 3, 1, 2)
    with torch.inference_mode():
        expected = network.classify(network((pixels.float() - 127) / 128)).softmax(1).numpy()
    assert classes.dtype == np.float16 and classes.shape[1] == 1000
    assert np.allclose(classes.astype(np.float32).sum(1), 1, atol=0.02)
    assert np.corrcoef(classes[::5].astype(np.float32).ravel(), expected.ravel())[0, 1] > 0.98


def test_the_teacher_is_standardised(prepared: Path, teacher: Path) -> None:
    found = np.load(prepared / "teacher.npy")
    assert found.dtype == np.float16 and found.shape[1:] == (1 + GRID**2, 16)
    for tokens in (found[:, :1], found[:, 1:]):
        values = tokens.astype(np.float32)
        assert np.abs(values.mean((0, 1))).max() < 0.01
        assert np.abs(values.std((0, 1)) - 1).max() < 0.05
    model = AutoModel.from_pretrained(teacher, add_pooling_layer=False).eval()
    pixels = torch.from_numpy(np.array(load_pixels(prepared))).permute(0, 3, 1, 2)
    with torch.inference_mode():
        hidden = model(pixel_values=pixels.float() / 127.5 - 1).last_hidden_state
    expected = hidden[:, 0].sub(hidden[:, 0].mean(0)).div(hidden[:, 0].std(0))
    assert torch.nn.functional.cosine_similarity(expected, torch.from_numpy(found[:, 0]).float()).mean() > 0.98


@pytest.mark.parametrize("side", [4, 7, 8, 14])
def test_patches_are_averaged_in_their_places(side: int) -> None:
    hidden = torch.randn(2, 1 + side**2, 3)
    found = pooled(hidden)
    assert torch.equal(found[:, 0], hidden[:, 0])
    grid = hidden[:, 1:].view(2, side, side, 3)
    for row in range(GRID):
        for column in range(GRID):
            rows, columns = (slice(at * side // GRID, -(-(at + 1) * side // GRID)) for at in (row, column))
            mean = grid[:, rows, columns].mean((1, 2))
            assert torch.allclose(found[:, 1 + row * GRID + column], mean, atol=1e-6)
