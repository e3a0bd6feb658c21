"""The demo clip is what its script films; the clips that other tests make the same way look filmed."""

from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest

from scripts.make_demo_clip import DEMO, FPS, SUBJECTS, film, make_demo_clip


def pictures(path: Path) -> npt.NDArray[np.int16]:
    """Every frame of a clip, RGB [frames, height, width, 3]."""
    with av.open(path) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]).astype(np.int16)


def test_demo_clip_is_an_ordinary_small_clip() -> None:
    with av.open(DEMO) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.width, stream.height) == ("h264", 320, 240)
        assert stream.average_rate == FPS
        assert 10 <= stream.frames / FPS <= 15
    assert DEMO.stat().st_size <= 400_000


def test_demo_clip_is_what_the_script_films() -> None:
    with av.open(DEMO) as container:
        credit = container.metadata["comment"]
    photo = next(photo for photo in SUBJECTS.values() if photo.credit == credit)
    committed = pictures(DEMO)
    for kept, filmed in zip(committed[:5], film(photo, len(committed), np.random.default_rng(0)), strict=False):
        assert np.abs(kept - filmed).mean() < 6


@pytest.mark.parametrize("subject", SUBJECTS)
def test_the_camera_moves_steadily_towards_the_subject(subject: str) -> None:
    filmed = np.stack(list(film(SUBJECTS[subject], 40, np.random.default_rng(0)))).astype(np.int16)
    steps = np.abs(np.diff(filmed, axis=0)).mean(axis=(1, 2, 3))
    assert steps.max() < 30  # no jump
    assert np.abs(filmed[-1] - filmed[0]).mean() > 2 * steps.mean()


def test_a_clip_of_several_subjects_cuts_between_them(tmp_path: Path) -> None:
    make_demo_clip(tmp_path / "clip.mp4", ["cat", "rocket"], seconds=2)
    frames = pictures(tmp_path / "clip.mp4")
    assert len(frames) == 2 * FPS
    steps = np.abs(np.diff(frames, axis=0)).mean(axis=(1, 2, 3))
    assert steps.argmax() == FPS - 1  # from the last frame of the first shot to the next
    assert steps.max() > 3 * np.sort(steps)[-2]
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_the_same_seed_gives_the_same_file(tmp_path: Path) -> None:
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        make_demo_clip(tmp_path / name, ["coffee"], seconds=0.4, seed=seed)
    one, again, other = ((tmp_path / name).read_bytes() for name in ("one", "again", "other"))
    assert one == again != other
