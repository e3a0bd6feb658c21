"""Extraction fills the store once, whatever is in the listing, and packing changes nothing."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests import tiny
from tests.conftest import MakeClip
from video_captioning.data.features import FRAMES_PER_CALL, Extraction, LiveFeatures, StoredFeatures, extract, view
from video_captioning.data.items import Item
from video_captioning.data.store import FeatureStore
from video_captioning.frames import Resize, Sampling, sample
from video_captioning.models.backbone import Backbone

SAMPLING = Sampling(fps=4, max_frames=8)


class Counting(Backbone):
    """A backbone that remembers how many frames each call had."""

    def __init__(self, **options: int) -> None:
        super().__init__(str(tiny.backbone()), **options)  # type: ignore[arg-type]
        self.calls: list[int] = []

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        self.calls.append(len(frames))
        return super().forward(frames)


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory, make_clip: MakeClip) -> list[Item]:
    """Two pictures and three clips of 3, 8 and 5 kept frames."""
    folder = tmp_path_factory.mktemp("media")
    paths = []
    for number, picture in enumerate(tiny.pictures(2)):
        paths.append(folder / f"{number}.png")
        Image.fromarray(picture).save(paths[-1])
    for seconds, seed in ((0.75, 1), (9, 2), (1.25, 3)):
        paths.append(make_clip(folder / f"{seed}.mp4", tiny.pictures(int(seconds * 8), seed), fps=8))
    return [Item(path.stem, path, ("a caption",)) for path in paths]


def alone(backbone: Backbone, item: Item) -> np.ndarray:
    pixels = sample(item.path, SAMPLING, Resize(**backbone.resize)).pixels
    with torch.inference_mode():
        made: torch.Tensor = backbone(torch.from_numpy(pixels))
    return made.numpy()


def features(found: Extraction, store: FeatureStore, items: list[Item]) -> list[np.ndarray]:
    return [store.get(found.keys[item.path][0]) for item in items]


def test_packed_equals_one_by_one(tmp_path: Path, items: list[Item]) -> None:
    backbone = Counting()
    with FeatureStore(tmp_path) as store:
        made = features(extract(items, backbone, SAMPLING, store), store, items)
    assert [len(value) for value in made] == [1, 1, 3, 8, 5]
    assert backbone.calls == [18], "all frames at once"
    for value, item in zip(made, items, strict=True):
        assert np.allclose(value, alone(backbone, item), rtol=1e-3, atol=1e-2)


def test_a_call_is_never_larger_than_stated(tmp_path: Path, items: list[Item]) -> None:
    backbone = Counting()
    sampling = Sampling(fps=8, max_frames=64)
    with FeatureStore(tmp_path) as store:
        extract(items, backbone, sampling, store)
    assert max(backbone.calls) == FRAMES_PER_CALL
    assert sum(backbone.calls) == 1 + 1 + 6 + 64 + 10


def test_what_is_stored_is_not_made_again(tmp_path: Path, items: list[Item]) -> None:
    with FeatureStore(tmp_path) as store:
        first = extract(items[:3], Counting(), SAMPLING, store)
        again, rest = Counting(), Counting()
        assert extract(items[:3], again, SAMPLING, store) == first
        assert again.calls == []
        extract(items, rest, SAMPLING, store)
        assert rest.calls == [8 + 5]
        other = Counting(grid=2)
        assert extract(items[:1], other, SAMPLING, store).keys != first.keys
        assert other.calls == [1]


def test_what_was_finished_before_a_crash_is_kept(tmp_path: Path, items: list[Item], make_clip: MakeClip) -> None:
    long = [
        Item(str(seed), make_clip(tmp_path / f"{seed}.mp4", tiny.pictures(130, seed, (32, 32)), fps=8), ("a caption",))
        for seed in (4, 5)
    ]  # 260 frames are more than a transaction takes

    class CrashError(Exception):
        pass

    def until_the_last(rows: list[Item]) -> object:
        yield from rows[:-1]
        raise CrashError

    sampling = Sampling(fps=8, max_frames=200)
    with FeatureStore(tmp_path / "store") as store, pytest.raises(CrashError):
        extract([*long, *items], Counting(), sampling, store, until_the_last)
    with FeatureStore(tmp_path / "store") as store:
        assert len(store) == 2
        backbone = Counting()
        found = extract([*long, *items], backbone, sampling, store)
        assert sum(backbone.calls) == 1 + 1 + 6 + 72 + 10
        assert len(found.keys) == len(store) == 7


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes are of POSIX")
def test_what_cannot_be_read_is_told_and_the_rest_goes_on(tmp_path: Path, items: list[Item]) -> None:
    (tmp_path / "text.mp4").write_text("not a video")
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "folder.mp4").mkdir()
    os.mkfifo(tmp_path / "pipe.mp4")  # opening it would wait for ever
    names = ["text.mp4", "empty.mp4", "folder.mp4", "pipe.mp4", "missing.mp4", "nul\0.mp4"]
    bad = [Item(name, tmp_path / name, ("a caption",)) for name in names]
    with FeatureStore(tmp_path / "store") as store:
        found = extract([*bad[:3], items[0], *bad[3:], items[2]], Counting(), SAMPLING, store)
        assert set(found.keys) == {items[0].path, items[2].path}
        assert len(store) == 2
    assert [error.path.name for error in found.errors] == names
    assert all("\n" not in str(error) and str(tmp_path) in str(error) for error in found.errors)


def test_real_clips(tmp_path: Path, shared: Path) -> None:
    clips = shared / "data" / "clips"
    rows = [json.loads(line) for line in (clips / "validation.jsonl").read_text().splitlines()[:2]]
    items = [Item(row["id"], clips / row["file"], tuple(row["captions"])) for row in rows]
    backbone = Backbone(str(tiny.backbone()))
    with FeatureStore(tmp_path) as store:
        found = extract(items, backbone, SAMPLING, store)
        for item, value in zip(items, features(found, store, items), strict=True):
            assert value.shape == (8, 17, 32)
            assert np.allclose(value, alone(backbone, item), rtol=1e-3, atol=1e-2)


def test_views_are_parts_of_the_clip_and_stored_once(tmp_path: Path, items: list[Item]) -> None:
    backbone = Counting()
    with FeatureStore(tmp_path) as store:
        found = extract(items, backbone, SAMPLING, store, count=3)
        assert sum(backbone.calls) == 3 * 18
        assert all(len(set(keys)) == 3 for keys in found.keys.values())
        again = Counting()
        assert [keys[:1] for keys in extract(items, again, SAMPLING, store).keys.values()] == [
            keys[:1] for keys in found.keys.values()
        ], "the clip itself is the first view"
        extract(items, again, SAMPLING, store, count=3)
        assert again.calls == []
        source = StoredFeatures(store, found.keys)
        plain, part = source.read([(items[2], 0), (items[2], 1)])
        assert plain.shape == part.shape and not np.allclose(plain, part, atol=0.1)


def test_a_view_is_one_part_of_all_frames_and_always_the_same() -> None:
    side = 64
    ramp = np.tile(np.arange(side, dtype=np.uint8)[None, None, :, None], (3, side, 1, 3))
    for number in range(1, 20):
        found = view(ramp, number)
        assert found.shape == ramp.shape and found.dtype == np.uint8
        assert np.array_equal(found, view(ramp, number))
        assert (found[0] == found[1]).all() and (found[0] == found[2]).all()
        assert int(found.max()) - int(found.min()) >= 0.55 * side, "half of the picture, at least, if it is stretched"
    assert view(ramp, 0) is ramp


def test_live_features_are_those_of_the_store(tmp_path: Path, items: list[Item]) -> None:
    backbone = Counting()
    gone = Item("gone", tmp_path / "gone.mp4", ("a caption",))
    live = LiveFeatures(backbone, SAMPLING, [*items, gone], vary=False)
    assert [error.path for error in live.errors] == [gone.path]
    assert gone not in live and live.views == 1
    wanted = [(item, 0) for item in items]
    with FeatureStore(tmp_path / "store") as store:
        stored = StoredFeatures(store, extract(items, backbone, SAMPLING, store).keys)
        for one, other in zip(live.read(wanted), stored.read(wanted), strict=True):
            assert np.allclose(one, other, atol=1e-2)
        assert [live.content(item) for item in items] == [stored.content(item) for item in items]
    varied = LiveFeatures(backbone, SAMPLING, items, vary=True)
    one, other = varied.read([(items[2], 5), (items[2], 6)])
    assert not np.allclose(one, other, atol=0.1)
