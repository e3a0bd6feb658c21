"""The attention of all three models: what it sums to, and what is made of it."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests import tiny
from tests.conftest import MakeClip
from tests.explain import made
from tests.export import kinds
from video_captioning.captioner import Captioner
from video_captioning.decoding import Decoding
from video_captioning.errors import MissingFileError, VidcapError
from video_captioning.explain.explanation import explain, grid_of
from video_captioning.explain.shown import pictures
from video_captioning.frames import Resize, Sampling

POSITIONS = 5  # a class token and 2 x 2 patches


@cache
def captioner(kind: str) -> Captioner:
    return Captioner(kinds.bundle(kind), threads=1)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory, make_clip: MakeClip) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", tiny.pictures(64), fps=8)


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "picture.png"
    Image.fromarray(tiny.pictures(1)[0]).save(path)
    return path


@pytest.mark.parametrize("kind", kinds.KINDS)
@settings(max_examples=12, deadline=None)
@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4), beam=st.integers(1, 3))
def test_attention_sums_to_one_over_real_frames_and_is_zero_on_padding(
    kind: str, lengths: list[int], beam: int
) -> None:
    clips = [np.stack(tiny.pictures(n, seed=n, size=(tiny.SIDE, tiny.SIDE))) for n in lengths]
    found = captioner(kind).hypotheses(clips, Decoding(beam=beam, min_tokens=3, max_tokens=6))
    for length, (best, *_) in zip(lengths, found, strict=True):
        assert best.attention.shape == (len(best.tokens), POSITIONS * max(lengths))
        real, padding = np.split(best.attention, [POSITIONS * length], axis=1)
        assert not padding.any()
        assert (real >= 0).all()
        if kind == kinds.CONCEPTS:  # which have the rest
            assert (real.sum(1) < 1).all() and (real.sum(1) > 0).all()
        else:
            np.testing.assert_allclose(real.sum(1), 1, atol=1e-5)


@pytest.mark.parametrize("kind", kinds.KINDS)
@pytest.mark.parametrize("frames", [1, 8, 64])
def test_words_by_frames_by_places(kind: str, frames: int, clip: Path) -> None:
    sampling, decoding = Sampling(frames=frames), Decoding(beam=2, min_tokens=6, max_tokens=30)
    found = explain(captioner(kind), clip, sampling=sampling, decoding=decoding)
    caption = captioner(kind)(clip, sampling=sampling, decoding=decoding)
    assert found.caption.text == caption.text
    assert found.attention.shape == (len(caption.words), frames, POSITIONS)
    np.testing.assert_allclose(found.weights, [word.weights for word in caption.words], atol=1e-6)
    np.testing.assert_allclose(found.weights.sum(1), 1, atol=1e-5)
    assert found.importance.sum() == pytest.approx(1, abs=1e-5)
    assert found.patches is not None
    assert found.class_token is not None
    np.testing.assert_allclose(found.patches.sum((2, 3)) + found.class_token, found.weights, atol=1e-6)
    assert found.importance[found.top].tolist() == sorted(found.importance.tolist(), reverse=True)[:5]
    alike = np.allclose(found.attention, 1 / (frames * POSITIONS))
    assert alike == (kind == "baseline"), "which attends to all alike"


def test_all_numbers_are_in_the_json(clip: Path) -> None:
    found = explain(captioner("advanced"), clip, occlusion=True, sampling=Sampling(frames=3))
    said = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert set(said) == {"caption", "importance", "top_frames", "patches", "words", "occlusion"}
    assert said["caption"]["text"] == found.caption.text
    assert (len(said["importance"]), sorted(said["top_frames"]), said["patches"]) == (3, [0, 1, 2], 2)
    for place, word in enumerate(said["words"]):
        inside = np.array(word["patches"]).sum((1, 2)) + word["class_token"]
        np.testing.assert_allclose(inside, word["weights"], atol=1e-5)
        assert word["text"] == found.caption.words[place].text
        assert len(said["occlusion"]["words"][place]["fall"]) == 3
    assert said["occlusion"]["of"] == "frames"
    assert said["occlusion"]["rank_correlation"] == found.agreement
    assert explain(captioner("advanced"), clip, sampling=Sampling(frames=3)).to_dict()["occlusion"] is None


def test_of_a_picture_parts_are_hidden(picture: Path) -> None:
    found = explain(captioner("attention"), picture, occlusion=True)
    assert found.occlusion is not None
    assert (found.occlusion.of, found.occlusion.caption.shape) == ("regions", (4,))
    assert found.agreement is not None
    assert found.falls is not None
    assert found.falls.shape == (len(found.caption.words), 4)
    assert explain(captioner("baseline"), picture, occlusion=True).agreement is None, "all alike"


@given(st.integers(1, 200))
def test_the_grid_is_told_by_the_number_of_places(side: int) -> None:
    assert grid_of(side**2 + 1) == side
    assert grid_of(side**2) == (side if side > 1 else None)


def test_a_model_without_patches_has_no_grid() -> None:
    for positions in (1, 3):
        found = made.explanation(["a", "dog"], 4, positions)
        assert (found.grid, found.patches, found.class_token) == (None, None, None)
        assert found.to_dict()["words"][0]["patches"] is None
    assert made.explanation(["a"], 4, 4).class_token is None, "2 x 2 patches alone"


def test_a_caption_without_words_is_no_traceback(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captioner("advanced").tokenizer, "words", lambda ids: [])
    with pytest.raises(VidcapError, match="--min-tokens"):
        explain(captioner("advanced"), clip)


def test_pictures_are_of_the_moments_and_in_the_shape_of_the_clip(clip: Path) -> None:
    sampling = Sampling(frames=4)
    times = explain(captioner("advanced"), clip, sampling=sampling).caption.frames
    found = pictures(clip, sampling, Resize(tiny.SIDE), times)
    assert [picture.shape for picture in found] == [(300, 400, 3)] * 4
    for picture, time in zip(found, times, strict=True):
        original = tiny.pictures(64)[round(time * 8)]
        assert np.abs(picture[37::75, 50::100].astype(int) - original[12::24, 16::32]).mean() < 12
    assert [p.shape for p in pictures(clip, sampling, Resize(tiny.SIDE, "crop"), times)] == [(400, 400, 3)] * 4
    with pytest.raises(MissingFileError, match="changed"):
        pictures(clip, sampling, Resize(tiny.SIDE), times[:-1])
