"""The feature store keeps what a finished transaction wrote, whatever happens to its writer."""

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from video_captioning.data import store as room
from video_captioning.data.store import FeatureStore, feature_keys
from video_captioning.errors import DataError
from video_captioning.frames import Resize, Sampling

BACKBONE = {"name": "vit", "revision": None, "sha256": "0" * 64, "positions": "both", "grid": 7}


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


def key_of(path: Path, backbone: dict[str, Any], sampling: Sampling, resize: Resize) -> bytes:
    """Of the file's own features, those of no other view."""
    [found] = feature_keys(path, backbone, sampling, resize)
    return found


def noise(frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(frames, 5, 8)).astype(np.float16)


def python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run code in another process, with numpy, FeatureStore, key and noise at hand."""
    prelude = "import os, signal, sys; from tests.data.test_store import FeatureStore, key, noise, np\n"
    command = [sys.executable, "-c", prelude + code, *map(str, arguments)]
    return subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120)


@settings(max_examples=25, deadline=None)  # each writes to the disk
@given(arrays(np.float16, st.tuples(*[st.integers(1, 4)] * 3), elements=st.floats(-100, 100, width=16)))
def test_features_come_back(tmp_path_factory: pytest.TempPathFactory, features: np.ndarray) -> None:
    folder = tmp_path_factory.mktemp("store")
    with FeatureStore(folder) as store:
        store.put({key(1): features.astype(np.float32)})
    with FeatureStore(folder) as store:
        assert len(store) == 1
        assert key(1) in store
        assert key(2) not in store
        assert store.shape(key(1)) == features.shape
        found = store.get(key(1))
    assert found.dtype == np.float16
    assert np.array_equal(found, features)


def test_a_key_that_is_not_there(tmp_path: Path) -> None:
    with FeatureStore(tmp_path) as store:
        for ask in (store.get, store.shape):
            with pytest.raises(KeyError):
                ask(key(1))


def test_a_key_is_of_content_and_settings(tmp_path: Path) -> None:
    path, same, other = tmp_path / "a.mp4", tmp_path / "b.mp4", tmp_path / "c.mp4"
    path.write_bytes(b"content")
    same.write_bytes(b"content")
    other.write_bytes(b"Content")
    sampling, resize = Sampling(), Resize()
    first = key_of(path, BACKBONE, sampling, resize)
    assert len(first) == 32
    assert key_of(same, BACKBONE, sampling, resize) == first
    changed = [
        key_of(other, BACKBONE, sampling, resize),
        *(key_of(path, BACKBONE | {name: "other"}, sampling, resize) for name in BACKBONE),
        *(
            key_of(path, BACKBONE, replace(sampling, **change), resize)
            for change in ({"fps": 1.0}, {"max_frames": 3}, {"frames": 2}, {"keyframes": True})
        ),
        *(
            key_of(path, BACKBONE, sampling, replace(resize, **change))
            for change in ({"size": 9}, {"mode": "crop"}, {"keep": 0.5}, {"filter": "bicubic"})
        ),
    ]
    assert len({first, *changed}) == 1 + len(changed)


def test_it_grows_past_its_first_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "FIRST_SIZE", 1 << 16)
    big = {key(number): np.full((40, 50, 20), number) for number in range(8)}  # 80 kB each
    with FeatureStore(tmp_path) as store:
        store.put(big)
        store.put({key(99): noise(1)})
    with FeatureStore(tmp_path) as store:
        assert len(store) == 9
        assert all(np.array_equal(store.get(name), value) for name, value in big.items())


def test_it_follows_another_process_that_made_it_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "FIRST_SIZE", 1 << 16)
    with FeatureStore(tmp_path) as store:
        store.put({key(1): noise(1)})
        done = python("with FeatureStore(sys.argv[1]) as s: s.put({key(2): np.ones((40, 50, 20))})", tmp_path)
        assert done.returncode == 0, done.stderr
        assert store.shape(key(2)) == (40, 50, 20)
        store.put({key(3): noise(2)})
        assert np.array_equal(store.get(key(3)), noise(2))


def test_a_writer_killed_in_a_transaction_leaves_the_finished_ones(tmp_path: Path) -> None:
    code = """
class Fatal(dict):
    def items(self):
        yield from super().items()
        os.kill(os.getpid(), signal.SIGKILL)

store = FeatureStore(sys.argv[1])
store.put({key(1): noise(3, 1)})
store.put(Fatal({key(2): noise(3, 2)}))
"""
    assert python(code, tmp_path).returncode == -signal.SIGKILL
    with FeatureStore(tmp_path) as store:
        assert len(store) == 1
        assert np.array_equal(store.get(key(1)), noise(3, 1))
        store.put({key(2): noise(3, 2)})
        assert np.array_equal(store.get(key(2)), noise(3, 2))


def test_all_or_nothing(tmp_path: Path) -> None:
    with FeatureStore(tmp_path) as store:
        with pytest.raises(AttributeError):
            store.put({key(1): noise(1), key(2): None})  # type: ignore[dict-item]
        assert len(store) == 0


def test_a_place_that_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "data.mdb").write_bytes(b"not a database" * 1000)
    for name in ("file", "damaged"):
        with pytest.raises(DataError, match=f"{name}: no feature store") as caught:
            FeatureStore(tmp_path / name)
        assert "\n" not in str(caught.value)
