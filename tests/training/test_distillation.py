"""What the teacher makes of crops is kept; the student learns it, resumes, and becomes a backbone."""

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModel

from tests import tiny
from tests.conftest import MakeClip
from video_captioning.data import views
from video_captioning.data.dataset import mirrored_places
from video_captioning.models.backbone import Backbone
from video_captioning.training import distillation
from video_captioning.training.distillation import (
    Batches,
    Distillation,
    Lesson,
    Lessons,
    distil,
    held_out,
    save_student,
)
from video_captioning.training.distillation_data import (
    GRID,
    SIDE,
    crop,
    load,
    load_features,
    pooled,
    prepare,
    teach,
    weights,
)

CAPTIONS: list[list[str]] = [["a red ball", "the sea"], ["two dogs run"], *[[]] * 18]
CONFIG = Distillation(steps=4, batch_size=4, warmup=1, sizes=(64, 96), held_out=5, interval=2, crops=2, decay=0.5)
EQUAL = np.ones(20)


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


@pytest.fixture(scope="module")
def taught(teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the teacher makes of two crops of each picture of `stored`."""
    folder = tmp_path_factory.mktemp("taught")
    pictures(20).tofile(folder / "pictures.bin")
    teach(folder / "pictures.bin", teacher, 2, folder / "features.bin")
    return folder / "features.bin"


def test_the_teacher_has_seen_the_very_crops(stored: Path, taught: Path, teacher: Path) -> None:
    pixels, features = load(stored), load_features(taught, 20, 2)
    model = AutoModel.from_pretrained(teacher, add_pooling_layer=False).eval()
    for picture, number in [(0, 0), (7, 1), (19, 1)]:
        shown = crop(pixels, picture, number)
        assert torch.equal(shown[0], torch.from_numpy(pixels[picture]).permute(2, 0, 1)) == (number == 0)
        with torch.no_grad():
            expected = pooled(model(pixel_values=shown / 127.5 - 1).last_hidden_state, GRID)
        stored_features = torch.from_numpy(features[picture, number]).float()
        assert torch.cosine_similarity(stored_features, expected[0], 1).min() > 0.99


def test_a_crop_is_always_the_same_and_no_other() -> None:
    same = np.repeat(pictures(1), 3, 0)
    crops = [crop(same, picture, number) for picture, number in [(0, 1), (0, 1), (0, 2), (1, 1)]]
    assert torch.equal(crops[0], crops[1])
    assert not torch.equal(crops[0], crops[2]) and not torch.equal(crops[0], crops[3])


def test_a_mix_shows_a_part_of_another_picture_in_its_place() -> None:
    one, other = torch.zeros(1, 3, 60, 60), torch.ones(1, 3, 60, 60)
    for seed in range(20):
        mixed = views.paste(one, other, np.random.default_rng(seed))[0]
        rows, columns = mixed[0].any(1), mixed[0].any(0)
        assert 20 <= rows.sum() < 45 and 20 <= columns.sum() < 45
        assert torch.equal(mixed, (rows[:, None] & columns).float().expand(3, -1, -1)), "a rectangle"
    assert not one.any(), "untouched"


def test_some_crops_are_mixed_but_never_with_a_held_out_picture() -> None:
    pixels = np.broadcast_to(np.arange(120, dtype=np.uint8)[:, None, None, None], (120, SIDE, SIDE, 3))
    shown = [set(crop(pixels, n, number).unique().tolist()) - {n} for n in range(1, 50) for number in range(1, 20)]
    assert all(len(others) <= 1 for others in shown)
    assert 0.15 < np.mean([len(others) for others in shown]) < 0.45
    assert not {0, 50, 100} & set.union(*shown)


def test_mirrored_features_are_those_of_a_mirrored_map() -> None:
    features = torch.arange(2 * 5.0).view(2, 5, 1)
    places = mirrored_places(2)
    assert features[:, places][0, :, 0].tolist() == [0, 2, 1, 4, 3]
    assert torch.equal(features[:, places][:, places], features)


def test_recoloured_pictures_show_the_same() -> None:
    shown = torch.from_numpy(pictures(8, 64)).permute(0, 3, 1, 2)
    plain, other = shown / 127.5 - 1, views.recolour(shown, np.random.default_rng(0))
    assert other.min() >= -1 and other.max() <= 1
    together = torch.stack([plain.flatten(1), other.flatten(1)], 1)
    assert all(torch.corrcoef(pair)[0, 1] > 0.9 for pair in together)
    assert not torch.allclose(plain, other, atol=0.05)


def test_lessons_mirror_picture_and_features_together(stored: Path) -> None:
    """Features that say how light each place is stay with the places."""
    pixels = load(stored)
    crops = [[crop(pixels, picture, number)[0].float().mean(0) for number in range(2)] for picture in range(20)]
    light = torch.stack([torch.stack(of) for of in crops])
    maps = torch.nn.functional.adaptive_avg_pool2d(light, GRID).flatten(2)
    features = torch.cat([maps.mean(2, keepdim=True), maps], 2)[..., None].numpy()
    batch = Lessons(pixels, features, []).draw(np.arange(20), 80, np.random.default_rng(0))
    seen = torch.nn.functional.adaptive_avg_pool2d(batch.pictures.mean(1), GRID).flatten(1)
    agree = [torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(seen, batch.features[:, 1:, 0], strict=True)]
    assert min(agree) > 0.95


def test_pictures_are_drawn_by_their_weights(stored: Path, taught: Path) -> None:
    lessons = Lessons(load(stored), load_features(taught, 20, 2), [])
    chosen: list[int] = []
    lessons.draw = lambda which, *rest: chosen.extend(which)  # type: ignore[method-assign, assignment, return-value]
    heavy = np.where(np.arange(20) == 7, 9.0, 1.0)
    list(Batches(lessons, heavy, replace(CONFIG, steps=300, batch_size=1)))
    assert set(chosen) == {n for n in range(20) if n % 5}
    assert 0.25 < chosen.count(7) / 300 < 0.5, "9 of 24"


def test_the_decoder_reads_captions_of_the_pictures_that_have_some(stored: Path, taught: Path) -> None:
    lessons = Lessons(load(stored), load_features(taught, 20, 2), [[[2, 9, 3], [2, 8, 7, 3]], [[2, 6, 3]], []])
    first, second, *rest = held_out(lessons, replace(CONFIG, held_out=1))[0].tokens.tolist()
    assert [token for token in first if token] in ([2, 9, 3], [2, 8, 7, 3])
    assert [token for token in second if token] == [2, 6, 3]
    assert not np.any(rest)


def test_every_picture_has_the_weight_of_its_source(tmp_path: Path, make_clip: MakeClip) -> None:
    listings = {"flickr8k/train": 2, "coco/captions": 1, "web/captions": 1, "clips/train": 1}
    for listing, count in listings.items():
        path = tmp_path / f"{listing}.jsonl"
        path.parent.mkdir()
        names = [f"{n}.mp4" if "clips" in listing else f"{n}.png" for n in range(count)]
        path.write_text("".join(json.dumps({"id": n, "file": n, "captions": ["a"]}) + "\n" for n in names))
        for name in names:
            write_media(path.parent / name, make_clip)
    (tmp_path / "unlabelled").mkdir()
    write_media(tmp_path / "unlabelled" / "0.png", make_clip)
    prepare(tmp_path, tmp_path / "pictures.bin")
    frames = len(load(tmp_path / "pictures.bin")) - 5
    assert frames > 1
    assert weights(tmp_path, 5 + frames).tolist() == [1.5, 1.5, 1.5, 1.0, 1.0] + [0.3] * frames


def write_media(path: Path, make_clip: MakeClip) -> None:
    if path.suffix == ".mp4":
        make_clip(path)
    else:
        Image.fromarray(pictures(1, 32)[0]).save(path)


class PowerCutError(Exception):
    pass


class Interrupted(Batches):
    """Ends in the middle of the third step."""

    def __iter__(self) -> Iterator[Lesson]:
        yield from islice(super().__iter__(), 3)
        raise PowerCutError


@pytest.mark.slow
def test_killed_and_started_again_it_is_as_if_never_stopped(
    stored: Path, taught: Path, decoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = distil(stored, taught, CAPTIONS, EQUAL, decoder, tmp_path / "whole", CONFIG)
    with monkeypatch.context() as patch, pytest.raises(PowerCutError):
        patch.setattr(distillation, "Batches", Interrupted)
        distil(stored, taught, CAPTIONS, EQUAL, decoder, tmp_path / "killed", CONFIG)
    again = distil(stored, taught, CAPTIONS, EQUAL, decoder, tmp_path / "killed", CONFIG)
    first, second = (torch.load(path, weights_only=False) for path in (whole, again))
    assert first["global_step"] == second["global_step"] == CONFIG.steps
    for name, value in first["state_dict"].items():
        assert torch.equal(value, second["state_dict"][name]), name


@pytest.mark.slow
def test_the_student_learns_and_becomes_a_backbone(
    stored: Path, taught: Path, teacher: Path, decoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distillation, "SMALLEST_SHARE", 2)  # two processes, where there are two cores
    config = replace(CONFIG, steps=60, interval=60, ema=0.9)
    checkpoint = distil(stored, taught, CAPTIONS, EQUAL, decoder, tmp_path / "run", config)
    save_student(checkpoint, tmp_path / "student", 96)
    student, original = Backbone(str(tmp_path / "student"), grid=3), Backbone(str(teacher), grid=3)
    learned = torch.from_numpy(pictures(20)[1:5])
    small = views.shrink(learned.permute(0, 3, 1, 2), 96).permute(0, 2, 3, 1)
    said, wanted = student(small), original(learned)
    assert said.shape == wanted.shape
    error = (said - wanted).square().mean((0, 1))
    assert error.mean() < 0.8 * wanted.flatten(0, 1).var(0).mean(), "closer than always saying the mean"
