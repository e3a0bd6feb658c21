"""The student sees what the teacher sees, learns it, resumes, and becomes a backbone."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from tests import tiny
from video_captioning.models.backbone import Backbone
from video_captioning.training import distillation, views
from video_captioning.training.distillation import (
    Batches,
    Distillation,
    Lesson,
    Lessons,
    distil,
    held_out,
    save_student,
)
from video_captioning.training.distillation_data import SIDE, load

CAPTIONS = [["a red ball", "the sea"], ["two dogs run"], []]
CONFIG = Distillation(steps=4, batch_size=4, warmup=1, sizes=(64, 96), held_out=5, interval=2, words_from=0.5)


def pictures(count: int, side: int = SIDE) -> np.ndarray:
    return np.stack(tiny.pictures(count, size=(side, side)))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher that takes pictures of SIDE pixels."""
    settings = tiny.SQUARE | {"size": {"height": SIDE, "width": SIDE}}
    folder = tmp_path_factory.mktemp("teacher") / "vit"
    return tiny.save_backbone(folder, tiny.vit(image_size=SIDE, patch_size=32), settings)


@pytest.fixture(scope="module")
def decoder(teacher: Path) -> Path:
    """A captioner on the teacher's features."""
    return tiny.checkpoint(teacher)


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    path = tmp_path / "pictures.bin"
    pictures(20).tofile(path)
    return path


def test_pictures_are_read_back(stored: Path) -> None:
    assert np.array_equal(load(stored), pictures(20))


def alike(teacher: torch.Tensor, student: torch.Tensor) -> bool:
    """Whether these are the same views, the student's half as large; its filter blurs edges."""
    return bool((torch.nn.functional.avg_pool2d(teacher, 2) - student).abs().mean() < 0.06)


def test_whole_views_are_the_pictures() -> None:
    shown = pictures(3, 64)
    teacher, student = views.whole(shown, 32)
    assert torch.equal(((teacher + 1) * 127.5).round().byte().permute(0, 2, 3, 1), torch.from_numpy(shown))
    assert alike(teacher, student)


def test_both_see_the_same_view() -> None:
    teacher, student = views.draw(pictures(16, 64), 32, 0.4, 0.5, np.random.default_rng(0))
    assert (teacher.shape, student.shape) == ((16, 3, 64, 64), (16, 3, 32, 32))
    assert -1 <= teacher.min() < -0.8 and 0.8 < teacher.max() <= 1
    assert alike(teacher, student) and not alike(teacher.roll(1, 0), student) and not alike(teacher.flip(3), student)


def test_views_differ_and_depend_on_the_seed_alone() -> None:
    shown = np.repeat(pictures(1, 64), 8, 0)
    first, again, other = (views.draw(shown, 32, 0.4, 0.5, np.random.default_rng(seed)).teacher for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert len({view.numpy().tobytes() for view in first}) == 8


def test_without_mixture_a_view_shows_one_picture() -> None:
    black_and_white = np.repeat(np.array([0, 255], np.uint8), 64 * 64 * 3).reshape(2, 64, 64, 3)
    plain = views.draw(black_and_white, 32, 0.4, 0.0, np.random.default_rng(0)).teacher
    mixed = views.draw(black_and_white, 32, 0.4, 1.0, np.random.default_rng(0)).teacher
    assert plain[0].max() < plain[1].min()
    assert (mixed[0] > plain[0]).all() and (mixed[1] < plain[1]).all()


def test_the_decoder_reads_captions_of_the_pictures_that_have_some() -> None:
    model = tiny.vit(image_size=SIDE, patch_size=32)
    lessons = Lessons(pictures(20), [[[2, 9, 3], [2, 8, 7, 3]], [[2, 6, 3]], []], model)
    first, second, *rest = held_out(lessons, replace(CONFIG, held_out=1, captions=2))[0].tokens.tolist()
    assert sorted(first) == [[2, 8, 7, 3], [2, 9, 3, 0]]
    assert second == [[2, 6, 3, 0], [0] * 4]
    assert rest == [[[0] * 4] * 2] * 18
    [batch, *_] = Batches(lessons, CONFIG)
    assert batch.tokens.shape[:2] == (4, 1)


class PowerCutError(Exception):
    pass


class Interrupted(Batches):
    """Ends in the middle of the third step."""

    def __iter__(self) -> Iterator[Lesson]:
        yield from islice(super().__iter__(), 3)
        raise PowerCutError


@pytest.mark.slow
def test_killed_and_started_again_it_is_as_if_never_stopped(
    stored: Path, teacher: Path, decoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = distil(stored, CAPTIONS, teacher, decoder, tmp_path / "whole", CONFIG)
    with monkeypatch.context() as patch, pytest.raises(PowerCutError):
        patch.setattr(distillation, "Batches", Interrupted)
        distil(stored, CAPTIONS, teacher, decoder, tmp_path / "killed", CONFIG)
    again = distil(stored, CAPTIONS, teacher, decoder, tmp_path / "killed", CONFIG)
    first, second = (torch.load(path, weights_only=False) for path in (whole, again))
    assert first["global_step"] == second["global_step"] == CONFIG.steps
    for name, value in first["state_dict"].items():
        assert torch.equal(value, second["state_dict"][name]), name


@pytest.mark.slow
def test_the_student_learns_and_becomes_a_backbone(stored: Path, teacher: Path, decoder: Path, tmp_path: Path) -> None:
    config = replace(CONFIG, steps=60, interval=60, ema=0.9, smallest_crop=0.9, mixed=0.0)
    checkpoint = distil(stored, CAPTIONS, teacher, decoder, tmp_path / "run", config)
    save_student(checkpoint, tmp_path / "student", 96)
    student, original = Backbone(str(tmp_path / "student"), grid=3), Backbone(str(teacher), grid=3)
    learned = torch.from_numpy(pictures(20)[1:5])
    small = views.shrink(learned.permute(0, 3, 1, 2), 96).permute(0, 2, 3, 1)
    said, wanted = student(small), original(learned)
    assert said.shape == wanted.shape
    error = (said - wanted).square().mean((0, 1))
    assert error.mean() < 0.8 * wanted.flatten(0, 1).var(0).mean(), "closer than always saying the mean"
