"""The encoder learns together with a decoder, what it is shown depends on the step alone, and both are kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from recipes.default import see
from recipes.default.prepare import GRID, SIDE, load_pixels, normalised
from recipes.default.see import Lesson, Lessons, Seeing, Seer, worsened
from tests import tiny
from tests.recipes import made
from video_captioning.data.dataset import mirrored_places
from video_captioning.models import checkpoint
from video_captioning.models.advanced import NAME_TOKENS, Advanced
from video_captioning.models.backbone import Backbone
from video_captioning.models.efficientnet_lite import EfficientNetLite
from video_captioning.tokenizer import BOS, EOS, Tokenizer

CONFIG = Seeing(
    variant=made.NAME, width=16, frozen=2, periods=(5,), batch_size=4, sizes=(96, SIDE), grow=0.75, warmup=2, interval=2
)


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """As many as before: whoever iterates over lessons has one."""
    count = torch.get_num_threads()
    yield
    torch.set_num_threads(count)


@pytest.fixture(scope="module")
def lessons(data: Path, prepared: Path) -> Lessons:
    return Lessons(data, prepared, CONFIG)


@pytest.fixture(scope="module")
def seen(data: Path, prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a trained encoder and decoder."""
    folder = tmp_path_factory.mktemp("seen")
    see.save(see.see(data, prepared, folder, CONFIG), prepared, folder, CONFIG)
    return folder


def trained(seen: Path, lessons: Lessons) -> Seer:
    """What was trained, as it was before it was saved."""
    module = Seer(CONFIG, lessons)
    module.load_state_dict(torch.load(seen / "last.ckpt", weights_only=False)["state_dict"])
    return module.eval()


def same(one: Lesson, other: Lesson) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_resumed_run_sees_what_the_other_would_have_seen(data: Path, prepared: Path, lessons: Lessons) -> None:
    drawn = list(lessons)
    assert [lesson.pictures.shape[2] for lesson in drawn] == [96, 96, 96, 96, SIDE]
    rest = list(Lessons(data, prepared, CONFIG, 2))
    assert len(rest) == 3 and all(map(same, rest, drawn[2:]))
    assert not same(drawn[0], drawn[1])


def test_a_lesson(lessons: Lessons) -> None:
    pictures, tokens, concepts, teacher, whole = next(iter(lessons))
    assert pictures.dtype == torch.float32 and pictures.shape[:2] == (4, 3)
    assert pictures.min() >= -1 and pictures.max() <= 1
    assert teacher.shape == (4, 1 + GRID**2, 16) and whole.dtype == torch.bool
    assert concepts.shape == (4, len(lessons.found)) and concepts.min() >= 0 and concepts.max() <= 1
    captions = {lessons.tokenizer.decode(text) for texts in lessons.captions for text in texts}
    for texts in tokens.tolist():
        kept = [[token for token in text if token != Tokenizer.pad] for text in texts]
        said = [text for text in kept if text]
        assert said and all(
            text[0] == BOS and text[-1] == EOS and lessons.tokenizer.decode(text) in captions for text in said
        )


def test_nothing_that_is_validated_on_is_drawn(lessons: Lessons) -> None:
    assert len(lessons.held) == 2 + 3 * 4
    assert not lessons.weights[lessons.held].any()
    assert (np.delete(lessons.weights, lessons.held) > 0).all()
    assert lessons.weights.sum() == pytest.approx(1)


def test_targets_are_what_people_said_or_the_classifier_thinks(lessons: Lessons) -> None:
    chosen = np.arange(len(lessons.owners))
    found = lessons.targets(chosen).numpy()
    said = lessons.words[lessons.owners]
    for column, concept in enumerate(lessons.found):
        thought = lessons.classes[:, concept["classes"]].sum(1) if concept["classes"] else 0
        assert np.allclose(found[:, column], np.maximum(said[:, column], thought), atol=1e-3)


def test_a_mirrored_picture_has_mirrored_features(data: Path, prepared: Path) -> None:
    plain = Lessons(data, prepared, replace(CONFIG, whole=1.0, worse=0.0))
    chosen = np.arange(16)
    pictures, _, _, teacher, _ = plain.draw(chosen, SIDE, np.random.default_rng(0))
    mirrored = []
    for number, picture, features in zip(chosen, pictures, teacher, strict=True):
        own = torch.from_numpy(np.array(plain.teacher[number])).float()
        turned = torch.equal(features, own[mirrored_places(GRID)])
        assert turned != torch.equal(features, own)
        original = normalised(plain.pixels[number : number + 1].copy())[0]
        likeness = [np.corrcoef(picture.ravel(), each.ravel())[0, 1] for each in (original, original.flip(2))]
        assert likeness[turned] > 0.9 > likeness[not turned]
        mirrored.append(turned)
    assert 3 < sum(mirrored) < 13


def test_bad_video_is_of_the_same_size_and_not_the_same() -> None:
    [pixels] = tiny.pictures(1, size=(64, 64))
    picture = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    rng = np.random.default_rng(0)
    made = [worsened(picture, rng) for _ in range(40)]
    assert all(other.shape == picture.shape and other.dtype == torch.uint8 for other in made)
    changed = [float((other.float() - picture.float()).abs().mean()) for other in made]
    assert 0 < sum(each == 0 for each in changed) < 15, "some stay as they are"
    barred = [other for other in made if not other[:, :, :3].any() or not other[:, :, :, :3].any()]
    assert 3 < len(barred) < 20


def test_the_last_step_is_kept(seen: Path) -> None:
    assert torch.load(seen / "last.ckpt", weights_only=False)["global_step"] == CONFIG.steps


def test_a_run_that_is_done_stays_as_it_is(seen: Path, data: Path, prepared: Path) -> None:
    before = (seen / "last.ckpt").read_bytes()
    assert see.see(data, prepared, seen, CONFIG) == seen / "last.ckpt"
    assert (seen / "last.ckpt").read_bytes() == before


def test_what_is_frozen_stays_as_imagenet_made_it(seen: Path, network: EfficientNetLite) -> None:
    learned = torch.load(seen / "last.ckpt", weights_only=False)["state_dict"]
    changed = {
        name for name, value in network.state_dict().items()
        if not name.startswith("_fc.") and not torch.equal(learned[f"encoder.trunk.{name}"], value)
    }  # fmt: skip
    assert "_conv_head.weight" in changed
    assert {name.split(".")[1] for name in changed if name.startswith("_blocks.")} == {"2", "3", "4", "5", "6"}
    assert not [name for name in changed if "depthwise" in name or "running" in name or "stem" in name]


@pytest.mark.slow
def test_killed_and_started_again_it_is_as_if_never_stopped(
    data: Path, prepared: Path, seen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []

    def draw_some(*arguments: object) -> Lesson:
        drawn.append(arguments)
        if len(drawn) > CONFIG.interval + 1:
            raise RuntimeError("no more")
        return draw(*arguments)  # type: ignore[arg-type]

    draw = Lessons.draw
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="no more"):
        patch.setattr(Lessons, "draw", draw_some)
        see.see(data, prepared, tmp_path, CONFIG)
    assert torch.load(tmp_path / "last.ckpt", weights_only=False)["global_step"] == CONFIG.interval
    see.see(data, prepared, tmp_path, CONFIG)
    whole, resumed = (torch.load(folder / "last.ckpt", weights_only=False) for folder in (seen, tmp_path))
    for part in ("state_dict", "current_model_state"):
        assert all(torch.equal(value, resumed[part][name]) for name, value in whole[part].items())


@torch.inference_mode()
def test_the_encoder_is_a_backbone_with_the_features_that_were_learned(seen: Path, lessons: Lessons) -> None:
    backbone = Backbone(str(seen / "encoder"), grid=GRID)
    assert backbone.resize == {"size": SIDE, "mode": "squash", "filter": "bicubic"}
    assert (backbone.width, backbone.positions) == (CONFIG.width, 1 + GRID**2)
    module = trained(seen, lessons)
    module.encoder.half().float()  # what is saved is rounded
    pixels = np.array(lessons.pixels[:3])
    wanted, found = module.features(normalised(pixels)), backbone(torch.from_numpy(pixels))
    assert torch.allclose(found, wanted, atol=1e-4 * float(wanted.abs().max()))
    assert float(wanted.std(0).min()) > 0


@torch.inference_mode()
def test_the_decoder_is_a_checkpoint_with_its_concepts(seen: Path, prepared: Path, lessons: Lessons) -> None:
    model, description = checkpoint.load(seen / "decoder.ckpt")
    found = json.loads((prepared / "concepts.json").read_text())
    assert description.concepts == [{"name": each["name"], "phrase": each["phrase"]} for each in found]
    assert description.backbone["identity"] == Backbone(str(seen / "encoder"), grid=GRID).identity
    assert description.tokenizer == (prepared / "tokenizer.model").read_bytes()
    assert isinstance(model, Advanced) and model.config.concepts == len(found)
    for tokens, concept in zip(model.concepts.names.tolist(), found, strict=True):
        own = lessons.tokenizer.encode(concept["name"])[:NAME_TOKENS]
        assert tokens == own + [Tokenizer.pad] * (NAME_TOKENS - len(own))
    module, frames = trained(seen, lessons), normalised(load_pixels(prepared)[:2].copy())
    features = module.features(frames)[:, None]
    memory, _ = model.encode(features, torch.ones(2, 1, dtype=torch.bool))
    assert torch.equal(memory["concepts"], module.decoder.concepts(features[:, :, 0]))
    assert (memory["concepts"].std(0) > 0).all(), "they have learned to tell pictures apart"


def test_pictures_grow_in_every_period(data: Path, prepared: Path) -> None:
    config = replace(CONFIG, periods=(2, 4), grow=0.5)
    assert config.steps == 6
    assert [config.period(step) for step in range(7)] == [(0, 2), (1, 2), (0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]
    sides = [lesson.pictures.shape[-1] for lesson in Lessons(data, prepared, config)]
    assert sides == [96, SIDE, 96, 96, SIDE, SIDE]
